"""`task bench:streams`: what a streams unit costs, on a broker of its own and beside a bare loop that does the same.

1. Catching up: `--changes` sales are in `sales.legacy`; in each round they are read from the first by a bare aiokafka
   loop (consume, decode, transform, encode, publish, commit), by one worker of the unit `legacy`, by one without its
   metrics, and by two. Rate and CPU are those between the tenth part and the last record, as the ends of
   `sales.unified` tell; CPU is that of the consuming processes alone, and of a worker all that it does besides, its
   operations port included.
2. Decode, transform and encode alone, CPU per record, in this process.

With `--rate` instead, such as `--rate 1000,3000`: what the unit `cdc` costs while so many sales a second come for
`--seconds` (tests/performance/streams_live.py), with `--against` beside the unit of another source tree, in turn.

With `--peers` instead: the work of the unit `cdc` in other libraries beside ours (tests/performance/streams_peers.py).

With `--lineage` instead: catching up by one worker in turn without lineage, with a lineage server that rejects
connections, and with one that takes them and never answers, an event each second (60 times as many as by default).

Everything shares the machine: broker, workers and this program. Ends with 1 when a record is missing.
"""

import argparse
import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
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
from tests.performance.catch_up import Figures, follow, median, rewind, say, show, total
from tests.performance.streams_live import steady
from tests.performance.streams_peers import beside
from tests.rankings import registry_of
from tests.runtime import Runtime, start_runtime

RAW, UNIFIED, GROUP = "sales.legacy", "sales.unified", "legacy"
BATCH = 1000
ALONE = 20_000
CITIES = ("São Paulo", "RIO DE JANEIRO", "Curitiba", "recife", "Fortaleza", "Niterói", "Campinas", "Salvador")


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


class Bench:
    """A runtime, what is in its raw topic, and one consumer that follows the ends of `sales.unified`."""

    def __init__(self, runtime: Runtime, count: int, watcher: AIOKafkaConsumer) -> None:
        self._runtime = runtime
        self._count = count
        self._watcher = watcher

    async def bare(self, number: int) -> Figures:
        """One catch-up of the bare loop."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __spec__.name, "--bare", f"bare-{number}", env=dict(self._runtime.env)
        )
        try:
            return await follow(partial(total, self._watcher), self._count, [psutil.Process(process.pid)])
        finally:
            process.terminate()
            await process.wait()

    @asynccontextmanager
    async def workers(
        self, count: int, folder: Path, module: str = "streams.legacy", **more: str
    ) -> AsyncIterator[list[UnitProcess]]:
        """That many workers of the unit, from the first record on; `more` are further environment variables."""
        await rewind(self._runtime.env["KAFKA_PORT"], GROUP, RAW)
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

            return await follow(
                partial(total, self._watcher), self._count, [psutil.Process(worker.pid) for worker in workers], ready
            )


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
    """What was asked for; whether every record arrived."""
    if arguments.rate:
        return await steady(
            runtime,
            folder,
            arguments.rate,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            against=arguments.against,
        )
    if arguments.peers:
        return await beside(runtime, folder, arguments.changes, arguments.rounds)
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
        return True
    finally:
        await producer.stop()
        await watcher.stop()


def rates(text: str) -> tuple[float, ...]:
    """Rates, separated by commas."""
    return tuple(map(float, text.split(",")))


def main() -> int:
    """Parse arguments, measure, print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=2, help="of everything, in turn")
    parser.add_argument("--rate", type=rates, default=(), help="sales a second, one rate after the other; only that")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another source tree, in turn with this")
    parser.add_argument(
        "--lineage", action="store_true", help="what a lineage server costs that is unavailable; only that"
    )
    parser.add_argument("--peers", action="store_true", help="cdc's work in other libraries beside ours; only that")
    parser.add_argument("--bare", metavar="GROUP", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        asyncio.run(bare(arguments.bare))
    addresses = {"KAFKA_HOST": "127.0.0.1", "SCHEMA_REGISTRY_HOST": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder, start_runtime(Path(folder), ("contracts",), addresses) as runtime:
        return 0 if asyncio.run(measure(runtime, arguments, Path(folder))) else 1


if __name__ == "__main__":
    raise SystemExit(main())
