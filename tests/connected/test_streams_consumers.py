"""Both kinds of consumer, a streams service (Faust) and the ClickHouse sink (aiokafka), as processes in one group."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from chassis import kafka
from contracts.catalogue import catalogue
from tests.connected.serving import database
from tests.connected.streams import Servers, unique, until
from tests.connected.test_streams_batches import rows
from tests.connected.unit_process import UnitProcess, unit_process

pytestmark = pytest.mark.timeout(600)

TURNS = 10
ROWS, CHUNK = 200, 10  # written while a worker stops and starts, and at a time
CODECS = ("gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Kind:
    """A consumer's topic, group and process, and the ids of the sales that have come out of it."""

    reached: Servers
    module: str
    topic: str
    group: str
    environment: Mapping[str, str]
    sale_ids: Callable[[], Awaitable[set[str]]]
    dead: Callable[[], Awaitable[set[bytes]]]

    def process(self, log: Path, **more: str) -> AbstractAsyncContextManager[UnitProcess]:
        """A ready process."""
        return unit_process(self.module, {**self.environment, **more}, log, wait=True)

    async def payloads(self, prefix: str, count: int, first: int = 1) -> list[bytes]:
        """So many sales of the topic, with ids of their own, counted from `first`."""
        if self.topic == "sales.files":
            return await self.reached.encode(self.topic, rows(prefix, count, first))
        sale = catalogue()[self.topic].examples()["sale"]
        numbered = [{**sale, "sale_id": f"{prefix}-{number}"} for number in range(first, first + count)]
        return await self.reached.encode(self.topic, numbered)

    async def until_complete(self, prefix: str, count: int) -> None:
        """Wait until all of so many sales have come out."""
        wanted = {f"{prefix}-{number}" for number in range(1, count + 1)}

        async def complete() -> bool:
            return wanted <= await self.sale_ids()

        await until(complete, f"{count} sales have come out", 90)

    async def until_no_lag(self) -> None:
        """Wait until everything in the topic is committed."""

        async def none() -> bool:
            return await self.reached.lag(self.group, self.topic) == 0

        await until(none, f"{self.group} has no lag")


@pytest.fixture(params=["streams", "sink"])
async def kind(request: pytest.FixtureRequest, servers: Mapping[str, str]) -> AsyncIterator[Kind]:
    """One of the two."""
    reached = Servers(servers)
    topics = ("sales.unified", "sales.dlq") if request.param == "streams" else ("sales.dlq",)
    async with reached.published(*topics) as (published, read):

        async def dead() -> set[bytes]:
            await read()
            return {value["value"] for topic, _, value in published.records if topic == "sales.dlq"}

        if request.param == "streams":

            async def unified() -> set[str]:
                await read()
                return set(published.sales())

            yield Kind(reached, "streams.files", "sales.files", "files", servers, unified, dead)
            return
        async with database(servers) as db:

            async def stored() -> set[str]:
                return {sale_id for (sale_id,) in await db.store.select("SELECT sale_id FROM sales")}

            group = unique("sink")
            await reached.skip(group, "sales.unified")
            environment = {**servers, "CLICKHOUSE_DB": db.settings.db, "CLICKHOUSE_SINK_GROUP": group}
            yield Kind(reached, "services.clickhouse_sink", "sales.unified", group, environment, stored, dead)


async def test_two_workers_come_and_go_under_load(kind: Kind, tmp_path: Path) -> None:
    """Two workers are each stopped and started ten times while sales come: nothing is lost, and no lag remains."""
    prefix, count = unique("R"), 0

    async def feed(first: int) -> None:
        """Write sales for a while, some at a time, numbered from `first`."""
        for start in range(first, first + ROWS, CHUNK):
            await kind.reached.feed(kind.topic, await kind.payloads(prefix, CHUNK, start))

    async with kind.process(tmp_path / "first.log") as first, kind.process(tmp_path / "second.log") as second:
        for _ in range(TURNS):
            for worker in (first, second):
                feeding = asyncio.create_task(feed(count + 1))
                count += ROWS
                assert await worker.end() == 0
                await worker.start()
                await until(worker.ready, "the worker is ready again")
                await feeding
        await kind.until_complete(prefix, count)
        await kind.until_no_lag()
        await until(first.ready, "the first worker is ready")
        await until(second.ready, "the second worker is ready")
    for worker in (first, second):
        assert "IllegalStateError" not in worker.logged()


@pytest.mark.parametrize("compression", CODECS)
async def test_compressed_batches_are_read(compression: str, kind: Kind, tmp_path: Path) -> None:
    """A producer may compress its batches with any of Kafka's codecs; services and commands read them."""
    prefix = unique("Z")
    payloads = await kind.payloads(prefix, 200)
    options = {"compression_type": compression, "linger_ms": 500}
    positions = await kind.reached.feed(kind.topic, payloads, **options)
    async with kind.process(tmp_path / "log"):
        await kind.until_complete(prefix, 200)
        await kind.until_no_lag()
    first = {partition: min(o for p, o in positions if p == partition) for partition, _ in positions}
    async with kafka.reading("test", kind.reached.kafka, [kind.topic]) as client:
        for partition, offset in first.items():
            client.seek(TopicPartition(kind.topic, partition), offset)
        read = {message.value async for message in kafka.messages_to_end(client)}
    assert set(payloads) <= read


async def test_too_many_rejections_halt_the_worker(kind: Kind, tmp_path: Path) -> None:
    """Before it has dead-lettered more than the limit it leaves its group, and stays not ready with the reason.

    A restart halts again; one without the limits dead-letters the records.
    """
    prefix, garbage = unique("H"), [f"{unique('garbage')}".encode() for _ in range(400)]
    async with kind.process(tmp_path / "before.log"):
        await kind.reached.feed(kind.topic, await kind.payloads(prefix, 10))
        await kind.until_complete(prefix, 10)
        await kind.until_no_lag()
    await kind.reached.feed(kind.topic, garbage)

    async def halted(worker: UnitProcess) -> bool:
        why = (await worker.missing() or {}).get("halted", "")
        return all(
            part in why for part in (kind.topic, "in a row rejected", "wire_format", "offset", "REJECTED_RUN_MAX=0")
        )

    def mine(values: Sequence[Any] | set[bytes]) -> set[bytes]:
        return set(values) & set(garbage)

    log = tmp_path / "log"
    async with unit_process(kind.module, {**kind.environment, "REJECTED_RUN_MAX": "100"}, log) as worker:
        for _ in range(2):
            await until(lambda: halted(worker), "the worker is halted")
            assert "placar_consumer_halted" in await worker.metrics()
            assert any(
                value == 1
                for name, value in (await worker.samples()).items()
                if name.startswith("placar_consumer_halted")
            )
            assert await kind.reached.members(kind.group) == 0
            assert await worker.end() == 0
            await worker.start()
        assert len(mine(await kind.dead())) < 300
        assert await kind.reached.lag(kind.group, kind.topic) >= 100
    assert worker.logged().count('"event": "halted"') >= 2

    async with kind.process(tmp_path / "after.log", REJECTED_RUN_MAX="0", REJECTED_SHARE_MAX="0"):
        await kind.until_no_lag()

        async def all_dead() -> bool:
            return mine(await kind.dead()) == set(garbage)

        await until(all_dead, "every record is dead-lettered")
