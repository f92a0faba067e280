"""The part of `task bench:streams` at a steady rate: what the service cdc costs, fed with Debezium's envelopes.

The changes are published as they fall due, whatever the service does; each is timed from then until it has been read
from `sales.unified`. CPU is what the service (and, beside it, the broker) used for them, waking up included.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from schema_registry.client import AsyncSchemaRegistryClient

from chassis import kafka
from chassis.kafka import Record
from chassis.stream import BATCH_RECORDS
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Encoder
from tests.connected.capture.debezium import listener
from tests.connected.unit_process import UnitProcess, unit_process
from tests.performance.catch_up import UNIFIED, say
from tests.rankings import registry_of
from tests.runtime import ROOT, Runtime

RAW = "sales.postgres"
SCHEMA = Path(__file__).with_name("debezium.avsc")
TICK_S = 0.005  # changes of so long are handed to the producer together
WARM_S = 5.0  # before what is counted
PATIENCE_S = 60.0
PRELOADED = 10_000  # published together
CITIES = ("São Paulo", "RIO DE JANEIRO", "Curitiba", "recife", "Fortaleza", "Niterói", "Campinas", "Salvador")


def row(number: int, now_ms: int) -> dict[str, Any]:
    """A row of the table sales, different for each number."""
    return {
        "id": number,
        "salesman_id": number % 997,
        "salesman": f"Vendedor {number % 997:03}",
        "city": CITIES[number % len(CITIES)],
        "country": "BR",
        "amount": Decimal(number % 9_999_900 + 100).scaleb(-2),
        "product": "Placa de vídeo",
        "sale_date": now_ms * 1000,
    }


def change(number: int, now_ms: int) -> dict[str, Any]:
    """What Debezium writes of a sale: of 20 one is updated and one is deleted, the others are new."""
    op = {18: "u", 19: "d"}.get(number % 20, "c")
    image, lsn = row(number, now_ms), 24_000_000 + number * 240
    return {
        "before": None if op == "c" else image,
        "after": None if op == "d" else image,
        "source": {
            "version": "3.7.0.Final",
            "connector": "postgresql",
            "name": "placar",
            "ts_ms": now_ms,
            "snapshot": "false",
            "db": "sales",
            "sequence": f'["{lsn - 10_832}","{lsn}"]',
            "ts_us": now_ms * 1000,
            "ts_ns": now_ms * 1_000_000,
            "schema": "public",
            "table": "sales",
            "txId": 700 + number // 100,
            "lsn": lsn,
        },
        "op": op,
        "ts_ms": now_ms,
        "ts_us": now_ms * 1000,
        "ts_ns": now_ms * 1_000_000,
    }


async def debezium(client: AsyncSchemaRegistryClient) -> Encoder:
    """An encoder of the envelope with the schema that Debezium registers."""
    schema = orjson.loads(SCHEMA.read_bytes())
    schema_id, parsed = await client.register(catalogue()[RAW].subject, schema), codec.parse(schema)
    return lambda record: codec.encode_body(schema_id, parsed, record)


@dataclass(frozen=True)
class Used:
    """CPU seconds of service and broker and the service's batches, all since they started."""

    cpu_s: float
    broker_s: float
    batches: float

    @classmethod
    async def of(cls, worker: UnitProcess, broker: psutil.Process) -> "Used":
        """Until now."""
        cpu_s, broker_s = (sum(one.cpu_times()[:2]) for one in (psutil.Process(worker.pid), broker))
        samples = await worker.samples()
        return cls(
            cpu_s, broker_s, sum(n for name, n in samples.items() if name.startswith(f"{BATCH_RECORDS.name}_count"))
        )


@dataclass(frozen=True)
class Live:
    """What a run cost: CPU in µs per sale of service and broker, sales in a batch, and seconds until each was read."""

    cpu_us: float
    broker_us: float
    batch: float
    latencies: Sequence[float]

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        return (
            f"{self.cpu_us:6.1f} µs CPU a sale, broker {self.broker_us:5.1f}, {self.batch:4.0f} sales a batch, "
            f"latency p50 {cuts[49] * 1000:.0f} p95 {cuts[94] * 1000:.0f} max {max(self.latencies) * 1000:.0f} ms"
        )


async def preload(producer: AIOKafkaProducer, encode: Encoder, count: int) -> None:
    """Publish so many changes at once."""
    now_ms, base = time.time_ns() // 1_000_000, 10**9
    for first in range(0, count, PRELOADED):
        numbers = range(first, min(count, first + PRELOADED))
        changes = (Record(RAW, b"%d" % n, encode(change(base + n, now_ms))) for n in numbers)
        await kafka.publish(producer, changes)


@asynccontextmanager
async def reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of what is published to `sales.unified` from now on."""
    client = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="latest")
    await client.start()
    try:
        client.assign([TopicPartition(UNIFIED, number) for number in range(catalogue()[UNIFIED].partitions)])
        await client.seek_to_end()
        yield client
    finally:
        await client.stop()


class Sales:
    """Changes that are published as they fall due, and when each was due and read."""

    def __init__(self, producer: AIOKafkaProducer, encode: Encoder, rate: float) -> None:
        self._producer = producer
        self._encode = encode
        self._rate = rate
        self._base = int(time.time()) % 10**6 * 10**6  # no id comes twice, and the positions in the log grow
        self._begun = time.monotonic()
        self.sent = 0
        self.due: dict[bytes, float] = {}
        self.read: dict[bytes, float] = {}

    async def publish(self, count: int) -> None:
        """Publish until there are `count`."""
        pending = []
        while self.sent < count:
            await asyncio.sleep(max(0.0, self._begun + self.sent / self._rate + TICK_S - time.monotonic()))
            now_ms, due = time.time_ns() // 1_000_000, int((time.monotonic() - self._begun) * self._rate)
            for number in range(self.sent, min(count, due)):
                identity = self._base + number
                self.due[f"postgres:{identity}".encode()] = self._begun + number / self._rate
                value = self._encode(change(identity, now_ms))
                pending.append(await self._producer.send(RAW, value, key=b"%d" % identity))
                self.sent += 1
        await asyncio.gather(*pending)

    async def follow(self, consumer: AIOKafkaConsumer, count: int) -> None:
        """Read until `count` have come."""
        while len(self.read) < count:
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                now = time.monotonic()
                self.read.update((message.key, now) for message in messages if message.key in self.due)


async def live(
    port: str, producer: AIOKafkaProducer, encode: Encoder, worker: UnitProcess, *, rate: float, seconds: float
) -> Live:
    """Publish at the rate, for WARM_S seconds and then for those that are counted.

    Raises:
        SystemExit: a sale is missing.
    """
    broker, warm, total = listener(port), int(rate * WARM_S), int(rate * (WARM_S + seconds))
    async with reader(f"127.0.0.1:{port}") as consumer:
        sales = Sales(producer, encode, rate)
        following = asyncio.create_task(sales.follow(consumer, total))
        await sales.publish(warm)
        before = await Used.of(worker, broker)
        await sales.publish(total)
        try:
            await asyncio.wait_for(following, PATIENCE_S)
        except TimeoutError:
            raise SystemExit(f"{total - len(sales.read):,} of {total:,} sales never came") from None
        after = await Used.of(worker, broker)
    counted = total - warm
    return Live(
        (after.cpu_s - before.cpu_s) / counted * 1e6,
        (after.broker_s - before.broker_s) / counted * 1e6,
        counted / (after.batches - before.batches),
        [at - sales.due[key] for key, at in sales.read.items()][warm:],
    )


async def steady(
    runtime: Runtime, folder: Path, rates: Sequence[float], *, seconds: float, rounds: int, against: Path | None
) -> bool:
    """All rates in turn, each with this source tree and, where one is given, with another beside it."""
    trees = {"before": against, "now": ROOT} if against else {"now": ROOT}
    port = runtime.env["KAFKA_PORT"]
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}")
    await producer.start()
    try:
        encode = await debezium(registry_of(runtime))
        runs: dict[tuple[float, str], list[Live]] = {(rate, name): [] for rate in rates for name in trees}
        for _ in range(rounds):
            for (rate, name), figures in runs.items():
                log = folder / f"{name}.log"
                async with unit_process("streams.cdc", runtime.env, log, wait=True, root=trees[name]) as worker:
                    figures.append(await live(port, producer, encode, worker, rate=rate, seconds=seconds))
                say(f"{name:<7}{rate:6,.0f}/s {figures[-1]}")
        for (rate, name), figures in runs.items():
            say(f"median {name:<7}{rate:6,.0f}/s {statistics.median(one.cpu_us for one in figures):6.1f} µs CPU a sale")
    finally:
        await producer.stop()
    return True
