"""`task bench:live`: how soon a ranking set is on every socket, and what a client costs, on a broker of its own.

The API runs alone with a broker and a registry. `--clients` WebSocket clients in `--processes` processes want the
newest windows; for `--seconds` each of the two is published `--rate` times a second. A delivery is timed from the
broker's acknowledgement of the set until a client has received its frame, or that of a later revision, which is all
that a client is sent when the API could not keep up; on the clock that all processes share. Memory is the growth of
the API's RSS from 20 clients to all of them, by the number of these, while sets arrive.

Everything shares the machine: broker, API, clients and this program. Ends with 1 when a client missed a set or a figure
is over its limit.
"""

import argparse
import asyncio
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import aiohttp
import psutil
from aiokafka import AIOKafkaProducer

from contracts import codec
from contracts.catalogue import catalogue
from services.api.live import PATH
from tests.connected.streams import free_port, until
from tests.connected.unit_process import UnitProcess, unit_process
from tests.rankings import registry_of
from tests.runtime import start_runtime

LIMIT_S, LIMIT_KIB = 0.25, 40.0
WARM = 20
PATIENCE_S = 180.0
REVISION = re.compile(r'"type":"ranking".*?"revision":([0-9]+)')
NAMES = ("São Paulo", "Rio de Janeiro", "Belo Horizonte", "Curitiba", "Porto Alegre", "Salvador", "Brasília", "Recife")


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


async def clients(port: int, count: int, folder: Path) -> None:
    """One process of clients: connect them all, say so on standard output, and listen until standard input ends.

    Writes client, revision and receipt (seconds of the monotonic clock) of each frame to a file of its own.
    """
    received_at = array("d")
    turn = asyncio.Semaphore(20)
    open_now = 0

    async def one(number: int, session: aiohttp.ClientSession) -> None:
        nonlocal open_now
        async with turn:
            socket = await session.ws_connect(f"http://127.0.0.1:{port}{PATH}")
            await socket.receive()  # hello
        open_now += 1
        if open_now == count:
            say("open")
        async for message in socket:
            received = time.monotonic()
            if revision := REVISION.search(message.data):
                received_at.extend((number, int(revision[1]), received))
        raise SystemExit(f"a client was closed with {socket.close_code}")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(one(number, session)) for number in range(count)]
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            os._exit(1)  # the thread waits for an input that does not come
        for task in tasks:
            task.cancel()
    (folder / f"{os.getpid()}.seen").write_bytes(received_at.tobytes())


@contextmanager
def client_process(port: int, count: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of so many clients, all of them connected; ended with its file written."""
    command = [sys.executable, "-m", __spec__.name, "--client", str(port), str(count), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            opened: IO[str] | None = process.stdout
            if opened is None or opened.readline() != "open\n":
                raise SystemExit("the clients could not connect")
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


def ranking_set(ranking: str, start: datetime, revision: int) -> dict[str, Any]:
    """A whole set, different for each revision."""
    return {
        "ranking": ranking,
        "country": "BR" if ranking == "salesman" else "",
        "window_start": start,
        "window_end": start + timedelta(hours=1),
        "revision": revision,
        "status": "provisional",
        "watermark": start,
        "as_of": datetime.now(UTC),
        "entries": [
            {
                "rank": rank,
                "name": f"{NAMES[rank % len(NAMES)]} {rank}",
                "total_sales": Decimal(revision * 100 - rank).scaleb(-2),
                "transaction_count": revision,
            }
            for rank in range(1, 11)
        ],
    }


class Published:
    """Publishes sets of the two windows, one revision after another; when each was acknowledged."""

    def __init__(self, producer: AIOKafkaProducer, encode: codec.Encoder) -> None:
        self._producer = producer
        self._encode = encode
        self._start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._revision = 0

    async def at(self, rate: float, seconds: float) -> dict[int, float]:
        """Publish each window `rate` times a second; revision to acknowledgement on the monotonic clock."""
        acknowledged: dict[int, float] = {}
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in range(round(2 * rate * seconds)):
            self._revision += 1
            ranking = ("city", "salesman")[number % 2]
            value = self._encode(ranking_set(ranking, self._start, self._revision))
            await self._producer.send_and_wait(f"rankings.{ranking}", value, key=ranking.encode())
            acknowledged[self._revision] = time.monotonic()
            due += 1 / (2 * rate)
            await asyncio.sleep(max(0.0, due - loop.time()))
        return acknowledged


def deliveries(folder: Path, clients: int, acknowledged: Mapping[int, float]) -> tuple[list[float], int]:
    """Seconds from acknowledgement of each revision until each client had it or a later one, and how many had neither.

    Odd revisions are of one window and even ones of the other.
    """
    got: dict[tuple[str, float, int], list[tuple[int, float]]] = {}
    for path in folder.glob("*.seen"):
        recorded = array("d")
        recorded.frombytes(path.read_bytes())
        for client, revision, received in zip(recorded[::3], recorded[1::3], recorded[2::3], strict=True):
            got.setdefault((path.name, client, int(revision) % 2), []).append((int(revision), received))
    seconds = []
    for (_, _, odd), frames in got.items():
        for revision, at in acknowledged.items():
            if revision % 2 == odd and (index := bisect_left(frames, (revision, 0.0))) < len(frames):
                seconds.append(frames[index][1] - at)
    return seconds, clients * len(acknowledged) - len(seconds)


async def measure(arguments: argparse.Namespace, process: UnitProcess, port: int, published: Published) -> bool:
    """Measure and print; whether every client got every set and the figures are within their limits."""
    api = psutil.Process(process.pid)
    share = arguments.clients // arguments.processes

    async def read() -> bool:
        return "rankings" not in (await process.missing() or {"rankings": ""})

    await until(read, "the API has read the topics", PATIENCE_S)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "warm").mkdir()
        await asyncio.to_thread(stack.enter_context, client_process(port, WARM, folder / "warm"))
        await published.at(arguments.rate, 5)
        before = api.memory_info().rss
        begun = time.monotonic()
        for _ in range(arguments.processes):
            await asyncio.to_thread(stack.enter_context, client_process(port, share, folder))
        say(f"{share * arguments.processes} clients connected in {time.monotonic() - begun:.1f} s")
        await published.at(arguments.rate, 5)
        cpu, loads = sum(api.cpu_times()[:2]), [os.getloadavg()[0]]
        begun = time.monotonic()
        acknowledged = await published.at(arguments.rate, arguments.seconds)
        cpu = (sum(api.cpu_times()[:2]) - cpu) / (time.monotonic() - begun)
        loads.append(os.getloadavg()[0])
        growth = (api.memory_info().rss - before) / 1024 / (share * arguments.processes)
        await asyncio.sleep(2)
        await asyncio.to_thread(stack.close)
        seconds, missing = deliveries(folder, share * arguments.processes, acknowledged)
    if missing:
        say(f"{missing} of {missing + len(seconds)} deliveries are missing")
        return False
    quantiles = statistics.quantiles(seconds, n=100, method="inclusive")
    say(
        f"{len(seconds):,} deliveries of {len(acknowledged)} sets: p50 {quantiles[49] * 1000:.0f} ms,"
        f" p95 {quantiles[94] * 1000:.0f} ms, p99 {quantiles[98] * 1000:.0f} ms, max {max(seconds) * 1000:.0f} ms"
    )
    say(f"memory: {growth:.1f} KiB of RSS per client; CPU of the API: {cpu:.0%} of a core")
    say(f"load average of the machine: {loads[0]:.1f} before, {loads[1]:.1f} after, {os.cpu_count()} cores")
    return quantiles[98] <= LIMIT_S and growth <= LIMIT_KIB


async def bench(arguments: argparse.Namespace) -> bool:
    """On a runtime of its own: whether the figures are within their limits."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name, start_runtime(Path(name) / "state", ("contracts",)) as runtime:
        limits = dict.fromkeys(
            ("API_LIVE_CONNECTIONS", "API_LIVE_CONNECTIONS_PER_ADDRESS"), str(arguments.clients + WARM)
        )
        environment = {**runtime.env, **limits, "API_PORT": str(port)}
        producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}")
        await producer.start()
        try:
            encode = await codec.encoder(registry_of(runtime), catalogue()["rankings.city"])
            async with unit_process("services.api", environment, Path(name) / "api.log") as process:
                return await measure(arguments, process, port, Published(producer, encode))
        finally:
            await producer.stop()


def main() -> int:
    """Parse arguments, measure, print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2.0, help="sets a second of each window")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments.client:
        port, count, folder = arguments.client
        asyncio.run(clients(int(port), int(count), Path(folder)))
        return 0
    return 0 if asyncio.run(bench(arguments)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
