"""The sink's loop: gather each topic's records until they are due, insert them as one block, commit what is written."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from chassis import kafka
from chassis.batches import Batch, BatchConsumer
from chassis.clickhouse import SETTING, ClickHouse, StoreUnavailableError
from chassis.kafka import Record, gather
from chassis.results import Ignored, Rejected
from chassis.unit import Unit
from contracts.codec import DecodeError, Decoder
from services.clickhouse_sink.mapping import Flush, Plan
from services.clickhouse_sink.metrics import BATCH_RECORDS, DELAY, RANKING_DELAY, ROWS
from services.clickhouse_sink.settings import SinkSettings
from services.clickhouse_sink.transform import RejectedError, Row, identity, newer, rows_of_each

MAX_POLL_RECORDS = 2000
POLL_S = 0.5
COMMIT_S = 5.0
COMMIT_EVERY_S = 1.0
SUPERSEDED = Ignored("a newer record of the same batch replaces it")


class Stored(NamedTuple):
    """A record that goes into the table, its rows, and its Kafka timestamp in milliseconds."""

    record: Mapping[str, Any]
    rows: Sequence[Row]
    timestamp: int


@dataclass(frozen=True)
class TableWriter:
    """What becomes of one topic's messages: rows of its table, and dead letters of those that do not fit it."""

    unit: Unit
    settings: SinkSettings
    plan: Plan
    decoder: Decoder
    store: ClickHouse
    producer: AIOKafkaProducer

    async def process(self, messages: Sequence[Any]) -> list[Stored | Rejected | Ignored]:
        """The rows of each message, if it is the newest of its identity."""
        decoded = [await self._decoded(message) for message in messages]
        good = [position for position, record in enumerate(decoded) if isinstance(record, dict)]
        results: list[Any] = decoded
        for position, made in zip(good, rows_of_each(self.plan, [decoded[position] for position in good]), strict=True):
            results[position] = (
                Rejected("store_rejected", str(made)[:500])
                if isinstance(made, RejectedError)
                else Stored(decoded[position], made, messages[position].timestamp)
            )
        return newest(self.plan, results)

    async def _decoded(self, message: Any) -> Any:
        """The record of one message, Rejected or Ignored. A tombstone is ignored: nothing here is deleted by key."""
        if message.value is None:
            return Ignored("tombstone")
        try:
            record = await self.decoder.decode(message.value)
        except DecodeError as error:
            return Rejected(error.reason, error.detail)
        if self.plan.of_record:
            record |= {"$partition": message.partition, "$offset": message.offset}
        return record

    async def deliver(self, processed: Sequence[Stored], rejected: Sequence[Record]) -> None:
        """Publish the dead letters and insert the rows as one block; waits for ClickHouse."""
        if rejected:
            await kafka.publish(self.producer, rejected)
        if processed:
            await self._insert(processed)

    async def _insert(self, records: Sequence[Stored]) -> None:
        plan, table = self.plan, self.plan.mapping.table
        block = [row for record in records for row in record.rows]
        await self.unit.retry_until_available(
            "clickhouse",
            self.settings.clickhouse.address,
            SETTING,
            lambda: self.store.insert(table, plan.columns, block),
            StoreUnavailableError,
        )
        now_ms = time.time() * 1000
        metrics, labels = self.unit.metrics, {"topic": plan.topic}
        metrics.observe(DELAY, labels, [(now_ms - record.timestamp) / 1000 for record in records])
        metrics.observe(RANKING_DELAY, labels, behind([record.record for record in records]))
        metrics[BATCH_RECORDS].observe(labels, len(records))
        metrics[ROWS].add({"table": table}, len(block))


def newest(plan: Plan, results: list[Stored | Rejected | Ignored]) -> list[Stored | Rejected | Ignored]:
    """The results with only the newest record of each identity; the others are ignored."""
    positions: dict[tuple[Any, ...], int] = {}
    for position, result in enumerate(results):
        if not isinstance(result, Stored):
            continue
        name = identity(plan, result.record)
        before = results[positions[name]] if name in positions else None
        if not isinstance(before, Stored):
            positions[name] = position
        elif newer(plan, result.record, before.record):
            results[positions[name]] = SUPERSEDED
            positions[name] = position
        else:
            results[position] = SUPERSEDED
    return results


def behind(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """By how many seconds the clock of each provisional set was behind when it was built."""
    return [
        (record["as_of"] - record["watermark"]).total_seconds()
        for record in records
        if record.get("status") == "provisional" and record["watermark"].timestamp() > 0  # 0: no sale has come yet
    ]


class Group(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The sink as a member of its consumer group: the source of its batches."""

    def __init__(self, unit: Unit, settings: SinkSettings) -> None:
        self._unit = unit
        self._settings = settings
        self._committing = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._done: dict[TopicPartition, int] = {}
        self._due_s = 0.0
        self.generation = 0

    def joined(self, consumer: AIOKafkaConsumer) -> None:
        """`consumer` is the member, whose listener this is."""
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """What is not written yet comes again. A commit that runs ends before the group goes on."""
        await self.leave()
        self._next_generation()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """What was fetched since the partitions were revoked comes again, too."""
        self._next_generation()
        partitions = sorted(f"{tp.topic}-{tp.partition}" for tp in assigned)
        self._unit.log.info("assigned", partitions=partitions)

    async def acknowledge(self, batches: Sequence[Batch]) -> None:
        """Have the next commit commit the batches, unless the group was rebalanced since they were fetched."""
        if batches[0].generation == self.generation:
            self._done |= {batch.tp: batch.records[-1].offset + 1 for batch in batches}

    async def commit_if_due(self) -> None:
        """Commit what is acknowledged, at most every COMMIT_EVERY_S seconds; waits for the broker.

        What is not committed when the process is killed is written a second time, which changes nothing in a table.
        """
        if self._done and time.monotonic() >= self._due_s:
            await self._unit.retry_until_available(
                "kafka", self._settings.kafka.bootstrap, kafka.SETTING, self._commit, (TimeoutError, KafkaError)
            )

    async def leave(self) -> None:
        """Commit what is acknowledged, if the broker takes it: others go on with the partitions."""
        try:
            await self._commit()
        except (TimeoutError, KafkaError) as error:  # they write it again
            self._unit.log.warning("commit_failed", error=repr(error))

    async def _commit(self) -> None:
        async with self._committing, asyncio.timeout(COMMIT_S):
            offsets = dict(self._done)
            if not offsets or self._consumer is None:
                return
            try:
                await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                self._unit.log.warning("commit_rejected", error=repr(error))
            self._done = {tp: offset for tp, offset in self._done.items() if offsets.get(tp) != offset}
            self._due_s = time.monotonic() + COMMIT_EVERY_S

    def _next_generation(self) -> None:
        self.generation += 1
        self._done = {}


@dataclass
class Waiting:
    """Batches of one topic that are fetched and not yet due."""

    consumer: BatchConsumer
    flush: Flush
    batches: list[Batch] = field(default_factory=list)
    records: int = 0
    since: float = 0.0

    def add(self, batch: Batch) -> None:
        """One more."""
        self.since = self.since if self.batches else time.monotonic()
        self.batches.append(batch)
        self.records += len(batch.records)

    def due_in(self) -> float | None:
        """Seconds until they must be written (0 or less: now); None where nothing waits."""
        if not self.batches:
            return None
        return 0.0 if self.records >= self.flush.records else self.since + self.flush.seconds - time.monotonic()

    def taken(self) -> list[Batch]:
        """All of them; none waits any more."""
        batches, self.batches, self.records = self.batches, [], 0
        return batches


async def sink(group: Group, consumer: AIOKafkaConsumer, topics: Mapping[str, Waiting]) -> None:
    """Write the topics' records into their tables until cancelled.

    Raises:
        HaltedError: too much of a topic is rejected.
    """
    while True:
        due = [wait for waiting in topics.values() if (wait := waiting.due_in()) is not None]
        timeout_s = max(0.0, min([POLL_S, *due]))
        polled = await consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=MAX_POLL_RECORDS)
        gather(consumer, coming=bool(polled or due))
        for tp, messages in polled.items():
            topics[tp.topic].add(Batch(tp, group.generation, messages))
        for waiting in topics.values():
            wait = waiting.due_in()
            if wait is not None and wait <= 0:
                await waiting.consumer.handle(waiting.taken(), group)
        await group.commit_if_due()
