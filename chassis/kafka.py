"""Kafka clients that lose nothing: idempotent producers, acknowledged batches, consumers that commit by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.partitioner import DefaultPartitioner

from chassis.settings import KafkaSettings

if TYPE_CHECKING:  # commands, which are no units, start a second sooner without
    from chassis.unit import Unit

STOP_S = 0.5
WATCH_INTERVAL_S = 5.0
# the least bytes of a fetch's answer, and for how many milliseconds the broker waits for them
AT_ONCE = (1, 1500)
GATHERED = (128 * 1024, 100)
SETTING = "KAFKA_HOST, KAFKA_PORT"

Client = TypeVar("Client", AIOKafkaProducer, AIOKafkaConsumer)


@dataclass(frozen=True)
class Record:
    """One record to publish: encoded key and value, and headers."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default=())


async def _started(client: Client) -> Client:
    """The client, started; what it opened is closed where that fails."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise
    return client


async def _stopped(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client.

    aiokafka's consumer cancels the task that fetches and waits for its end. Soon after `assign` or a rebalance the task
    is itself cancelling the requests of the former assignment and loses the cancellation (0.14.0), and `stop` would
    wait for ever: so the task is cancelled again. The stop itself is not, for it still has connections to close.
    """
    stopping = asyncio.create_task(client.stop())
    while not (await asyncio.wait([stopping], timeout=STOP_S))[0]:
        if isinstance(client, AIOKafkaConsumer):
            client._fetcher._fetch_task.cancel()
    await stopping


def _producer(name: str, settings: KafkaSettings) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        client_id=name,
        enable_idempotence=True,
        acks="all",
        linger_ms=5,
        max_batch_size=256 * 1024,
        max_request_size=4 * 1024 * 1024,
    )


def _consumer(
    name: str,
    settings: KafkaSettings,
    topics: Sequence[str],
    group: str | None,
    listener: ConsumerRebalanceListener | None = None,
) -> AIOKafkaConsumer:
    client = AIOKafkaConsumer(
        *([] if listener else topics),
        bootstrap_servers=settings.bootstrap,
        client_id=name,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    if listener:
        client.subscribe(topics, listener=listener)
    return client


async def _watch(unit: "Unit", settings: KafkaSettings, client: Client) -> None:
    """Keep asking the broker for its metadata: the unit is not ready while it does not answer."""
    inner = client.client if isinstance(client, AIOKafkaProducer) else client._client
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        answered = False
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_INTERVAL_S):
                answered = await inner.force_metadata_update()
        if answered:
            unit.readiness.met("kafka")
        else:
            why = f"kafka at {settings.bootstrap} (setting {SETTING}) is unreachable: no answer"
            unit.readiness.waiting("kafka", why)
            unit.metrics.connection_failed("kafka")
            unit.log.warning("unreachable", server="kafka", address=settings.bootstrap, setting=SETTING)


@asynccontextmanager
async def _connected(unit: "Unit", settings: KafkaSettings, create: Callable[[], Client]) -> AsyncIterator[Client]:
    """A started client while the context lasts; waits for the broker, and watches that it stays there."""

    async def start() -> Client:
        return await _started(create())

    client = await unit.connect("kafka", settings.bootstrap, SETTING, start, (KafkaConnectionError, OSError))
    watching = asyncio.create_task(_watch(unit, settings, client))
    try:
        yield client
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await _stopped(client)


def producer(unit: "Unit", settings: KafkaSettings) -> AbstractAsyncContextManager[AIOKafkaProducer]:
    """A started producer (idempotent, acks=all) while the context lasts; waits for the broker."""
    return _connected(unit, settings, lambda: _producer(unit.name, settings))


def consumer(
    unit: "Unit",
    settings: KafkaSettings,
    topics: Sequence[str],
    group: str | None,
    listener: ConsumerRebalanceListener | None = None,
) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
    """A started consumer from the earliest offset, without auto-commit, while the context lasts; waits for the broker.

    With `group` None there is no group and no commit: the reader begins at the earliest offset each time. `listener` is
    told of the group's rebalances.
    """
    return _connected(unit, settings, lambda: _consumer(unit.name, settings, topics, group, listener))


def gather(client: AIOKafkaConsumer, *, coming: bool) -> None:
    """Let the broker gather the answer to each fetch while records are `coming`; after a silence it answers at once.

    Fewer and larger batches while there is much, no delay for what comes first, and few fetches while nothing comes.
    """
    fetcher = client._fetcher  # aiokafka has no setting that changes while it runs; each request is made with these
    fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = GATHERED if coming else AT_ONCE


async def publish(client: AIOKafkaProducer, records: Iterable[Record]) -> int:
    """Send all records and return their number once the broker has acknowledged every one of them.

    They go in batches of a partition each, in their order, which takes less than half the CPU of a `send` for each.

    Raises:
        KafkaError: one was not acknowledged; the caller must not go on as if it were.
    """
    count = 0
    choose = DefaultPartitioner()
    partitions: dict[str, list[int]] = {}
    filling: dict[tuple[str, int], Any] = {}
    pending = []

    async def submit(topic: str, partition: int) -> None:
        batch = filling.pop((topic, partition))
        batch.close()
        pending.append(await client.send_batch(batch, topic, partition=partition))

    for record in records:
        count += 1
        topic, key, value, headers = record.topic, record.key, record.value, list(record.headers)
        if topic not in partitions:
            partitions[topic] = sorted(await client.partitions_for(topic))
        partition = choose(key, partitions[topic], partitions[topic])
        target = topic, partition
        if target not in filling:
            filling[target] = client.create_batch()
        if filling[target].append(timestamp=None, key=key, value=value, headers=headers) is None:
            await submit(*target)
            filling[target] = client.create_batch()
            filling[target].append(timestamp=None, key=key, value=value, headers=headers)  # the first always fits
    for target in list(filling):
        await submit(*target)
    for result in await asyncio.gather(*pending, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result if isinstance(result, KafkaError) else KafkaError(repr(result))
    return count


@asynccontextmanager
async def sending(command: str, settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer as above for a command, which does not wait for the broker.

    Raises:
        KafkaConnectionError: the broker is unavailable.
    """
    client = await _started(_producer(command, settings))
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def reading(command: str, settings: KafkaSettings, topics: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of whole topics, without a group, for a command, which does not wait for the broker.

    Raises:
        KafkaConnectionError: the broker is unavailable.
    """
    client = await _started(_consumer(command, settings, topics, None))
    try:
        yield client
    finally:
        await _stopped(client)


async def partitions(client: AIOKafkaConsumer) -> dict[str, list[int]]:
    """The partitions of every topic that the broker has; `client.topics()` knows the names only."""
    cluster = await client._client.fetch_all_metadata()
    return {topic: sorted(cluster.partitions_for_topic(topic)) for topic in cluster.topics()}


async def written(command: str, settings: KafkaSettings, topics: Sequence[str]) -> dict[str, int]:
    """How many records each topic has had, as the ends of its partitions tell; nothing where the broker is down."""
    counts = dict.fromkeys(topics, 0)
    try:
        async with asyncio.timeout(WATCH_INTERVAL_S), reading(command, settings, topics) as client:
            for tp, end in (await client.end_offsets(list(client.assignment()))).items():
                counts[tp.topic] += end
    except (KafkaError, TimeoutError):
        return {}
    return counts


async def messages_to_end(
    client: AIOKafkaConsumer, ends: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Every record from where the consumer stands to `ends`, or to what is the end of its partitions now; then stop."""
    if ends is None:
        ends = await client.end_offsets(list(client.assignment()))
    open_partitions = {tp for tp in ends if await client.position(tp) < ends[tp]}
    while open_partitions:
        for tp, messages in (await client.getmany(*open_partitions, timeout_ms=500)).items():
            for message in messages:
                if message.offset < ends[tp]:
                    yield message
            if await client.position(tp) >= ends[tp]:
                open_partitions.discard(tp)


async def read_to_end(client: AIOKafkaConsumer) -> AsyncIterator[tuple[bytes | None, bytes | None]]:
    """Key and value of every record that is in the consumer's assigned partitions now, then stop."""
    async for message in messages_to_end(client):
        yield message.key, message.value
