"""A streams service: a Faust agent that turns the records of a raw topic into those of a published one.

Why the agent empties its channel itself instead of iterating the stream: in faust-streaming 0.15 a stream acknowledges
what it skips in a rebalance, and `take`, `noack_take` and `events` stand on that iteration. Here the agent takes whole
batches from its channel (chassis/faust_transport.py), and what becomes of them is the rules of chassis/batches.py.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, cast

import faust
from aiokafka import AIOKafkaProducer
from faust.contrib.asgi import faust_app_running
from mode.supervisors import CrashingSupervisor
from pydantic import Field

from chassis import batches, dead_letters, kafka
from chassis.batches import Batch, BatchConsumer
from chassis.datasets import Datasets, derived, topic_dataset
from chassis.errors import HaltedError
from chassis.faust_transport import Consumer, NoTables, Transport
from chassis.kafka import Record
from chassis.metrics import Metric
from chassis.registry import Registry
from chassis.rejections import RejectionSettings
from chassis.results import Context, Ignored, Output, Rejected, Result, Transform
from chassis.settings import KafkaSettings, RegistrySettings, UnitSettings
from chassis.unit import Unit, run_unit
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
METRICS = (*batches.METRICS, BATCH_SECONDS, BATCH_RECORDS, SOURCE_DELAY, WATERMARK)


class StreamSettings(UnitSettings):
    """What every streams unit has."""

    batch_max: Annotated[int, Field(ge=1, le=10_000)] = 1000
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    rejections: RejectionSettings = Field(default_factory=RejectionSettings)


S = TypeVar("S", bound=StreamSettings)


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


def written_at(timestamp_ms: int | None, now: datetime) -> datetime:
    """The record's Kafka timestamp, or `now` where it has none or an impossible one."""
    if timestamp_ms is None or timestamp_ms < 0:
        return now
    try:
        return at_ms(timestamp_ms)
    except OverflowError:
        return now


async def process(agent: Agent, decoder: Decoder, message: Any, now: datetime) -> Result:
    """What one raw Kafka message becomes."""
    if message.value is None:
        return Ignored("tombstone")
    try:
        record = await decoder.decode(message.value)
    except DecodeError as error:
        return Rejected(error.reason, error.detail)
    return agent.transform(record, Context(now, written_at(message.timestamp, now)))


async def next_batches(queue: Any, enough: int) -> list[Batch]:
    """At least one batch, and of what else is there already until they hold `enough` records together."""
    taken: list[Batch] = [await queue.get()]
    count = len(taken[0].records)
    while count < enough and not queue.empty():
        taken.append(queue.get_nowait())
        count += len(taken[-1].records)
    return taken


class Worker:
    """One service's agent: what it makes of messages, how it publishes that, and the Faust application around it."""

    def __init__(
        self, unit: Unit, settings: StreamSettings, agent: Agent, codecs: Codecs, client: AIOKafkaProducer
    ) -> None:
        self._unit = unit
        self._settings = settings
        self._agent = agent
        self._codecs = codecs
        self._client = client
        self._watermark = EPOCH
        self.consumer = BatchConsumer(unit, agent.consumes, self, settings.rejections, codecs.encode_dead_letter)
        self.halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def process(self, messages: Sequence[Any]) -> list[Result]:
        """What each message becomes."""
        now = datetime.now(UTC)
        return [await process(self._agent, self._codecs.decoder, message, now) for message in messages]

    async def deliver(self, processed: Sequence[Output], rejected: Sequence[Record]) -> None:
        """Publish what the messages became, and await the broker's acknowledgement of all of it."""
        topic, encode = self._agent.publishes, self._codecs.encode
        outputs = [*processed, *(more for output in processed for more in output.also)]
        published = [Record(topic, output.key, encode(output.value)) for output in outputs]
        await kafka.publish(self._client, [*published, *rejected])
        if processed:
            self.observe(processed)

    def observe(self, outputs: Sequence[Output]) -> None:
        """Enter how long ago their sources had the published records, and how far the source has come."""
        metrics, labels = self._unit.metrics, {"topic": self._agent.consumes}
        now_ms = time.time() * 1000
        metrics.observe(SOURCE_DELAY, labels, [(now_ms - output.at_source_ms) / 1000 for output in outputs])
        newest = max(min(output.value["event_time"], output.value["ingestion_time"]) for output in outputs)
        self._watermark = max(self._watermark, newest - WATERMARK_DELAY)
        metrics[WATERMARK].set(labels, self._watermark.timestamp())

    async def consume(self, queue: Any, source: batches.Source) -> None:
        """Handle what comes through the queue until Faust ends it; `halted` says if too much was rejected."""
        metrics = self._unit.metrics
        while True:
            try:
                taken = await next_batches(queue, self._fetch)
            except StopAsyncIteration:  # Faust stops the agent
                return
            begun = time.perf_counter()
            try:
                count = await self.consumer.handle(taken, source)
            except HaltedError as error:
                self.halted.set_exception(error)
                await asyncio.Event().wait()  # until the application is stopped, as with any batch in flight
            if count:
                metrics[BATCH_SECONDS].observe({}, time.perf_counter() - begun)
                metrics[BATCH_RECORDS].observe({}, count)

    @property
    def _fetch(self) -> int:
        return -(-self._settings.batch_max // 2)  # less than this and one more fetch are no more than a batch

    def faust_app(self, folder: str) -> Any:
        """The Faust application: one raw topic, one agent that runs alone and whose crash is the application's."""
        unit, settings = self._unit, self._settings
        app = faust.App(
            unit.name,
            broker=f"kafka://{settings.kafka.bootstrap}",
            broker_commit_interval=COMMIT_INTERVAL_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            broker_max_poll_records=self._fetch,
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
            await self.consume(stream.channel.queue, cast(Consumer, app.consumer))

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
        HaltedError: too much of the topic is rejected.
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
        HaltedError: too much of the topic is rejected.
        Exception: whatever else stopped the agent (no broker for too long); the offsets stay where they were.
    """
    unit.readiness.waiting("partitions", f"waiting for partitions of {agent.consumes}")
    with tempfile.TemporaryDirectory(prefix=f"placar-{unit.name}-") as folder:
        async with kafka.producer(unit, settings.kafka) as client:
            worker = Worker(unit, settings, agent, codecs, client)
            app = worker.faust_app(folder)
            reason: BaseException | None = None
            try:
                async with faust_app_running(app, stop_timeout=STOP_TIMEOUT_S):
                    reason = await _stopped_by(app, worker)
                    raise reason
            except asyncio.CancelledError:
                if reason is None:
                    raise
                raise reason from None  # a crash ends Faust's thread, and with it the commits of the stop


async def _stopped_by(app: Any, worker: Worker) -> BaseException:
    """Wait until Faust or the agent has stopped; why."""
    stopped = asyncio.create_task(app.wait_for_stopped(asyncio.Event()))
    try:
        await asyncio.wait({stopped, worker.halted}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    halted = worker.halted.exception() if worker.halted.done() else None
    return halted or app.crash_reason or RuntimeError("Faust stopped by itself")


def run_stream(name: str, settings_type: type[S], agent: Callable[[S], Agent]) -> None:
    """Run a streams service as a process: see `run` and `chassis.unit.run_unit`."""
    run_unit(
        name,
        settings_type,
        lambda unit, settings: run(unit, settings, agent(settings)),
        lambda settings: agent(settings).datasets(settings),
        METRICS,
    )
