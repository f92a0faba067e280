"""The loop: read a poll, decode, wait for a full or old enough batch, insert, and only then commit its offsets."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalGenerationError, KafkaError

from chassis.clickhouse import SETTING, ClickHouse, StoreUnavailableError
from chassis.dead_letters import ATTEMPT_HEADER, dead_letter, is_attempt
from chassis.dead_letters import TOPIC as DEAD_LETTERS
from chassis.kafka import Record, publish
from chassis.results import Rejected
from chassis.unit import Unit
from contracts.codec import DecodeError, Decoder, Encoder
from services.clickhouse_sink.mapping import Plan
from services.clickhouse_sink.metrics import BATCH_RECORDS, DELAY, RANKING_DELAY, ROWS
from services.clickhouse_sink.settings import SinkSettings
from services.clickhouse_sink.transform import RejectedError, Row, identity, newer, rows

T = TypeVar("T")

MAX_POLL_RECORDS = 2000
IDLE_S = 5.0  # without records for so long, ask the broker whether it is still there
KAFKA_ANSWER_S = 5.0


@dataclass
class Batch:
    """Records of one topic that are read and not yet written: the newest per identity, and the offsets after them.

    `behind_s` holds by how much the clock of each provisional set was behind when the set was built.
    """

    plan: Plan
    decoder: Decoder
    newest: dict[tuple[Any, ...], tuple[dict[str, Any], list[Row]]] = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    timestamps: list[int] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)
    since: float | None = None

    def due_in(self, now: float) -> float | None:
        """Seconds until it must be written (0 or less: now); None while nothing waits."""
        if self.since is None:
            return None
        flush = self.plan.mapping.flush
        return 0.0 if len(self.timestamps) >= flush.records else self.since + flush.seconds - now


@dataclass(frozen=True)
class Sink:
    """What the loop works with, and the servers that it insists on."""

    unit: Unit
    settings: SinkSettings
    store: ClickHouse
    producer: AIOKafkaProducer
    encode_dead_letter: Encoder

    async def retry_until_available(
        self, server: str, attempt: Callable[[], Awaitable[T]], retry_on: tuple[type[BaseException], ...]
    ) -> T:
        """The attempt's result; when the server is down, again with backoff until it is back, not ready meanwhile."""
        address, setting = {
            "clickhouse": (self.settings.clickhouse.address, SETTING),
            "kafka": (self.settings.kafka.bootstrap, "KAFKA_HOST, KAFKA_PORT"),
        }[server]
        try:
            return await attempt()
        except retry_on:
            return await self.unit.connect(server, address, setting, attempt, retry_on)


def _attempt(message: ConsumerRecord) -> int:
    """Which attempt a replayed record is: its header, 1 without one."""
    value = dict(message.headers).get(ATTEMPT_HEADER, b"1")
    return int(value) if value is not None and is_attempt(value) else 1


async def _take(sink: Sink, batch: Batch, message: ConsumerRecord) -> Rejected | Literal["waiting", "ignored"]:
    """Put one record into the batch, or say why it cannot be used. Of two of one identity, one counts as ignored."""
    if message.value is None:
        return "ignored"  # a tombstone: nothing here is deleted by key
    try:
        record = await batch.decoder.decode(message.value)
        record |= {"$partition": message.partition, "$offset": message.offset}
        made = rows(batch.plan, record)
    except DecodeError as error:
        return Rejected(error.reason, error.detail)
    except RejectedError as error:
        return Rejected("store_rejected", str(error)[:500])
    name = identity(batch.plan, record)
    held = batch.newest.get(name)
    if held is None or newer(batch.plan, record, held[0]):
        batch.newest[name] = (record, made)
    batch.timestamps.append(message.timestamp)
    if record.get("status") == "provisional" and record["watermark"].timestamp() > 0:  # 0: no sale has come yet
        batch.behind_s.append((record["as_of"] - record["watermark"]).total_seconds())
    return "waiting" if held is None else "ignored"


async def _read(sink: Sink, batch: Batch, messages: Sequence[ConsumerRecord]) -> None:
    """Put a partition's records into the batch; the rest are acknowledged dead letters when this returns."""
    rejected: list[Record] = []
    ignored = 0
    topic, metrics, held = batch.plan.topic, sink.unit.metrics, len(batch.newest)
    metrics.record(topic, "received", len(messages))
    metrics.in_flight(topic, len(messages))
    for message in messages:
        rejection = await _take(sink, batch, message)
        ignored += rejection == "ignored"
        if not isinstance(rejection, Rejected):
            continue
        place = {"partition": message.partition, "offset": message.offset}
        sink.unit.log.warning("record_rejected", topic=topic, **place, reason=rejection.reason, detail=rejection.detail)
        if topic == DEAD_LETTERS:
            ignored += 1
            continue  # a dead letter about a dead letter would never end
        letter = dead_letter(
            sink.encode_dead_letter,
            sink.unit.name,
            rejection,
            topic=topic,
            key=message.key,
            value=message.value,
            attempt=_attempt(message),
            **place,
        )
        rejected.append(letter)
        metrics.dead_letter(topic, rejection.reason)
    if rejected:
        await publish(sink.producer, rejected)
        metrics.record(topic, "dead_letter", len(rejected))
    metrics.record(topic, "ignored", ignored)
    metrics.in_flight(topic, len(batch.newest) - held - len(messages))
    last = messages[-1]
    batch.offsets[TopicPartition(topic, last.partition)] = last.offset + 1
    batch.since = batch.since if batch.since is not None else time.monotonic()


async def _write(sink: Sink, batch: Batch) -> dict[TopicPartition, int]:
    """Insert the batch as one block, empty it, and return the offsets that may now be committed."""
    block = [row for _, made in batch.newest.values() for row in made]
    table = batch.plan.mapping.table
    if block:
        await sink.retry_until_available(
            "clickhouse", lambda: sink.store.insert(table, batch.plan.columns, block), (StoreUnavailableError,)
        )
        now_ms = time.time() * 1000
        metrics, labels = sink.unit.metrics, {"topic": batch.plan.topic}
        metrics.observe(DELAY, labels, [(now_ms - timestamp) / 1000 for timestamp in batch.timestamps])
        metrics.observe(RANKING_DELAY, labels, batch.behind_s)
        metrics[BATCH_RECORDS].observe(labels, len(batch.timestamps))
        metrics[ROWS].add({"table": table}, len(block))
        metrics.record(batch.plan.topic, "published", len(batch.newest))
        metrics.in_flight(batch.plan.topic, -len(batch.newest))
    offsets = batch.offsets
    batch.newest, batch.offsets, batch.timestamps, batch.behind_s, batch.since = {}, {}, [], [], None
    return offsets


async def _commit(sink: Sink, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
    """Commit, unless the group was rebalanced meanwhile: then the records come again, which the tables do not mind."""

    async def commit() -> None:
        try:
            async with asyncio.timeout(KAFKA_ANSWER_S):
                await consumer.commit(offsets)
        except (CommitFailedError, IllegalGenerationError) as error:
            sink.unit.log.warning("commit_rejected", error=repr(error))

    await sink.retry_until_available("kafka", commit, (TimeoutError, KafkaError))


async def carry(sink: Sink, consumer: AIOKafkaConsumer, batches: Iterable[Batch]) -> None:
    """Carry records from the topics into the tables until cancelled."""
    by_topic = {batch.plan.topic: batch for batch in batches}
    heard = time.monotonic()
    while True:
        waits = [wait for batch in by_topic.values() if (wait := batch.due_in(time.monotonic())) is not None]
        patience = max(0, min(waits, default=0.5))
        polled = await consumer.getmany(timeout_ms=int(min(patience, 0.5) * 1000), max_records=MAX_POLL_RECORDS)
        for place, messages in polled.items():
            await _read(sink, by_topic[place.topic], messages)
        now = time.monotonic()
        due = [batch for batch in by_topic.values() if (wait := batch.due_in(now)) is not None and wait <= 0]
        offsets: dict[TopicPartition, int] = {}
        for batch in due:
            offsets |= await _write(sink, batch)
        if offsets:
            await _commit(sink, consumer, offsets)
        if polled:
            heard = now
        elif now - heard >= IDLE_S:
            await sink.retry_until_available("kafka", lambda: _ask(consumer), (TimeoutError, KafkaError))
            heard = time.monotonic()


async def _ask(consumer: AIOKafkaConsumer) -> None:
    """A metadata request: raises when no broker answers."""
    async with asyncio.timeout(KAFKA_ANSWER_S):
        await consumer.topics()
