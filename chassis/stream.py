"""The Faust agent pattern: a batch in, its outputs and dead letters acknowledged by the broker, then the inputs.

Why the agent empties its channel itself instead of iterating the stream: in faust-streaming 0.15 a stream acknowledges
what it skips in a rebalance, and `take`, `noack_take` and `events` stand on that iteration. Here a record of an earlier
group generation is dropped without acknowledgement (the transport seeks back to the committed offset and it comes
again), and offsets are acknowledged in order, after the outputs, so that the committed offset never passes an
unprocessed record. The channel holds whole batches of records (chassis/faust_transport.py).
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import faust
from aiokafka import AIOKafkaProducer
from faust.contrib.asgi import faust_app_running
from mode.supervisors import CrashingSupervisor
from pydantic import Field

from chassis import dead_letters, kafka
from chassis.datasets import Datasets, derived, topic_dataset
from chassis.faust_transport import Batch, Consumer, NoTables, Transport
from chassis.kafka import Record
from chassis.metrics import LEDGER, Metric, Outcome
from chassis.registry import Registry
from chassis.results import Context, Ignored, Output, Rejected, Result, Transform
from chassis.settings import KafkaSettings, RegistrySettings, UnitSettings
from chassis.unit import Unit
from contracts.codec import DecodeError, Decoder, Encoder
from contracts.time import EPOCH, at_ms

STOP_TIMEOUT_S = 8.0  # only a broker that is unavailable makes a stop take long
COMMIT_INTERVAL_S = 1.0
HEARTBEAT_S = 1.0  # how soon a worker notices that another came or went
METADATA_S = 5.0  # a broker that comes back may not know its topics at once; then the group has no partitions so long
QUEUED_FETCHES = 4  # fetched and not yet taken by the agent
SESSION_TIMEOUT_S = 10.0  # after this long without a heartbeat a dead worker's partitions go to another
WATERMARK_DELAY = timedelta(seconds=5)  # as in the ranking job: a source may be so much out of order

BATCH_SECONDS = Metric(
    "placar_batch_seconds",
    "histogram",
    "seconds",
    "Decode to acknowledgement of a batch",
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
    after="the first batch",
)
BATCH_RECORDS = Metric(
    "placar_batch_records",
    "histogram",
    "records",
    "Records acknowledged together",
    buckets=(1, 10, 100, 250, 500, 1000, 2000),
    after="the first batch",
)
SOURCE_DELAY = Metric(
    "placar_source_delay_seconds",
    "histogram",
    "seconds",
    "From the source to the acknowledged record of sales.unified: since the commit in Postgres, the upload of the "
    "file, or the call that fetched the sale",
    ("topic",),
    (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0, 3600.0, 86400.0),
    after="the first published sale",
)
WATERMARK = Metric(
    "placar_source_watermark_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "The source's watermark: the newest event time, at most its ingestion time, less 5 s",
    ("topic",),
    after="the first published sale",
)
METRICS = (*LEDGER, BATCH_SECONDS, BATCH_RECORDS, SOURCE_DELAY, WATERMARK)


class StreamSettings(UnitSettings):
    """What every streams unit has."""

    batch_max: Annotated[int, Field(ge=1, le=10_000)] = 1000
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)


OUTCOMES: Mapping[type, Outcome] = {Output: "published", Rejected: "dead_letter", Ignored: "ignored"}


@dataclass(frozen=True)
class Agent:
    """What a streams unit is: what it consumes, what it publishes, and the pure function between.

    `columns` tells, for lineage, the consumed fields that each published one is made from.
    """

    consumes: str
    publishes: str
    transform: Transform
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def datasets(self, settings: StreamSettings) -> Datasets:
        """Lineage: the consumed topic to the published topic and the dead letters."""
        consumed = topic_dataset(settings.kafka, self.consumes)
        published = topic_dataset(settings.kafka, self.publishes)
        return Datasets(
            inputs=[consumed],
            outputs=[
                derived(published, consumed, self.columns, "TRANSFORMATION"),
                topic_dataset(settings.kafka, dead_letters.TOPIC),
            ],
            counted={
                self.publishes: [(self.consumes, "published")],
                dead_letters.TOPIC: [(self.consumes, "dead_letter")],
            },
        )


@dataclass(frozen=True)
class Codecs:
    """Reads the consumed topic, writes the published ones."""

    decoder: Decoder
    encode: Encoder
    encode_dead_letter: Encoder


def attempt_of(headers: Any) -> int:
    """How often the record was tried, from the header that a replay sets; 1 without it or where it is unreadable."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in pairs:
        if name == dead_letters.ATTEMPT_HEADER and value is not None and dead_letters.is_attempt(bytes(value)):
            return int(value)
    return 1


def written_at(timestamp_ms: int | None, now: datetime) -> datetime:
    """The record's Kafka timestamp, or `now` where it has none or an impossible one."""
    if timestamp_ms is None or timestamp_ms < 0:
        return now
    try:
        return at_ms(timestamp_ms)
    except OverflowError:
        return now


async def process(agent: Agent, codecs: Codecs, unit: str, message: Any) -> tuple[Record | None, Result]:
    """What becomes of one raw Kafka message: the record to publish unless it is ignored, and what it is made from."""
    if message.value is None:
        return None, Ignored("tombstone")
    now = datetime.now(UTC)
    try:
        record = await codecs.decoder.decode(message.value)
    except DecodeError as error:
        result: Result = Rejected(error.reason, error.detail)
    else:
        result = agent.transform(record, Context(now, written_at(message.timestamp, now)))
    if isinstance(result, Output):
        return Record(agent.publishes, result.key, codecs.encode(result.value)), result
    if isinstance(result, Ignored):
        return None, result
    letter = dead_letters.dead_letter(
        codecs.encode_dead_letter,
        unit,
        result,
        topic=message.topic,
        key=message.key,
        value=message.value,
        partition=message.partition,
        offset=message.offset,
        attempt=attempt_of(message.headers),
    )
    return letter, result


async def next_batches(queue: Any, enough: int) -> list[Batch]:
    """At least one batch, and of what else is there already until they hold `enough` records together."""
    batches: list[Batch] = [await queue.get()]
    count = len(batches[0].records)
    while count < enough and not queue.empty():
        batches.append(queue.get_nowait())
        count += len(batches[-1].records)
    return batches


class _Worker:
    """One unit's loop over batches."""

    def __init__(self, unit: Unit, settings: StreamSettings, agent: Agent, codecs: Codecs) -> None:
        self._unit = unit
        self._settings = settings
        self._agent = agent
        self._codecs = codecs
        self._watermark = EPOCH

    async def handle(
        self, batches: Sequence[Batch], client: AIOKafkaProducer, acknowledge: Callable[[Batch], None]
    ) -> None:
        """Process the records, publish what they become, then acknowledge them."""
        begun = time.perf_counter()
        topic, metrics = self._agent.consumes, self._unit.metrics
        count = sum(len(batch.records) for batch in batches)
        metrics.record(topic, "received", count)
        metrics.in_flight(topic, count)
        results, records = [], []
        for batch in batches:
            for message in batch.records:
                record, result = await process(self._agent, self._codecs, self._unit.name, message)
                results.append(result)
                if record is not None:
                    records.append(record)
        await kafka.publish(client, records)
        for batch in batches:
            acknowledge(batch)
        self._account(results)
        metrics.in_flight(topic, -count)
        metrics[BATCH_SECONDS].observe({}, time.perf_counter() - begun)
        metrics[BATCH_RECORDS].observe({}, count)

    def _account(self, results: Sequence[Result]) -> None:
        """Enter what became of a batch."""
        topic, metrics = self._agent.consumes, self._unit.metrics
        for kind, count in Counter(map(type, results)).items():
            metrics.record(topic, OUTCOMES[kind], count)
        for result in results:
            if isinstance(result, Rejected):
                metrics.dead_letter(topic, result.reason)
        published = [result for result in results if isinstance(result, Output)]
        if not published:
            return
        now_ms = time.time() * 1000
        labels = {"topic": topic}
        metrics.observe(SOURCE_DELAY, labels, [(now_ms - result.at_source_ms) / 1000 for result in published])
        newest = max(min(result.value["event_time"], result.value["ingestion_time"]) for result in published)
        self._watermark = max(self._watermark, newest - WATERMARK_DELAY)
        metrics[WATERMARK].set(labels, self._watermark.timestamp())

    def faust_app(self, client: AIOKafkaProducer, folder: str) -> Any:
        """The Faust application: one raw topic, one agent that runs alone and whose crash is the application's."""
        unit, settings = self._unit, self._settings
        fetch = -(-settings.batch_max // 2)  # less than this and one more fetch are no more than a batch
        app = faust.App(
            unit.name,
            broker=f"kafka://{settings.kafka.bootstrap}",
            broker_commit_interval=COMMIT_INTERVAL_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            broker_max_poll_records=fetch,
            broker_session_timeout=SESSION_TIMEOUT_S,
            consumer_auto_offset_reset="earliest",
            consumer_metadata_max_age_ms=int(METADATA_S * 1000),
            datadir=folder,
            stream_buffer_maxsize=QUEUED_FETCHES,
            stream_recovery_delay=0.0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            TableManager=NoTables,
            web_enabled=False,
        )
        app.transport = Transport(app.conf.broker_consumer, app)
        topic = app.topic(
            self._agent.consumes, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )

        @app.agent(topic, name=unit.name, concurrency=1, supervisor_strategy=CrashingSupervisor)
        async def consume(stream: Any) -> None:
            queue = stream.channel.queue
            while True:
                try:
                    batches = await next_batches(queue, fetch)
                except StopAsyncIteration:  # Faust stops the agent
                    return
                current = [batch for batch in batches if batch.generation == app.consumer_generation_id]
                if current:
                    await self.handle(current, client, cast(Consumer, app.consumer).acknowledge)

        @app.on_partitions_assigned.connect(weak=False)
        async def assigned(_: Any, assigned: Any, **__: Any) -> None:
            unit.readiness.met("partitions")
            unit.log.info("assigned", topic=self._agent.consumes, partitions=sorted(tp.partition for tp in assigned))

        @app.on_partitions_revoked.connect(weak=False)
        async def revoked(_: Any, revoked: Any, **__: Any) -> None:
            unit.readiness.waiting("partitions", f"the group {unit.name} is being rebalanced")

        return app


async def run(unit: Unit, settings: StreamSettings, agent: Agent) -> None:
    """Run the agent with the codecs of its contracts; see `work`.

    Raises:
        ContractError: the registry does not hold the contract of a published topic.
        Exception: whatever stopped the agent.
    """
    registry = Registry(unit, settings.registry)
    codecs = Codecs(
        registry.decoder(agent.consumes),
        await registry.encoder(agent.publishes),
        await registry.encoder(dead_letters.TOPIC),
    )
    await work(unit, settings, agent, codecs)


async def work(unit: Unit, settings: StreamSettings, agent: Agent, codecs: Codecs) -> None:
    """Run the agent until it is cancelled; ready while it holds its share of the topic's partitions.

    Raises:
        Exception: whatever stopped the agent (the broker away for too long); the offsets stay where they were.
    """
    unit.readiness.waiting("partitions", f"waiting for partitions of {agent.consumes}")
    worker = _Worker(unit, settings, agent, codecs)
    with tempfile.TemporaryDirectory(prefix=f"placar-{unit.name}-") as folder:
        async with kafka.producer(unit, settings.kafka) as client:
            app = worker.faust_app(client, folder)
            async with faust_app_running(app, stop_timeout=STOP_TIMEOUT_S):
                await app.wait_for_stopped(asyncio.Event())
                raise app.crash_reason or RuntimeError("Faust stopped by itself")
