"""The agents' Kafka transport against a real broker: offsets without records, transactions, rebalances, flow control.

Each test has topics of its own and an agent that publishes the bytes it reads.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord

from chassis import logs, stream
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.results import Output
from chassis.stream import COMMIT_INTERVAL_S, QUEUED_FETCHES, Agent, Codecs
from chassis.unit import Unit
from contracts.codec import Decoder
from tests.connected.streams import Servers, unique, until
from tests.connected.unit_process import UnitProcess, unit_process

PARTITIONS = 2
BATCH = 100


@dataclass
class Gate:
    """Stands for the decoder: lets records pass while it is open, and counts the records that reached it."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    decodes: int = 0

    async def decode(self, payload: bytes) -> dict[str, Any]:
        """The payload as a record with the times that every sale has, once the gate is open."""
        self.decodes += 1
        await self.open.wait()
        now = datetime.now(UTC)
        return {"payload": payload, "event_time": now, "ingestion_time": now}


class Line:
    """A raw topic, an output topic, and workers of one group between them."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.raw, self.out, self.group = (unique(name) for name in ("raw", "out", "group"))
        self.gate = Gate()
        self.gate.open.set()

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Unit]:
        """A worker in this process, cancelled at the end; it must not have ended by itself."""
        agent = Agent(self.raw, self.out, lambda record, _: Output(b"", record))
        codecs = Codecs(cast(Decoder, self.gate), lambda record: bytes(record["payload"]), lambda _: b"")
        unit = Unit(self.group, logs.configure(self.group, "warning"), Metrics(self.group), Readiness())
        unit.readiness.met("start")
        unit.readiness.waiting("partitions", "not begun")
        settings = self.servers.settings(batch_max=BATCH)
        work = asyncio.create_task(stream.work(unit, settings, agent, codecs))
        try:
            yield unit
            assert not work.done(), work.exception()
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await work

    def idle_worker(self, log: Path) -> AbstractAsyncContextManager[UnitProcess]:
        """A worker that finishes no record, in a process of its own."""
        options = {"GROUP": self.group, "RAW": self.raw, "OUT": self.out}
        environment = {f"IDLE_WORKER_{name}": value for name, value in options.items()}
        return unit_process("tests.connected.idle_worker", {**self.servers.environment, **environment}, log)

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        """A producer."""
        client = AIOKafkaProducer(bootstrap_servers=self.servers.kafka.bootstrap, **options)
        await client.start()
        try:
            yield client
        finally:
            await client.stop()

    async def feed(self, payloads: Sequence[bytes]) -> None:
        """Write the payloads, evenly over the partitions."""
        async with self.producer() as client:
            for number, payload in enumerate(payloads):
                await client.send(self.raw, payload, key=payload, partition=number % PARTITIONS)

    async def records(self, topic: str) -> list[Any]:
        """Every committed record that is in the topic, partition by partition."""
        client = AIOKafkaConsumer(
            bootstrap_servers=self.servers.kafka.bootstrap,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        await client.start()
        try:
            client.assign([TopicPartition(topic, number) for number in range(PARTITIONS if topic == self.raw else 1)])
            ends = await client.end_offsets(list(client.assignment()))
            records: list[Any] = []
            for tp, end in ends.items():
                while await client.position(tp) < end:
                    records += (await client.getmany(tp, timeout_ms=200)).get(tp, [])
            return records
        finally:
            await client.stop()

    async def until_published(self, wanted: Collection[bytes]) -> list[bytes]:
        """Wait until every wanted record has been published; what has been, in order, with repetitions."""
        published: list[bytes] = []

        async def complete() -> bool:
            published[:] = [record.value for record in await self.records(self.out)]
            return set(wanted) <= set(published)

        await until(complete, f"all of {len(wanted)} records are published")
        return published

    async def until_committed(self, deadline_s: float = 20) -> None:
        """Wait until the committed offsets are behind the last record of each partition."""
        wanted = {(self.raw, record.partition): record.offset + 1 for record in await self.records(self.raw)}

        async def complete() -> bool:
            return await self.servers.committed(self.group) == wanted

        await until(complete, f"{wanted} is committed", deadline_s)


# compacted soon: a new segment for a write that comes a millisecond later, and any of it is dirty
COMPACTED = {"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.0"}


@pytest_asyncio.fixture
async def line(servers: Mapping[str, str], request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    """Topics of the test's own, the raw one configured as the test asks; removed at the end."""
    made = Line(Servers(servers))
    admin = AIOKafkaAdminClient(bootstrap_servers=made.servers.kafka.bootstrap)
    await admin.start()
    try:
        raw = NewTopic(made.raw, PARTITIONS, 1, topic_configs=getattr(request, "param", {}))
        await admin.create_topics([raw, NewTopic(made.out, 1, 1)])
        yield made
        await admin.delete_topics([made.raw, made.out])
    finally:
        await admin.close()


async def until_ready(unit: Unit) -> None:
    """Wait until the worker has its share of the partitions."""

    async def ready() -> bool:
        return not unit.readiness.missing

    await until(ready, "the worker has partitions")


def numbered(count: int, prefix: str = "n") -> list[bytes]:
    """Payloads that tell one another apart."""
    return [f"{prefix}{number}".encode() for number in range(count)]


@pytest.mark.parametrize("line", [COMPACTED], indirect=True)
async def test_compacted_topic(line: Line) -> None:
    """What compaction left is published once, and the committed offset passes the offsets that it emptied."""
    async with line.producer() as client:
        for number in range(300):
            key = b"again" if number % 10 else b"key %d" % number
            await client.send_and_wait(line.raw, b"v%d" % number, key=key, partition=0)

    async def compacted() -> bool:
        return len(await line.records(line.raw)) < 100

    await until(compacted, "the broker has compacted the topic")
    left = [record.value for record in await line.records(line.raw)]
    async with line.worker():
        assert await line.until_published(left) == left
        await line.until_committed()


async def test_transactions(line: Line) -> None:
    """Committed records are published once, aborted ones never, and commits pass the offsets that nobody reads."""
    wanted = []
    async with line.producer(transactional_id=unique("writer")) as client:
        for number in range(120):
            payloads = numbered(1 + number % 3, f"t{number}-")
            keep = number % 4 == 0  # three in a row are aborted, from the second on
            await client.begin_transaction()
            for payload in payloads:
                await client.send_and_wait(line.raw, payload, key=payload, partition=0)
            await (client.commit_transaction() if keep else client.abort_transaction())
            wanted += payloads if keep else []
    async with line.worker():
        assert await line.until_published(wanted) == wanted
        await line.until_committed()
    async with line.worker():
        await line.feed([b"last"])
        assert await line.until_published([b"last"]) == [*wanted, b"last"]


async def test_slow_agent(line: Line) -> None:
    """An agent that stands still holds a few fetches, however much there is; then all comes, once and in order."""
    wanted = numbered(20_000)
    await line.feed(wanted)
    line.gate.open.clear()
    async with line.worker():
        held = [0, 0.0]

        def in_memory() -> int:
            return sum(type(one) is ConsumerRecord for one in gc.get_objects())

        async def settled() -> bool:
            now, count = asyncio.get_running_loop().time(), in_memory()
            if count != held[0]:
                held[:] = [count, now]
            return count > 0 and now - held[1] > 1.5

        await until(settled, "nothing more is fetched")
        assert held[0] <= (QUEUED_FETCHES + 2) * BATCH
        line.gate.open.set()
        published = await line.until_published(wanted)
        assert Counter(published).most_common(1)[0][1] == 1
        for partition in range(PARTITIONS):
            mine = set(wanted[partition::PARTITIONS])
            assert [value for value in published if value in mine] == wanted[partition::PARTITIONS]
        await line.until_committed()


async def test_slow_first_record(line: Line) -> None:
    """While the first record of a batch is not done, none after it is committed, and a stop then loses none."""
    wanted = numbered(1000)
    await line.feed(wanted)
    line.gate.open.clear()
    async with line.worker():

        async def decoding() -> bool:
            return line.gate.decodes > 0

        await until(decoding, "the first record is being worked on")
        end = asyncio.get_running_loop().time() + 3 * COMMIT_INTERVAL_S

        async def several_commits_later() -> bool:
            assert await line.servers.committed(line.group) == {}
            return asyncio.get_running_loop().time() > end

        await until(several_commits_later, "there was time for several commits")
    assert await line.servers.committed(line.group) == {}
    line.gate.open.set()
    async with line.worker():
        await line.until_published(wanted)
        await line.until_committed()


async def test_rebalance_of_a_fresh_group(line: Line, tmp_path: Path) -> None:
    """A group that has committed nothing is rebalanced while its first batch is in flight: no record is missed."""
    wanted = numbered(5000)
    await line.feed(wanted)
    line.gate.open.clear()
    async with line.worker():

        async def decoding() -> bool:
            return line.gate.decodes > 0

        await until(decoding, "a batch is in flight")
        async with line.idle_worker(tmp_path / "log") as second:
            await until(second.ready, "the second worker has its share of the partitions")
        line.gate.open.set()
        await line.until_published(wanted)
        await line.until_committed()


async def test_topic_that_is_not_known_at_first(line: Line) -> None:
    """A group that was given no partitions, because the broker did not know its topic, has them seconds later.

    So it is after kill -9 of the broker, when the group's leader asks while the topics are still being loaded.
    """
    line.raw = unique("late")
    async with line.worker() as worker:
        await until_ready(worker)
        admin = AIOKafkaAdminClient(bootstrap_servers=line.servers.kafka.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(line.raw, PARTITIONS, 1)])
        finally:
            await admin.close()
        wanted = numbered(10)
        await line.feed(wanted)
        await line.until_published(wanted)
        await line.until_committed()
