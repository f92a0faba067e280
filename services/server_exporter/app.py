"""Composition root of the exporter: a loop for each server, so that one that hangs delays no other."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis.clickhouse import StoreUnavailableError, clickhouse
from chassis.unit import Unit, cancellable
from services.server_exporter import collect
from services.server_exporter.collect import ANSWER_S, Collected
from services.server_exporter.metrics import UP
from services.server_exporter.settings import ExporterSettings

NAME = "server_exporter"
ERRORS = (
    StoreUnavailableError,
    ServerException,
    KafkaError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)


async def export(unit: Unit, server: str, collecting: Callable[[], Awaitable[Collected]], interval_s: float) -> None:
    """Collect every interval until cancelled; while the server is down its values are removed."""
    up: bool | None = None
    collected: Collected = {}
    while True:
        error = ""
        try:
            async with asyncio.timeout(ANSWER_S):
                collected = await collecting()
        except ERRORS as failure:
            error = repr(failure)[:300]
            collected = {metric: [] for metric in collected}
            unit.metrics.connection_failed(server)
        for metric, series in collected.items():
            unit.metrics.replace(metric, series)
        unit.metrics[UP].set({"server": server}, int(not error))
        if up != (not error):
            unit.log.info("server_state", server=server, state="DOWN" if error else "UP", error=error)
        up = not error
        await asyncio.sleep(interval_s)


async def main(unit: Unit, settings: ExporterSettings) -> None:
    """Export until cancelled. It is ready at once: that a server is unavailable is what it reports."""
    async with clickhouse(settings.clickhouse, 1, ANSWER_S) as store, asyncio.TaskGroup() as tasks:
        servers: dict[str, Callable[[], Awaitable[Collected]]] = {
            "clickhouse": lambda: collect.clickhouse(store, settings.ranking.lengths),
            "postgres": lambda: collect.postgres(settings.postgres),
            "kafka": lambda: collect.kafka(settings.kafka),
            "disk": lambda: collect.disk(settings.disk),
        }
        for server, collecting in servers.items():
            tasks.create_task(cancellable(export(unit, server, collecting, settings.interval_s)))
