"""`task bench:pipeline`: what a sale costs on the whole native pipeline, and whether a rate is sustained.

Starts everything on a state and ports of its own, measures it idle, loads it at `--rate` changes a second and source,
and waits until every consumer has caught up. Each second one probe sale is timed from its commit until REST and a
WebSocket show it. CPU is that of each process with its children, per change; memory is the largest seen. A rate is
sustained when nearly all that was due was sent and no consumer's lag has grown: its median over the last third of the
run is at most that over the first third and what arrives in `SLACK_S`. With `--burst` lag may grow, if it is gone
`BURST_S` after the load. Ends with 1 when the rate was not sustained, or when ledger or audit differ.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.table import Table

from chassis.postgres import open_connection
from deploy.native import supervise
from deploy.native.settings import NativeSettings
from tests.performance import freshness
from tests.performance.loads import Database, Mix, Sent, Tick, drive, legacy, objects
from tests.runtime import Runtime, start_runtime
from tools.traffic.database import staff

GROUPS = {
    "cdc": ("sales.postgres",),
    "files": ("sales.files",),
    "legacy": ("sales.legacy",),
    "ranking": ("sales.unified",),
    "clickhouse_sink": ("sales.unified",),
}
SAMPLE_S = 5.0
SENT = 0.98  # of the changes that were due; an update or delete may miss a sale that is gone
SLACK_S = 12.0  # Flink commits its offsets with a checkpoint every 10 s
BURST_S = 120.0
CAUGHT_UP_S = 300.0
TRICKLE = 50  # records: the legacy service sells a little all the time
SOURCES = ("postgres", "files", "legacy")


@dataclass
class Samples:
    """What was seen while the load ran: lag by consumer in records, probes in seconds, peak memory in bytes."""

    lags: dict[str, list[int]] = field(default_factory=dict)
    rest: list[float] = field(default_factory=list)
    socket: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    def grown(self, rate: int) -> list[str]:
        """The consumers whose lag has grown over the run."""
        grown = []
        for name, lags in self.lags.items():
            third = max(1, len(lags) // 3)
            if statistics.median(lags[-third:]) > statistics.median(lags[:third]) + SLACK_S * rate:
                grown.append(name)
        return grown


def processes(settings: NativeSettings) -> dict[str, list[psutil.Process]]:
    """Each process of the runtime, and the supervisor, with everything below it."""
    trees: dict[str, list[psutil.Process]] = {}
    for name, known in supervise.info(settings).items():
        with contextlib.suppress(psutil.NoSuchProcess):
            if known["pid"]:
                top = psutil.Process(known["pid"])
                trees[name] = [top, *top.children(recursive=True)]
    return trees


def cpu(settings: NativeSettings) -> dict[str, float]:
    """CPU seconds so far by process, children that have ended included."""
    used: dict[str, float] = {}
    for name, tree in processes(settings).items():
        for number, process in enumerate(tree):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                ended = times.children_user + times.children_system if number == 0 else 0.0
                used[name] = used.get(name, 0.0) + times.user + times.system + ended
    return used


def memory(settings: NativeSettings) -> dict[str, int]:
    """Proportional memory (PSS) in bytes by process."""
    used: dict[str, int] = {}
    for name, tree in processes(settings).items():
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                used[name] = used.get(name, 0) + process.memory_full_info().pss
    return used


class Lags:
    """Records between what was produced and what each consumer has committed."""

    def __init__(self, admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, sent: Sent, captured: int) -> None:
        self._admin, self._reader, self._sent = admin, reader, sent
        self._captured = captured

    async def read(self) -> dict[str, int]:
        """Lag by consumer; `connect` is behind by what was committed in Postgres and is not in its topic."""
        topics = {topic for group in GROUPS.values() for topic in group}
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in self._reader.partitions_for_topic(topic) or ()
        ]
        captured = self._sent.captured
        ends = await self._reader.end_offsets(partitions)
        lags = {"connect": max(0, self._captured + captured - _total(ends, ("sales.postgres",)))}
        for group, names in GROUPS.items():
            committed = await self._admin.list_consumer_group_offsets(group)
            done = {partition: max(0, known.offset) for partition, known in committed.items()}
            lags[group] = max(0, _total(ends, names) - _total(done, names))
        return lags


def _total(offsets: Mapping[TopicPartition, int], topics: Sequence[str]) -> int:
    return sum(offset for partition, offset in offsets.items() if partition.topic in topics)


@asynccontextmanager
async def lag_reader(settings: NativeSettings, sent: Sent) -> AsyncIterator[Lags]:
    """A reader of lags, for as long as the context lasts; what is in Postgres' topic now is where it counts from."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap)
    reader = AIOKafkaConsumer(
        *{topic for group in GROUPS.values() for topic in group}, bootstrap_servers=settings.kafka.bootstrap
    )
    await admin.start()
    try:
        await reader.start()
        try:
            ends = await reader.end_offsets(list(reader.assignment()))
            yield Lags(admin, reader, sent, _total(ends, ("sales.postgres",)))
        finally:
            await reader.stop()
    finally:
        await admin.close()


@dataclass(frozen=True)
class Bench:
    """A running pipeline and everything that measures it."""

    settings: NativeSettings
    pool: asyncpg.Pool
    client: httpx.AsyncClient
    live: freshness.Socket
    window: datetime
    city: str
    lags: Lags
    sent: Sent

    async def watch(self, samples: Samples, until: float) -> None:
        """Sample lag and memory every few seconds, with a line of progress."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() < until:
            lags = await self.lags.read()
            for name, lag in lags.items():
                samples.lags.setdefault(name, []).append(lag)
            for name, used in memory(self.settings).items():
                samples.memory[name] = max(samples.memory.get(name, 0), used)
            behind = ", ".join(f"{name} {lag}" for name, lag in lags.items() if lag)
            rest = f"{samples.rest[-1]:.1f} s" if samples.rest else "-"
            _say(f"{loop.time() - begun:4.0f} s  {self.sent.total} changes  commit to REST {rest}  lag: {behind or 0}")
            await asyncio.sleep(min(SAMPLE_S, max(0.0, until - loop.time())))

    async def probes(self, samples: Samples, until: float) -> None:
        """Time one sale after another, at most one each second."""
        loop = asyncio.get_running_loop()
        while (begun := loop.time()) < until:
            rest, socket = await freshness.probe(
                freshness.postgres(self.pool), self.client, self.live, self.window, self.city
            )
            self.sent.captured += 1
            samples.rest.append(rest)
            samples.socket.append(socket)
            await asyncio.sleep(max(0.0, begun + 1 - loop.time()))

    async def caught_up(self) -> float:
        """Seconds until no consumer is behind by more than what the legacy service sells meanwhile.

        Raises:
            TimeoutError: one still is after five minutes.
        """
        begun = time.monotonic()
        async with asyncio.timeout(CAUGHT_UP_S):
            while max((lags := await self.lags.read()).values()) > TRICKLE:
                _say(f"catching up: {', '.join(f'{name} {lag}' for name, lag in lags.items() if lag)}")
                await asyncio.sleep(1)
        return time.monotonic() - begun


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command's progress


@asynccontextmanager
async def bench(settings: NativeSettings, sent: Sent) -> AsyncIterator[Bench]:
    """Everything that measures, connected to the running pipeline."""
    api = settings.ports["API_PORT"]
    window = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=20)
    city = "Fortaleza"
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(freshness.connections(settings.postgres))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{api}", timeout=30))
        live = await stack.enter_async_context(freshness.socket(api, window, city))
        lags = await stack.enter_async_context(lag_reader(settings, sent))
        yield Bench(settings, pool, client, live, window, city, lags, sent)


async def load(on: Bench, arguments: argparse.Namespace, seconds: float, samples: Samples | None) -> None:
    """Load every source for so long; with `samples`, measure meanwhile."""
    until = asyncio.get_running_loop().time() + seconds
    connection = await open_connection(on.settings.postgres, 60.0)
    try:
        async with asyncio.TaskGroup() as tasks:
            for source in arguments.sources:
                tasks.create_task(drive(await _tick(source, on, connection, arguments.mix), arguments.rate, until))
            if samples is not None:
                tasks.create_task(on.watch(samples, until))
                tasks.create_task(on.probes(samples, until))
    finally:
        await connection.close()


async def _tick(source: str, on: Bench, connection: asyncpg.Connection, mix: Mix) -> Tick:
    """What a source does each second."""
    if source == "postgres":
        return Database(connection, await staff(connection), mix, on.sent).tick
    if source == "files":
        return objects(on.settings.s3, on.sent)
    return await legacy(f"http://127.0.0.1:{on.settings.ports['LEGACY_SOAP_PORT']}/ws/sales", on.sent)


def _used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


def p95(values: Sequence[float]) -> float:
    """The 95th percentile; the only value where there is but one."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


async def measure(settings: NativeSettings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Idle, warm up, load, catch up; returns the figures."""
    sent, samples = Sent(), Samples()
    async with bench(settings, sent) as on:
        if arguments.settle:
            _say(f"settling for {arguments.settle:g} s")
            await asyncio.sleep(arguments.settle)
        _say(f"idle for {arguments.idle:g} s")
        before = cpu(settings)
        await asyncio.sleep(arguments.idle)
        idle = _used(before, cpu(settings))
        if arguments.warmup:
            _say(f"warming up for {arguments.warmup:g} s")
            await load(on, arguments, arguments.warmup, None)
            await on.caught_up()
        before, already = cpu(settings), sent.total
        await load(on, arguments, arguments.seconds, samples)
        loaded = _used(before, cpu(settings))
        late = await on.caught_up()
        caught_up = _used(before, cpu(settings))
    changes = sent.total - already
    rate = arguments.rate * len(arguments.sources)
    return {
        "rate": arguments.rate,
        "sources": arguments.sources,
        "seconds": arguments.seconds,
        "changes": changes,
        "idle_cores": {name: used / arguments.idle for name, used in idle.items()} if arguments.idle else {},
        "cpu_us_per_change": {name: used / changes * 1e6 for name, used in caught_up.items()},
        "cores_under_load": sum(loaded.values()) / arguments.seconds,
        "memory_mib": {name: used / 2**20 for name, used in samples.memory.items()},
        "commit_to_rest_s": {"p50": statistics.median(samples.rest), "p95": p95(samples.rest)},
        "commit_to_socket_s": {"p50": statistics.median(samples.socket), "p95": p95(samples.socket)},
        "probes": len(samples.rest),
        "lag": samples.lags,
        "sent": changes / (rate * arguments.seconds),
        "grown": samples.grown(rate),
        "burst": arguments.burst,
        "caught_up_s": late,
    }


def check(runtime: Runtime, *command: str) -> bool:
    """Whether a tool of ours finds nothing wrong; prints what it says."""
    run = subprocess.run(
        [sys.executable, "-m", "tools", *command], env=dict(runtime.env), capture_output=True, text=True, check=False
    )
    _say(f"{command[0]}: {(run.stdout + run.stderr).strip()}")
    return run.returncode == 0


def failing(result: Mapping[str, Any]) -> str:
    """Why the rate was not sustained; empty where it was."""
    if result["sent"] < SENT:
        return f"only {result['sent']:.0%} of the changes could be sent"
    if result["burst"]:
        return f"caught up {result['caught_up_s']:.0f} s after the load" if result["caught_up_s"] > BURST_S else ""
    return f"lag has grown: {', '.join(result['grown'])}" if result["grown"] else ""


def report(result: Mapping[str, Any]) -> None:
    """The figures as a table, then as one line of JSON."""
    table = Table("process", "CPU µs per change", "idle, cores", "memory MiB")
    costs, idle, used = result["cpu_us_per_change"], result["idle_cores"], result["memory_mib"]
    for name in sorted(costs, key=costs.get, reverse=True):
        table.add_row(name, f"{costs[name]:.1f}", f"{idle.get(name, 0):.3f}", f"{used.get(name, 0):.0f}")
    table.add_section()
    table.add_row("all", f"{sum(costs.values()):.1f}", f"{sum(idle.values()):.3f}", f"{sum(used.values()):.0f}")
    console = Console(soft_wrap=True)
    console.print(table)
    for target in ("rest", "socket"):
        seconds = result[f"commit_to_{target}_s"]
        console.print(f"commit to {target}: p50 {seconds['p50']:.2f} s, p95 {seconds['p95']:.2f} s")
    good = "absorbed" if result["burst"] else "sustained, no lag has grown"
    verdict = f"NOT sustained, {why}" if (why := failing(result)) else good
    console.print(f"{result['rate']}/s from {', '.join(result['sources'])} for {result['seconds']:g} s: {verdict}")
    console.print(f"caught up {result['caught_up_s']:.1f} s after the load; ledger and audit: {result['checked']}")
    sys.stdout.write(f"{json.dumps(result)}\n")


def _mix(text: str) -> Mix:
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts) or sum(map(int, parts)) != 100:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not inserts/updates/deletes of a hundred, such as 85/10/5")
    return Mix(*map(int, parts))


def _sources(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(SOURCES):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: sources are {', '.join(SOURCES)}")
    return names


def main() -> int:
    """Parse arguments, start the pipeline, measure, check, print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000, help="changes a second, of each source")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warmup", type=float, default=60.0, help="seconds of the same load before; 0: none")
    parser.add_argument("--settle", type=float, default=0.0, help="seconds before anything is measured")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds without load before; 0: none")
    parser.add_argument("--mix", type=_mix, default=Mix(85, 10, 5), help="inserts/updates/deletes of a hundred")
    parser.add_argument("--burst", action="store_true", help="lag may grow, if it is gone soon after the load")
    parser.add_argument("--sources", type=_sources, default=["postgres"], help=",".join(SOURCES))
    arguments = parser.parse_args()
    polls = {"FILE_POLLER_INTERVAL_S": "2", "LEGACY_POLLER_INTERVAL_S": "2", "LEGACY_POLLER_OVERLAP_S": "5"}
    with tempfile.TemporaryDirectory(prefix="placar-bench-") as folder:
        _say("starting the pipeline")
        with start_runtime(Path(folder) / "state", (), polls) as runtime, environment(runtime):
            result = asyncio.run(measure(NativeSettings(), arguments))
            ledger = check(runtime, "ledger", "--from", f"{datetime.now(UTC) - timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}")
            audit = check(runtime, "audit")
    result["checked"] = "nothing missing, all equal" if ledger and audit else "DIFFERENCES"
    report(result)
    return 0 if ledger and audit and not failing(result) else 1


@contextlib.contextmanager
def environment(runtime: Runtime) -> Iterator[None]:
    """The runtime's environment as this process's own, for settings that read it."""
    before = dict(os.environ)
    os.environ.update(runtime.env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    raise SystemExit(main())
