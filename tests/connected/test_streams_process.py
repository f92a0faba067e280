"""A streams unit as a process: start without its servers, clean stop, kill, rebalance."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.connected.gated_files import gated
from tests.connected.streams import Servers, forwarder, free_port, unique, until
from tests.connected.test_streams_batches import ids, rows
from tests.connected.unit_process import unit_process

SERVERS = {"kafka": "KAFKA", "schema registry": "SCHEMA_REGISTRY"}


@pytest.mark.parametrize("server", list(SERVERS))
async def test_server_unavailable_at_start(server: str, servers: Mapping[str, str], tmp_path: Path) -> None:
    """A unit whose server is down is not ready and says address and setting; it is ready when the server is there."""
    prefix, port = SERVERS[server], free_port()
    host, target = servers[f"{prefix}_HOST"], int(servers[f"{prefix}_PORT"])
    environment = {**servers, f"{prefix}_HOST": "127.0.0.1", f"{prefix}_PORT": str(port)}
    async with unit_process("streams.legacy", environment, tmp_path / "log") as process:

        async def says_why() -> bool:
            why = (await process.missing() or {}).get(server, "")
            return f"127.0.0.1:{port}" in why and f"{prefix}_PORT" in why and "unreachable" in why

        await until(says_why, "the unit says what it cannot reach")
        async with forwarder(port, host, target):
            await until(process.ready, "the unit is ready")


async def test_clean_stop(servers: Mapping[str, str], tmp_path: Path) -> None:
    """SIGTERM ends a unit with status 0 and what it has published is committed: a restart repeats nothing."""
    reached, prefix = Servers(servers), unique("T")
    async with reached.published() as (published, read):
        async with unit_process("streams.files", servers, tmp_path / "log") as process:
            await until(process.ready, "the unit is ready")
            positions = await reached.feed("sales.files", await reached.encode("sales.files", rows(prefix, 50)))

            async def complete() -> bool:
                await read()
                return ids(prefix, 50) <= set(published.sales())

            await until(complete, "every sale is in sales.unified")
            assert await process.end() == 0
        committed = await reached.committed("files")
        for partition in {number for number, _ in positions}:
            last = max(offset for number, offset in positions if number == partition)
            assert committed[("sales.files", partition)] == last + 1


async def test_wrong_setting(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A wrong setting ends the process with status 2."""
    async with unit_process(
        "streams.files", {**servers, "FILES_TIMEZONE": "Mars/Olympus"}, tmp_path / "log"
    ) as process:
        assert await process.exit_status() == 2


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 10), (signal.SIGKILL, 1)], ids=["stopped", "killed"])
async def test_second_worker_comes_and_goes(
    number: signal.Signals, times: int, servers: Mapping[str, str], tmp_path: Path
) -> None:
    """While a second worker joins and is stopped or killed again and again, every sale is published.

    In every other turn a batch of each worker is in flight all the while.
    """
    reached, prefix, gate = Servers(servers), unique("B"), tmp_path / "gate"
    over = asyncio.Event()
    async with reached.published() as (published, read), gated(servers, tmp_path) as first:

        async def feed() -> int:
            """Write rows, a few at a time, until the bouncing is over; returns how many."""
            count = 0
            while not over.is_set():
                payloads = await reached.encode("sales.files", rows(prefix, 5, count + 1))
                await reached.feed("sales.files", payloads)
                count += 5
            return count

        feeding = asyncio.create_task(feed())
        for turn in range(times):
            if turn % 2 == 0:
                gate.touch()
                await until(first.works, "the first worker has a batch in flight")
            async with gated(servers, tmp_path) as second:
                if gate.exists():
                    await until(second.works, "the second worker has a batch in flight")
                assert await second.end(number) == (0 if number == signal.SIGTERM else -number)
            gate.unlink(missing_ok=True)
        over.set()
        count = await feeding

        async def complete() -> bool:
            await read()
            return ids(prefix, count) <= set(published.sales())

        await until(complete, "every sale is in sales.unified", 90)
    assert count > 100
