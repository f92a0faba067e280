"""A streams unit while it, the broker or the registry stands still or dies: in the end every sale is there."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from chassis.stream import SESSION_TIMEOUT_S
from deploy.native import probes
from tests.connected.streams import Page, Published, Servers, answering, forwarder, free_port, unique, until
from tests.connected.test_streams_batches import ids, rows
from tests.connected.unit_process import unit_process

ROWS = 3000


async def feed(reached: Servers, prefix: str, first: int, count: int) -> None:
    """Write `count` rows of `sales.files`, numbered from `first`."""
    await reached.feed("sales.files", await reached.encode("sales.files", rows(prefix, count, first)))


def right(found: Published, prefix: str, count: int) -> bool:
    """Whether all of the rows are sales, each in the version of its row; there is no dead letter among them."""
    sales = {sale_id: sale for sale_id, sale in found.sales().items() if sale_id.startswith(prefix)}
    versions = {sale["version"] & 0x7FFFFFFF for sale in sales.values()}
    return set(sales) == ids(prefix, count) and versions == set(range(1, count + 1))


async def test_worker_stands_still(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A worker that is stopped for longer than its session loses its partitions, and harms nothing when it goes on."""
    reached, prefix = Servers(servers), unique("S")
    async with (
        reached.published() as (found, read),
        unit_process("streams.files", servers, tmp_path / "first.log", wait=True) as first,
        unit_process("streams.files", servers, tmp_path / "second.log", wait=True) as second,
    ):
        await until(first.ready, "the first worker has its share again")
        feeding = asyncio.create_task(feed(reached, prefix, 1, ROWS))

        async def begun() -> bool:
            await read()
            return bool(found.sales())

        await until(begun, "the load is being worked on")
        process = psutil.Process(first.pid)
        process.suspend()
        try:
            await feeding

            async def complete() -> bool:
                await read()
                return right(found, prefix, ROWS)

            await until(complete, "the second worker has done all", SESSION_TIMEOUT_S + 60)
        finally:
            process.resume()
        await until(first.ready, "the first worker is in the group again")
        await feed(reached, prefix, ROWS + 1, 200)

        async def all_there() -> bool:
            await read()
            return right(found, prefix, ROWS + 200)

        await until(all_there, "what came later is there too")
        assert await second.ready()


async def test_broker_is_killed(servers: Mapping[str, str], tmp_path: Path) -> None:
    """kill -9 of the broker while batches are in flight: the unit goes on where it was when the broker is back."""
    reached, prefix = Servers(servers), unique("K")
    async with (
        reached.published() as (found, read),
        unit_process("streams.files", servers, tmp_path / "log", wait=True) as worker,
    ):
        await feed(reached, prefix, 1, ROWS)

        async def begun() -> bool:
            await read()
            return bool(found.sales())

        await until(begun, "the load is being worked on")
        (pid,) = {
            one.pid
            for one in psutil.net_connections("tcp")
            if one.status == "LISTEN" and one.laddr and one.laddr.port == reached.kafka.port
        }
        broker = psutil.Process(pid)
        broker.kill()
        await asyncio.to_thread(broker.wait, 30)

        async def complete() -> bool:
            await read()
            return right(found, prefix, ROWS)

        answers = probes.kafka(reached.kafka.bootstrap)

        async def back() -> bool:
            try:
                await answers()
            except probes.NotReady:
                return False
            return True

        # all can be published, and the worker still think itself ready, before the broker is back
        await until(back, "the broker is back", 120)
        await until(complete, "all that was in the topic is there", 120)
        await until(worker.ready, "the worker is ready again")
        await feed(reached, prefix, ROWS + 1, 200)

        async def all_there() -> bool:
            await read()
            return right(found, prefix, ROWS + 200)

        await until(all_there, "what came later is there too")


async def test_registry_is_away(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A unit that has its schemas works on while the registry is away; one that is started then waits for it.

    An error page answers in its place, as a proxy's does.
    """
    reached, prefix, port = Servers(servers), unique("W"), free_port()
    environment = {**servers, "SCHEMA_REGISTRY_HOST": "127.0.0.1", "SCHEMA_REGISTRY_PORT": str(port)}
    host, target = reached.registry.host, reached.registry.port
    async with reached.published() as (found, read):

        async def complete(count: int) -> bool:
            await read()
            return right(found, prefix, count)

        async with unit_process("streams.files", environment, tmp_path / "log") as worker:
            async with forwarder(port, host, target):
                await until(worker.ready, "the unit is ready")
                await feed(reached, prefix, 1, 100)
                await until(lambda: complete(100), "the unit works")
            await feed(reached, prefix, 101, 100)
            await until(lambda: complete(200), "the unit works on without the registry")
            await worker.end(signal.SIGKILL)
            await feed(reached, prefix, 201, 100)
            async with answering(port, Page()):
                await worker.start()

                async def waits() -> bool:
                    return "status 503" in (await worker.missing() or {}).get("schema registry", "")

                await until(waits, "the unit waits for the registry")
            async with forwarder(port, host, target):
                await until(lambda: complete(300), "the unit works again")
