"""`task bench:scale`: what a second process of a service adds, on servers of its own.

`--changes` changes of sales are in `sales.postgres`. In each round they are read from the first by one worker of `cdc`
and by two, and then what these published is read by one `clickhouse_sink` and by two. Rate and CPU are those between
the tenth part and the last record; CPU is that of the workers alone. Broker, ClickHouse and this program share the
machine, so two workers gain at most what these leave free: the CPU per change says what a further core would bring.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests.connected.unit_process import unit_process
from tests.performance.catch_up import UNIFIED, Figures, follow, median, rewind, say, show, total
from tests.performance.streams_live import RAW, debezium, preload
from tests.rankings import registry_of
from tests.runtime import Runtime, start_runtime

SINK = "clickhouse_sink"


@dataclass(frozen=True)
class Service:
    """A service and what it has to do: the records of a topic, and how many of them are done."""

    module: str
    topic: str
    records: int
    done: Callable[[], Awaitable[int]]

    @property
    def name(self) -> str:
        """The service's name, which is its group's."""
        return self.module.rpartition(".")[2]


async def caught_up(runtime: Runtime, folder: Path, service: Service, count: int) -> Figures:
    """One catch-up from the topic's first record by so many workers, measured from when all of them have a share."""
    await rewind(runtime.env["KAFKA_PORT"], service.name, service.topic)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(
                unit_process(service.module, runtime.env, folder / f"{service.name}-{number}.log")
            )
            for number in range(count)
        ]

        async def ready() -> bool:
            return all([await worker.ready() for worker in workers])

        processes = [psutil.Process(worker.pid) for worker in workers]
        return await follow(service.done, service.records, processes, ready)


async def measure(runtime: Runtime, arguments: argparse.Namespace, folder: Path) -> None:
    """All rounds, and what the second worker added."""
    bootstrap = f"127.0.0.1:{runtime.env['KAFKA_PORT']}"
    producer, watcher = AIOKafkaProducer(bootstrap_servers=bootstrap), AIOKafkaConsumer(bootstrap_servers=bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    runs: dict[tuple[str, int], list[Figures]] = {}

    async def stored() -> int:
        offsets = await admin.list_consumer_group_offsets(SINK)
        return sum(max(0, one.offset) for partition, one in offsets.items() if partition.topic == UNIFIED)

    async def run(service: Service) -> None:
        for count in (1, 2):
            figures = await caught_up(runtime, folder, service, count)
            runs.setdefault((service.name, count), []).append(figures)
            show(f"{service.name} ×{count}", figures)

    await asyncio.gather(producer.start(), watcher.start(), admin.start())
    try:
        await preload(producer, await debezium(registry_of(runtime)), arguments.changes)
        say(f"preloaded {arguments.changes:,} changes")
        for _ in range(arguments.rounds):
            await run(Service("streams.cdc", RAW, arguments.changes, partial(total, watcher)))
            await run(Service(f"services.{SINK}", UNIFIED, await total(watcher), stored))
    finally:
        await asyncio.gather(producer.stop(), watcher.stop(), admin.close())
    for name in ("cdc", SINK):
        one, two = median(runs[name, 1]), median(runs[name, 2])
        say(
            f"{name}: one {one.rate:,.0f}/s at {one.cpu_us:.1f} µs, two {two.rate:,.0f}/s at {two.cpu_us:.1f} µs, "
            f"{two.rate / one.rate:.2f} times; a core of its own does {1e6 / one.cpu_us:,.0f}/s"
        )


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    needed = ("contracts", "tables")
    with tempfile.TemporaryDirectory() as folder, start_runtime(Path(folder) / "state", needed) as runtime:
        asyncio.run(measure(runtime, arguments, Path(folder)))


if __name__ == "__main__":
    main()
