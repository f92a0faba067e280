"""`task bench:sink`: what the sink costs while sales come one by one, on servers of its own.

`--rate` sales a second come in batches of 20 ms, spread over the partitions by their keys, beside `--sets` ranking sets
a second, one at a time, whatever the sink does (an open loop). After three seconds its CPU and ClickHouse's are counted
for `--seconds`; the delays are from a record's timestamp in its topic to its confirmed insert, as its metrics tell.
`--baseline FOLDER` measures the sink of another source tree too, in turn with this one, `--rounds` times.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer

from contracts import codec
from contracts.catalogue import catalogue
from services.clickhouse_sink.metrics import DELAY
from tests.connected.conftest import ENVIRONMENT
from tests.connected.serving import ranking_set
from tests.connected.unit_process import unit_process
from tests.rankings import registry_of
from tests.runtime import ROOT, Runtime, start_runtime

UNIFIED, SETS = "sales.unified", ("rankings.city", "rankings.salesman", "rankings.product")
BATCH_S, WARM_UP_S = 0.02, 3.0
CITIES = ("São Paulo", "Rio de Janeiro", "Curitiba", "Recife", "Fortaleza", "Niterói", "Campinas", "Salvador")


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


def sale(number: int, now: datetime) -> dict[str, Any]:
    """A sale of now; every twentieth is a new version of the one before it."""
    return {
        "sale_id": str(1_000_000 + number - (number % 20 == 0)),
        "source": "postgres",
        "salesman_name": f"Vendedora {number % 97:02}",
        "city": CITIES[number % len(CITIES)],
        "country": "BR",
        "amount": Decimal(number % 999_900 + 100) / 100,
        "product": "Placa de vídeo",
        "event_time": now,
        "ingestion_time": now,
        "version": 2**50 + number,
        "deleted": False,
    }


@dataclass(frozen=True)
class Figures:
    """Of one run: CPU in µs per sale of the sink and of ClickHouse, and mean delays in ms of sales and of sets."""

    sink_us: float
    clickhouse_us: float
    sales_ms: float
    sets_ms: float


class Load:
    """What is published: sales at a rate, and ranking sets beside them."""

    def __init__(self, producer: AIOKafkaProducer, encoders: Mapping[str, codec.Encoder]) -> None:
        self._producer = producer
        self._encoders = encoders
        self._numbers, self._revisions = count(1), count(1)

    async def sales(self, rate: float) -> None:
        """Publish until cancelled."""
        begun, sent = time.monotonic(), 0
        while True:
            await asyncio.sleep(BATCH_S)
            now = datetime.now(UTC)
            due = int((time.monotonic() - begun) * rate)
            for _ in range(due - sent):
                record = sale(next(self._numbers), now)
                key = f"postgres:{record['sale_id']}".encode()
                await self._producer.send(UNIFIED, self._encoders[UNIFIED](record), key=key)
            sent = due

    async def sets(self, rate: float) -> None:
        """Publish until cancelled."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        rng, begun = random.Random(7), time.monotonic()
        for number in count():
            await asyncio.sleep(max(0.0, begun + (number + rng.random()) / rate - time.monotonic()))
            topic = SETS[number % len(SETS)]
            start = hour - timedelta(hours=number % 2)
            country = "BR" if topic == "rankings.salesman" else ""
            record = ranking_set(topic, start, next(self._revisions), CITIES, country=country)
            await self._producer.send(topic, self._encoders[topic](record), key=f"{start}/{country}".encode())


def clickhouse(runtime: Runtime) -> psutil.Process:
    """The server's process."""
    config = str(runtime.state_dir / "conf" / "clickhouse" / "config.xml")
    (process,) = (p for p in psutil.process_iter(["cmdline"]) if f"--config-file={config}" in (p.info["cmdline"] or ()))
    return process


def delay(samples: Mapping[str, float], topics: tuple[str, ...]) -> tuple[float, float]:
    """Sum in seconds and number of the delays of these topics."""
    return tuple(
        sum(
            value
            for name, value in samples.items()
            for topic in topics
            if name.startswith(f"{DELAY.name}_{part}") and f'topic="{topic}"' in name
        )
        for part in ("sum", "count")
    )  # type: ignore[return-value]  # two parts


async def run(runtime: Runtime, load: Load, root: Path, arguments: argparse.Namespace, folder: Path) -> Figures:
    """One run of the sink of a source tree."""
    environment = {**runtime.env, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(root)}
    async with (
        unit_process("services.clickhouse_sink", environment, folder / "sink.log", wait=True) as unit,
        asyncio.TaskGroup() as tasks,
    ):
        publishing = [tasks.create_task(load.sales(arguments.rate)), tasks.create_task(load.sets(arguments.sets))]
        await asyncio.sleep(WARM_UP_S)
        processes = psutil.Process(unit.pid), clickhouse(runtime)

        async def mark() -> tuple[float, ...]:
            used = [sum(process.cpu_times()[:2]) for process in processes]
            samples = await unit.samples()
            return (*used, *delay(samples, (UNIFIED,)), *delay(samples, SETS))

        before = await mark()
        await asyncio.sleep(arguments.seconds)
        sink, server, sales_s, sales, sets_s, sets = (b - a for a, b in zip(before, await mark(), strict=True))
        for task in publishing:
            task.cancel()
    expected = arguments.rate * arguments.seconds
    if not 0.8 < sales / expected < 1.2:
        say(f"  {sales:,.0f} sales were written of about {expected:,.0f}: the sink or this program did not keep up")
    return Figures(sink / sales * 1e6, server / sales * 1e6, sales_s / sales * 1e3, sets_s / sets * 1e3)


async def measure(runtime: Runtime, arguments: argparse.Namespace, folder: Path) -> None:
    """The sinks in turn, and their medians."""
    roots = {"this": ROOT} | ({"baseline": arguments.baseline.resolve()} if arguments.baseline else {})
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", linger_ms=5)
    registry = registry_of(runtime)
    encoders = {topic: await codec.encoder(registry, catalogue()[topic]) for topic in (UNIFIED, *SETS)}
    await producer.start()
    load = Load(producer, encoders)
    runs: dict[str, list[Figures]] = {name: [] for name in roots}
    try:
        for _ in range(arguments.rounds):
            for name, root in roots.items():
                figures = await run(runtime, load, root, arguments, folder)
                runs[name].append(figures)
                say(
                    f"{name:<9} sink {figures.sink_us:5.1f} µs/sale, clickhouse {figures.clickhouse_us:5.1f} µs/sale,"
                    f" delay of sales {figures.sales_ms:6.0f} ms, of sets {figures.sets_ms:6.0f} ms"
                )
    finally:
        await producer.stop()
    for name, figures_of in runs.items():
        say(f"{name:<9} median of {len(figures_of)}: {statistics.median(f.sink_us for f in figures_of):.1f} µs/sale")


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=3000.0, help="sales a second")
    parser.add_argument("--sets", type=float, default=4.0, help="ranking sets a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baseline", type=Path, help="another source tree")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_runtime(Path(folder) / "state", ("contracts", "tables"), ENVIRONMENT) as runtime,
    ):
        asyncio.run(measure(runtime, arguments, Path(folder)))


if __name__ == "__main__":
    main()
