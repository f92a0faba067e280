"""`task bench:rankings`: what the ranking job costs, on a runtime of its own.

1. Catching up: `--changes` seeded changes are in `sales.unified` before the job is submitted; with `--windows`, sales
   that make so many windows. CPU seconds are those of both TaskManagers and their Python workers, from the submission
   to the last set, so with their start and warming up; the rate counts from the first running task.
2. Idle: the share of a core that these processes use for `--idle` seconds in which nothing is sold.
3. Live: `--rate` sales a second for `--live` seconds, of which twenty a second are probes with a name of their
   own, each timed from its acknowledgement by the broker until the set that holds it has been read.
4. Checkpoints: duration and size, as Flink reports them, of the last ten of 1 and of those of 3.

Ends with 1 when a set is not what the batch oracle makes of the same changes.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from contracts import codec
from contracts.catalogue import catalogue
from tests import oracle
from tests.performance.rankings_sales import HOURS, changes, spread
from tests.rankings import SALES, Reader, follower, jobs, registry_of
from tests.runtime import Runtime, start_runtime

PROBES = 20.0
"""Probes a second."""
TICK_S = 0.1
"""Sales of so many seconds are sold at once."""
SETTLED_S = 20.0
"""No set came for so long: the end. A checkpoint of a large state holds sets up for as long as 14 s."""


async def preload(producer: AIOKafkaProducer, encode: codec.Encoder, records: list[dict[str, Any]]) -> None:
    """Publish the records, each into the partition of its key, in whole batches."""
    partitions = sorted(await producer.partitions_for(SALES))
    batches = {partition: producer.create_batch() for partition in partitions}
    sent = []
    for number, record in enumerate(records, start=1):
        key = f"{record['source']}:{record['sale_id']}".encode()
        partition = partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]
        value = encode(record)
        if batches[partition].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches[partition], SALES, partition=partition))
            batches[partition] = producer.create_batch()
            batches[partition].append(key=key, value=value, timestamp=None)
        if number % 100_000 == 0:
            say(f"preloaded {number:,} of {len(records):,} changes")
    for partition, batch in batches.items():
        if batch.record_count():
            sent.append(await producer.send_batch(batch, SALES, partition=partition))
    await asyncio.gather(*sent)


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


@dataclass
class Cpu:
    """CPU seconds of the TaskManagers (java) and of their Python workers (python), also of those that ended."""

    runtime: Runtime
    seen: dict[tuple[int, float], tuple[str, float]] = field(default_factory=dict)

    def used(self) -> dict[str, float]:
        """Take in what every process has used so far; seconds by kind."""
        for process in psutil.process_iter(["cmdline", "environ", "create_time"]):
            environment = process.info["environ"] or {}
            if (
                environment.get("PLACAR_RUNTIME") != str(self.runtime.state_dir)
                or "PLACAR_TASKMANAGER" not in environment
            ):
                continue
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            kind = "java" if "java" in Path((process.info["cmdline"] or [""])[0]).name else "python"
            self.seen[process.pid, process.info["create_time"]] = (kind, times.user + times.system)
        return {kind: sum(seconds for of, seconds in self.seen.values() if of == kind) for kind in ("java", "python")}

    def memory(self) -> list[tuple[str, int]]:
        """Resident MiB of each process that still runs."""
        return sorted(
            (kind, psutil.Process(pid).memory_info().rss >> 20)
            for (pid, _), (kind, _) in self.seen.items()
            if psutil.pid_exists(pid)
        )


@dataclass(frozen=True)
class Flink:
    """Flink's REST API, for one job."""

    client: httpx.AsyncClient
    job_id: str

    async def get(self, path: str, **parameters: str) -> Any:
        """The answer to a request below the job's own path."""
        return (await self.client.get(f"/jobs/{self.job_id}{path}", params=parameters)).raise_for_status().json()

    async def read(self) -> int:
        """How many changes the job has read."""
        source = next(one for one in (await self.get(""))["vertices"] if one["name"].startswith("Source"))
        path = f"/vertices/{source['id']}/subtasks/metrics"
        names = [one["id"] for one in await self.get(path)]
        counter = next((name for name in names if re.fullmatch(r"Source__[^.]*\.numRecordsIn", name)), None)
        return int((await self.get(path, get=counter))[0]["sum"]) if counter else 0

    async def checkpoints(self) -> list[dict[str, Any]]:
        """The completed checkpoints that Flink still lists, the oldest first."""
        done = [one for one in (await self.get("/checkpoints"))["history"] if one["status"] == "COMPLETED"]
        return sorted(done, key=lambda one: int(one["id"]))


async def caught_up(reader: Reader, cpu: Cpu, flink: Flink, total: int) -> tuple[float, dict[str, float]]:
    """Read until every change is in and no set comes any more: when the last one came, and the CPU used by then."""
    last, used, count, reported = time.monotonic(), cpu.used(), 0, 0.0
    while True:
        await reader.poll()
        now = time.monotonic()
        have = sum(len(every) for every in reader.sets.values())
        if have > count:
            last, used, count = now, cpu.used(), have
        read = await flink.read()
        if now - reported > 5:
            reported = now
            say(f"the job has read {read:,} of {total:,} changes and published {have:,} sets")
        if read >= total and now - last > SETTLED_S:
            return last, used


async def submitted(runtime: Runtime, client: httpx.AsyncClient) -> tuple[Flink, float]:
    """Submit the job; it, and when the first of its tasks ran."""
    submission = asyncio.create_task(asyncio.to_thread(runtime.command, "run", "ranking-job"))
    while True:
        if submission.done() and submission.result().returncode:
            raise SystemExit(submission.result().stdout)
        for job in await jobs(runtime):
            if job["tasks"]["running"]:
                begun = time.monotonic()
                await submission
                return Flink(client, job["jid"]), begun
        await asyncio.sleep(0.05)


def right(reader: Reader, records: list[dict[str, Any]]) -> bool:
    """Whether the sets read are what the oracle makes of the records; says what differs."""
    differing = oracle.differences(oracle.expected(records), reader.served())
    for line in differing[:5]:
        say(line)
    say(f"{len(differing)} sets differ from the oracle's" if differing else "every set equals the oracle's")
    return not differing


def percentiles(values: list[float]) -> str:
    """p50, p95 and maximum of some numbers."""
    p95 = statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return f"p50 {statistics.median(values):.2f}, p95 {p95:.2f}, max {max(values):.2f}"


def say_checkpoints(when: str, done: list[dict[str, Any]]) -> None:
    """Duration and size of the checkpoints."""
    if not done:
        say(f"no checkpoint {when}")
        return
    seconds = percentiles([one["end_to_end_duration"] / 1000 for one in done])
    written = percentiles([one["checkpointed_size"] / 1e6 for one in done])
    say(f"{len(done)} checkpoints {when}: seconds {seconds}; written by each: MB {written}")


async def live(
    producer: AIOKafkaProducer, encode: codec.Encoder, reader: Reader, rate: float, seconds: float
) -> tuple[list[float], list[dict[str, Any]]]:
    """Sell at `rate`; the latency in seconds of every probe, and what was sold."""
    sold: list[dict[str, Any]] = []
    waiting: dict[str, float] = {}
    latencies: list[float] = []
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    source = changes(int(rate * seconds), 8, hour)
    # a window of its own for every probe of some minutes, so that all of them have a rank
    probed = [hour - timedelta(days=20, hours=number) for number in range(500)]

    async def sell() -> None:
        begun = time.monotonic()
        every = max(10, round(rate / PROBES))
        for number, sale in enumerate(source):
            if (ahead := begun + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(max(ahead, TICK_S))
            now = datetime.now(UTC)
            record = {**sale, "sale_id": f"live-{sale['sale_id']}", "event_time": now, "ingestion_time": now}
            probe = number % every == 0
            if probe:
                record |= {
                    "sale_id": f"probe-{number}",
                    "city": f"Sonda {number}",
                    "event_time": probed[(number // every) % len(probed)],
                    "amount": Decimal(1_000_000),  # in the first ten, whatever else the window has
                    "deleted": False,
                }
            sold.append(record)
            key = f"{record['source']}:{record['sale_id']}".encode()
            delivery = await producer.send(SALES, encode(record), key=key)
            if probe:
                await delivery
                waiting[record["city"]] = time.monotonic()

    seen = {key: len(every) for key, every in reader.sets.items()}
    selling = asyncio.create_task(sell())
    end = time.monotonic() + seconds + 30
    while not (selling.done() and not waiting) and time.monotonic() < end:
        await reader.poll(20)
        now = time.monotonic()
        for key, every in reader.sets.items():
            for one in every[seen.get(key, 0) :]:
                for entry in one["entries"]:
                    if (since := waiting.pop(entry["name"], None)) is not None:
                        latencies.append(now - since)
            seen[key] = len(every)
    await selling
    if waiting:
        say(f"{len(waiting)} probes never came")
    return latencies, sold


def say_cpu(what: str, before: Mapping[str, float], after: Mapping[str, float], count: int) -> None:
    """CPU seconds between two moments, and for each of `count` changes."""
    java, python = after["java"] - before["java"], after["python"] - before["python"]
    each = (java + python) / count * 1e6
    say(f"CPU {what}: {java:.1f} s Java + {python:.1f} s Python = {each:.0f} µs a change")


async def say_idle(cpu: Cpu, seconds: float) -> None:
    """The share of a core that goes into nothing."""
    begun, before = time.monotonic(), cpu.used()
    await asyncio.sleep(seconds)
    after, passed = cpu.used(), time.monotonic() - begun
    java, python = ((after[kind] - before[kind]) / passed for kind in ("java", "python"))
    say(f"idle for {passed:.0f} s: {java:.4f} Java + {python:.4f} Python = {java + python:.4f} of a core")


def say_gaps(sets: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """How soon one set of a window follows another."""
    gaps = [(later["as_of"] - earlier["as_of"]).total_seconds() for every in sets for earlier, later in pairwise(every)]
    say(f"seconds between two sets of one window: least {min(gaps):.2f}, median {statistics.median(gaps):.2f}")


async def measure(runtime: Runtime, arguments: argparse.Namespace) -> bool:
    """All four parts; whether every set was right."""
    encode = await codec.encoder(registry_of(runtime), catalogue()[SALES])
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    if arguments.windows:
        records = list(spread(arguments.windows, hour))
    else:
        records = list(changes(arguments.changes, arguments.seed, hour - timedelta(hours=HOURS)))
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", linger_ms=5)
    await producer.start()
    cpu = Cpu(runtime)
    try:
        await preload(producer, encode, records)
        base = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as client, follower(runtime) as reader:
            before = cpu.used()
            flink, begun = await submitted(runtime, client)
            ended, used = await caught_up(reader, cpu, flink, len(records))
            count, seconds = len(records), ended - begun
            say(f"caught up: {count:,} changes in {seconds:.1f} s, {count / seconds:,.0f}/s")
            say(f"windows: {len(reader.sets):,}")
            say_cpu("catching up", before, used, count)
            say(f"resident MiB: {cpu.memory()}")
            ok = right(reader, records)
            behind = await flink.checkpoints()
            last = max((one["id"] for one in behind), default=0)
            await say_idle(cpu, arguments.idle)
            before_live = {key: len(every) for key, every in reader.sets.items()}
            before = cpu.used()
            latencies, sold = await live(producer, encode, reader, arguments.rate, arguments.live)
            _, used = await caught_up(reader, cpu, flink, count + len(sold))
            say(f"live at {arguments.rate:g}/s, {len(latencies)} probes, seconds to the set: {percentiles(latencies)}")
            say_cpu("live", before, used, len(sold))
            say_gaps([every[before_live.get(key, 0) :] for key, every in reader.sets.items()])
            done = await flink.checkpoints()
            say_checkpoints("catching up", behind)
            say_checkpoints("live", [one for one in done if one["id"] > last])
            size, alive = done[-1]["state_size"], len(oracle.current(records))
            say(f"whole state {size / 1e6:.1f} MB for {alive:,} live sales = {size / alive:.0f} bytes each")
            return right(reader, records + sold) and ok
    finally:
        await producer.stop()


def main() -> int:
    """Parse arguments, measure, print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--windows", type=int, default=0, help="windows in the state, instead of the changes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=float, default=200.0, help="sales a second, live")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds without sales")
    parser.add_argument("--live", type=float, default=60.0, help="seconds of live sales")
    arguments = parser.parse_args()
    needed = ("contracts", "jobmanager", "taskmanager1", "taskmanager2")
    with tempfile.TemporaryDirectory() as folder, start_runtime(Path(folder), needed) as runtime:
        return 0 if asyncio.run(measure(runtime, arguments)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
