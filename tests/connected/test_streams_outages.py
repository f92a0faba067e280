"""A streams unit while it, the broker or the registry stands still or dies: in the end every sale is there."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import psutil

from chassis.stream import SESSION_TIMEOUT_S
from contracts.catalogue import catalogue
from contracts.codec import encode_body, parse
from contracts.json_avro import typed
from deploy.native import probes
from tests.connected.gated_files import gated
from tests.connected.streams import Page, Published, Servers, answering, forwarder, free_port, unique, until
from tests.connected.test_streams_batches import ids, rows
from tests.connected.unit_process import unit_process

ROWS = 3000


async def feed(reached: Servers, prefix: str, first: int, count: int) -> None:
    """Write `count` rows of `sales.files`, numbered from `first`."""
    await reached.feed("sales.files", await reached.encode("sales.files", rows(prefix, count, first)))


def right(published: Published, prefix: str, count: int) -> bool:
    """Whether all of the rows are sales, each in the version of its row; there is no dead letter among them."""
    sales = {sale_id: sale for sale_id, sale in published.sales().items() if sale_id.startswith(prefix)}
    versions = {sale["version"] & 0x7FFFFFFF for sale in sales.values()}
    return set(sales) == ids(prefix, count) and versions == set(range(1, count + 1))


async def both(reached: Servers) -> bool:
    """Whether two workers share the topic."""
    return await reached.members("files") == 2


async def test_worker_stands_still(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A worker that is stopped for longer than its session loses its partitions, and harms nothing when it goes on.

    It has a batch in flight all the while, with which it comes back into the group, and that it publishes too late.
    """
    reached, prefix, gate = Servers(servers), unique("S"), tmp_path / "gate"
    gate.touch()

    async with (
        reached.published() as (published, read),
        gated(servers, tmp_path) as first,
        unit_process("streams.files", servers, tmp_path / "log", wait=True),
    ):
        await until(lambda: both(reached), "both workers have their share")
        feeding = asyncio.create_task(feed(reached, prefix, 1, ROWS))
        await until(first.works, "the first worker has a batch in flight")
        process = psutil.Process(first.pid)
        process.suspend()
        try:
            await feeding

            async def complete() -> bool:
                await read()
                return right(published, prefix, ROWS)

            await until(complete, "the second worker has done all", SESSION_TIMEOUT_S + 60)
        finally:
            process.resume()
        await until(lambda: both(reached), "the first worker is in the group again, its batch still in flight")
        gate.unlink()
        await feed(reached, prefix, ROWS + 1, 200)

        async def all_there() -> bool:
            await read()
            return right(published, prefix, ROWS + 200)

        await until(all_there, "what came later is there too")


async def test_broker_is_killed(servers: Mapping[str, str], tmp_path: Path) -> None:
    """kill -9 of the broker while batches are in flight: the unit goes on where it was when the broker is back.

    A second worker is told to stop then, with its batch still in flight, and the first does that batch too.
    """
    reached, prefix = Servers(servers), unique("K")
    (tmp_path / "gate").touch()

    async with (
        reached.published() as (published, read),
        unit_process("streams.files", servers, tmp_path / "log", wait=True) as worker,
        gated(servers, tmp_path) as second,
    ):
        await until(lambda: both(reached), "both workers have their share")
        await feed(reached, prefix, 1, ROWS)

        async def begun() -> bool:
            await read()
            return bool(published.sales()) and await second.works()

        await until(begun, "the load is being worked on")
        (pid,) = {
            one.pid
            for one in psutil.net_connections("tcp")
            if one.status == "LISTEN" and one.laddr and one.laddr.port == reached.kafka.port
        }
        broker = psutil.Process(pid)
        broker.kill()
        await asyncio.to_thread(broker.wait, 30)
        answers = probes.kafka(reached.kafka.bootstrap)

        async def back() -> bool:
            try:
                await answers()
            except probes.NotReady:
                return False
            return True

        await until(back, "the broker is back", 120)
        assert await second.end() == 0

        async def complete() -> bool:
            await read()
            return right(published, prefix, ROWS)

        await until(complete, "all that was in the topic is there", 120)
        await until(worker.ready, "the worker is ready again")
        await feed(reached, prefix, ROWS + 1, 200)

        async def all_there() -> bool:
            await read()
            return right(published, prefix, ROWS + 200)

        await until(all_there, "what came later is there too")


async def test_registry_is_unavailable(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A unit that has its schemas works on while the registry is down, and waits for a schema that it cannot have.

    It can be stopped meanwhile, with that record in flight, and where it is started again it waits for the registry.
    An error page answers instead of the registry then, as a proxy's does. Nothing becomes a dead letter.
    """
    reached, prefix, port = Servers(servers), unique("W"), free_port()
    environment = {**servers, "SCHEMA_REGISTRY_HOST": "127.0.0.1", "SCHEMA_REGISTRY_PORT": str(port)}
    host, target = reached.registry.host, reached.registry.port
    topic = catalogue()["sales.files"]
    added = {"name": f"added_{prefix[2:]}", "type": ["null", "string"], "default": None}
    newer = {**topic.avro, "fields": [*topic.avro["fields"], added]}
    async with (
        reached.published() as (published, read),
        unit_process("streams.files", environment, tmp_path / "log") as worker,
    ):

        async def complete(count: int) -> bool:
            await read()
            return right(published, prefix, count)

        async def waits(why: str) -> bool:
            return why in (await worker.missing() or {}).get("schema registry", "")

        async with forwarder(port, host, target):
            await until(worker.ready, "the unit is ready")
            await feed(reached, prefix, 1, 100)
            await until(lambda: complete(100), "the unit works")
        await feed(reached, prefix, 101, 99)
        await until(lambda: complete(199), "the unit works on without the registry")
        schema_id = await reached.client.register(topic.subject, newer)
        payload = encode_body(schema_id, parse(newer), typed(topic.avro, rows(prefix, 1, 200)[0]))
        ((partition, offset),) = await reached.feed(topic.name, [payload])
        await until(lambda: waits("ConnectError"), "the unit waits for the newer schema")
        async with answering(port, Page()):
            await until(lambda: waits("status 503"), "it says what answers instead")
            assert await worker.end() == 0
            assert (await reached.committed("files"))[topic.name, partition] <= offset
            await feed(reached, prefix, 201, 100)
            await worker.start()
            await until(lambda: waits("status 503"), "the unit, started again, waits for the registry")
        async with forwarder(port, host, target):
            await until(lambda: complete(300), "the unit works again")
            await until(worker.ready, "it waits for nothing")
    assert not [dead for dead in published.dead_letters("files").values() if dead["value"] == payload]
