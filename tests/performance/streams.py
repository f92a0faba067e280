"""`task bench:streams`: what a streams unit costs, on a broker of its own and beside a bare loop that does the same.

1. Catching up: `--changes` sales are in `sales.legacy`; in each round they are read from the first by a bare aiokafka
   loop (consume, decode, transform, encode, publish, commit), by one worker of the unit `legacy`, by one without its
   metrics, and by two. Rate and CPU are those between the tenth part and the last record, as the ends of
   `sales.unified` tell; CPU is that of the consuming processes alone, and of a worker all that it does besides, its
   operations port included.
2. Live: `--rate` sales a second for `--live` seconds; each is timed from its acknowledgement by the broker until it has
   been read from `sales.unified`.
3. Decode, transform and encode alone, CPU per record, in this process.

With `--lineage` instead: catching up by one worker in turn without lineage, with a lineage server that rejects
connections, and with one that takes them and never answers, an event each second (60 times as many as by default).

Everything shares the machine: broker, workers and this program. Ends with 1 when a record is missing.
"""

import argparse
import asyncio
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2
from schema_registry.client import AsyncSchemaRegistryClient

from chassis.results import Context, Output
from chassis.settings import KafkaSettings, RegistrySettings, load
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Decoder
from streams.legacy.agents import agent
from streams.legacy.settings import Settings
from tests.connected.unit_process import UnitProcess, unit_process
from tests.rankings import registry_of
from tests.runtime import Runtime, start_runtime

RAW, UNIFIED, GROUP = "sales.legacy", "sales.unified", "legacy"
BATCH = 1000
PATIENCE_S = 1800.0
ALONE = 20_000
SETTLED_S = 1.0  # nothing more came for so long: the end
CITIES = ("São Paulo", "RIO DE JANEIRO", "Curitiba", "recife", "Fortaleza", "Niterói", "Campinas", "Salvador")


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


def sale(number: int, now: datetime) -> dict[str, Any]:
    """A sale of the legacy system, valid, different for each number."""
    return {
        "sale_id": f"L-{number}",
        "salesman_name": f"Vendedor {number % 997:03}",
        "city": CITIES[number % len(CITIES)],
        "country": "BR",
        "amount": f"{number % 9_999_900 / 100 + 1:.2f}",
        "product": "Placa de vídeo",
        "sale_date": 1_771_496_100_000 - number % 86_400_000,
        "fetched_at": now,
    }


async def preload(producer: AIOKafkaProducer, encode: codec.Encoder, count: int) -> None:
    """Publish `count` sales, each into the partition of its key, in whole batches."""
    partitions = sorted(await producer.partitions_for(RAW))
    batches = {partition: producer.create_batch() for partition in partitions}
    sent, now = [], datetime.now(UTC)
    for number in range(count):
        key = f"L-{number}".encode()
        partition = partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]
        value = encode(sale(number, now))
        if batches[partition].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches[partition], RAW, partition=partition))
            batches[partition] = producer.create_batch()
            batches[partition].append(key=key, value=value, timestamp=None)
        if (number + 1) % 500_000 == 0:
            say(f"preloaded {number + 1:,} of {count:,} sales")
    for partition, batch in batches.items():
        if batch.record_count():
            sent.append(await producer.send_batch(batch, RAW, partition=partition))
    await asyncio.gather(*sent)


async def bare(group: str) -> None:
    """The yardstick: the work of the unit in a plain aiokafka loop, until it is ended."""
    kafka, registry = load(KafkaSettings), load(RegistrySettings)
    client = AsyncSchemaRegistryClient(registry.url)
    decoder, transform = Decoder(client, catalogue()[RAW]), agent(Settings()).transform
    encode = await codec.encoder(client, catalogue()[UNIFIED])
    consumer = AIOKafkaConsumer(
        RAW,
        bootstrap_servers=kafka.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True, acks="all", linger_ms=5)
    await asyncio.gather(consumer.start(), producer.start())
    while True:
        sent, now = [], datetime.now(UTC)
        for messages in (await consumer.getmany(timeout_ms=1000, max_records=BATCH)).values():
            for message in messages:
                at = datetime.fromtimestamp(message.timestamp / 1000, UTC)
                result = transform(await decoder.decode(message.value), Context(now, at))
                assert isinstance(result, Output), result
                sent.append(await producer.send(UNIFIED, encode(result.value), key=result.key))
        if sent:
            await asyncio.gather(*sent)
            await consumer.commit()


@dataclass(frozen=True)
class Figures:
    """What was measured of a catch-up: events a second, CPU in µs per event, RSS in MiB at 10 %, half and the end."""

    rate: float
    cpu_us: float
    rss: tuple[int, int, int]


@dataclass(frozen=True)
class Mark:
    """A moment of a catch-up: records published by then, CPU seconds used and MiB resident."""

    at: float
    done: int
    cpu_s: float
    rss: int

    @classmethod
    def of(cls, at: float, done: int, processes: Sequence[psutil.Process]) -> "Mark":
        """What the processes have used at the moment."""
        used = sum(sum(process.cpu_times()[:2]) for process in processes)
        return cls(at, done, used, sum(process.memory_info().rss for process in processes) >> 20)


class Bench:
    """A runtime, what is in its raw topic, and one consumer that follows the ends of `sales.unified`."""

    def __init__(self, runtime: Runtime, count: int, watcher: AIOKafkaConsumer) -> None:
        self._runtime = runtime
        self._count = count
        self._watcher = watcher

    async def _published(self) -> int:
        partitions = [TopicPartition(UNIFIED, number) for number in range(catalogue()[UNIFIED].partitions)]
        return sum((await self._watcher.end_offsets(partitions)).values())

    async def _rewind(self) -> None:
        """Have the unit's group begin at the first record again."""
        client = AIOKafkaConsumer(
            bootstrap_servers=f"127.0.0.1:{self._runtime.env['KAFKA_PORT']}", group_id=GROUP, enable_auto_commit=False
        )
        await client.start()
        try:
            partitions = [TopicPartition(RAW, number) for number in range(catalogue()[RAW].partitions)]
            client.assign(partitions)
            await client.commit(await client.beginning_offsets(partitions))
        finally:
            await client.stop()

    async def _follow(
        self, processes: Sequence[psutil.Process], ready: Callable[[], Awaitable[bool]] | None = None
    ) -> Figures:
        """Measure until every record is published once more; from the tenth part on, and not before all are ready."""
        before = await self._published()
        marks: list[Mark] = []
        last, changed, end = before, time.monotonic(), time.monotonic() + PATIENCE_S
        while True:
            now, done = time.monotonic(), await self._published()
            if done > last:
                last, changed = done, now
                newest = Mark.of(now, done - before, processes)
            share = (done - before) / self._count
            if share >= (0.1, 0.5, 9)[len(marks)] and (marks or ready is None or await ready()):
                marks.append(newest)
            if share >= 1 and now - changed > SETTLED_S:
                break
            if now > end:
                raise SystemExit(f"only {done - before:,} of {self._count:,} records came within {PATIENCE_S:g} s")
            await asyncio.sleep(0.05)
        if len(marks) < 2:
            raise SystemExit("too few records to measure anything: give a larger --changes")
        first, half = marks
        events = newest.done - first.done
        return Figures(
            events / (newest.at - first.at),
            (newest.cpu_s - first.cpu_s) / events * 1e6,
            (first.rss, half.rss, newest.rss),
        )

    async def bare(self, number: int) -> Figures:
        """One catch-up of the bare loop."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __spec__.name, "--bare", f"bare-{number}", env=dict(self._runtime.env)
        )
        try:
            return await self._follow([psutil.Process(process.pid)])
        finally:
            process.terminate()
            await process.wait()

    @asynccontextmanager
    async def workers(
        self, count: int, folder: Path, module: str = "streams.legacy", **more: str
    ) -> AsyncIterator[list[UnitProcess]]:
        """That many workers of the unit, from the first record on; `more` are further environment variables."""
        await self._rewind()
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    unit_process(module, {**self._runtime.env, **more}, folder / f"worker-{number}.log")
                )
                for number in range(count)
            ]

    async def unit(self, count: int, folder: Path, module: str = "streams.legacy", **more: str) -> Figures:
        """One catch-up of that many workers."""
        async with self.workers(count, folder, module, **more) as workers:

            async def ready() -> bool:
                return all([await worker.ready() for worker in workers])

            return await self._follow([psutil.Process(worker.pid) for worker in workers], ready)

    async def live(self, producer: AIOKafkaProducer, encode: codec.Encoder, rate: float, seconds: float) -> list[float]:
        """Publish at `rate`; seconds from the acknowledgement of each sale until it has been read from the output."""
        acknowledged: dict[bytes, float] = {}
        seen: dict[bytes, float] = {}
        reader = AIOKafkaConsumer(
            UNIFIED, bootstrap_servers=f"127.0.0.1:{self._runtime.env['KAFKA_PORT']}", auto_offset_reset="latest"
        )
        await reader.start()
        await reader.seek_to_end()
        total = int(rate * seconds)

        async def read() -> None:
            end = time.monotonic() + seconds + 60
            while len(seen) < total and time.monotonic() < end:
                batches = await reader.getmany(timeout_ms=200)
                now = time.monotonic()
                for messages in batches.values():
                    seen.update((m.key, now) for m in messages if m.key.startswith(b"legacy:live-"))

        def acknowledge(key: bytes) -> Callable[[Any], None]:
            return lambda _: acknowledged.__setitem__(key, time.monotonic())

        reading = asyncio.create_task(read())
        begun, pending = time.monotonic(), []
        for number in range(total):
            record = {**sale(number, datetime.now(UTC)), "sale_id": f"live-{number}"}
            sent = await producer.send(RAW, encode(record), key=f"live-{number}".encode())
            sent.add_done_callback(acknowledge(f"legacy:live-{number}".encode()))
            pending.append(sent)
            if number % 20 == 19:
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        await asyncio.gather(*pending)
        took = time.monotonic() - begun
        await reading
        await reader.stop()
        say(f"live: {total:,} sales at {total / took:,.0f}/s, {total - len(seen)} never came")
        return [seen[key] - acknowledged[key] for key in seen]


async def alone(client: AsyncSchemaRegistryClient) -> dict[str, float]:
    """CPU in µs per record of each step by itself, on batches as large as the unit's."""
    write = await codec.encoder(client, catalogue()[RAW])
    encode = await codec.encoder(client, catalogue()[UNIFIED])
    decoder, transform = Decoder(client, catalogue()[RAW]), agent(Settings()).transform
    now = datetime.now(UTC)
    spent = dict.fromkeys(("decode", "transform", "encode"), 0.0)
    for first in range(0, ALONE, BATCH):
        payloads = [write(sale(number, now)) for number in range(first, first + BATCH)]
        await decoder.decode(payloads[0])
        times = [time.process_time()]
        records = [await decoder.decode(payload) for payload in payloads]
        times.append(time.process_time())
        outputs = [transform(record, Context(now, now)) for record in records]
        times.append(time.process_time())
        for output in outputs:
            assert isinstance(output, Output)
            encode(output.value)
        times.append(time.process_time())
        for step, before, after in zip(spent, times, times[1:], strict=False):
            spent[step] += after - before
    return {step: seconds / ALONE * 1e6 for step, seconds in spent.items()}


def median(figures: Sequence[Figures]) -> Figures:
    """The figures of the run with the median rate."""
    return sorted(figures, key=lambda one: one.rate)[(len(figures) - 1) // 2]


def show(name: str, figures: Figures) -> None:
    """One run; RSS at 10 %, at half and at the end."""
    rss = " → ".join(str(one) for one in figures.rss)
    say(f"{name:<12} {figures.rate:8,.0f} events/s {figures.cpu_us:6.1f} µs CPU an event, RSS {rss} MiB")


async def lineage(bench: Bench, rounds: int, folder: Path) -> bool:
    """What a lineage server costs that is unavailable."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ways = {
            "no lineage": {"LINEAGE_TRANSPORT": "off"},
            "rejects": {"LINEAGE_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"},
            "never answers": {"LINEAGE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"},
        }
        runs: dict[str, list[Figures]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                options = {"LINEAGE_TRANSPORT": "http", "LINEAGE_INTERVAL_S": "1", **way}
                runs[name].append(await bench.unit(1, folder, **options))
                show(name, runs[name][-1])
    plain, *others = (median(figures) for figures in runs.values())
    for name, other in zip(list(runs)[1:], others, strict=True):
        change = 100 * (other.rate / plain.rate - 1)
        say(f"{name}: {change:+.1f} % rate, {other.cpu_us - plain.cpu_us:+.1f} µs CPU an event")
    return True


async def measure(runtime: Runtime, arguments: argparse.Namespace, folder: Path) -> bool:
    """All parts; whether every record arrived."""
    bootstrap = f"127.0.0.1:{runtime.env['KAFKA_PORT']}"
    client = registry_of(runtime)
    encode = await codec.encoder(client, catalogue()[RAW])
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    watcher = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await asyncio.gather(producer.start(), watcher.start())
    try:
        for step, cost in (await alone(client)).items():
            say(f"{step:<10} {cost:5.1f} µs CPU a record")
        await preload(producer, encode, arguments.changes)
        bench = Bench(runtime, arguments.changes, watcher)
        if arguments.lineage:
            return await lineage(bench, arguments.rounds, folder)
        runs: dict[str, list[Figures]] = {name: [] for name in ("bare loop", "one worker", "no metrics", "two workers")}
        for number in range(arguments.rounds):
            runs["bare loop"].append(await bench.bare(number))
            runs["one worker"].append(await bench.unit(1, folder))
            runs["no metrics"].append(await bench.unit(1, folder, "tests.performance.unmeasured"))
            runs["two workers"].append(await bench.unit(2, folder))
            for name, figures in runs.items():
                show(name, figures[-1])
        plain, one, unmeasured, two = (median(figures) for figures in runs.values())
        say(f"one worker / bare loop: {one.rate / plain.rate:.2f}; two workers / one: {two.rate / one.rate:.2f}")
        cost = one.cpu_us / unmeasured.cpu_us - 1
        say(f"with metrics / without: rate {one.rate / unmeasured.rate:.3f}, CPU an event {cost:+.1%}")
        if arguments.live <= 0:
            return True
        async with unit_process("streams.legacy", runtime.env, folder / "live.log", wait=True):
            latencies = await bench.live(producer, encode, arguments.rate, arguments.live)
        cuts = statistics.quantiles(latencies, n=100, method="inclusive")
        shown = ", ".join(f"p{percent} {cuts[percent - 1]:.3f}" for percent in (50, 95, 99))
        say(f"live latency, seconds: {shown}, max {max(latencies):.3f}")
        return len(latencies) == int(arguments.rate * arguments.live)
    finally:
        await producer.stop()
        await watcher.stop()


def main() -> int:
    """Parse arguments, measure, print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=2, help="each of the four, in turn")
    parser.add_argument("--rate", type=float, default=2000.0, help="sales a second, live")
    parser.add_argument("--live", type=float, default=60.0, help="seconds of live sales; 0: none")
    parser.add_argument(
        "--lineage", action="store_true", help="what a lineage server costs that is unavailable; only that"
    )
    parser.add_argument("--bare", metavar="GROUP", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        asyncio.run(bare(arguments.bare))
    addresses = {"KAFKA_HOST": "127.0.0.1", "SCHEMA_REGISTRY_HOST": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder, start_runtime(Path(folder), ("contracts",), addresses) as runtime:
        return 0 if asyncio.run(measure(runtime, arguments, Path(folder))) else 1


if __name__ == "__main__":
    raise SystemExit(main())
