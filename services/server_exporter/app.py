"""Composition root of the exporter: a loop for each server, so that one that hangs stops no other."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis.clickhouse import ClickHouse, StoreUnavailableError
from chassis.clickhouse import clickhouse as store_of
from chassis.unit import Unit, cancellable
from services.server_exporter import looks
from services.server_exporter.looks import ANSWER_S, Found
from services.server_exporter.metrics import UP
from services.server_exporter.settings import ExporterSettings

NAME = "server_exporter"
AWAY = (
    StoreUnavailableError,
    ServerException,
    KafkaError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


async def keep_looking(unit: Unit, server: str, look: Callable[[], Awaitable[Found]], interval_s: float) -> None:
    """Look every interval until cancelled; while the server is down it is `down`, and its values are left out."""
    up: bool | None = None
    known: Found = {}
    while True:
        error = ""
        try:
            async with asyncio.timeout(ANSWER_S):
                known = await look()
        except AWAY as failure:
            error = repr(failure)[:300]
            known = {metric: [] for metric in known}
            unit.metrics.connection_failed(server)
        for metric, series in known.items():
            unit.metrics.replace(metric, series)
        unit.metrics[UP].set({"server": server}, int(not error))
        if up != (not error):
            unit.log.info("server_state", server=server, state="DOWN" if error else "UP", error=error)
        up = not error
        await asyncio.sleep(interval_s)


def servers(settings: ExporterSettings, store: ClickHouse) -> dict[str, Callable[[], Awaitable[Found]]]:
    """What is looked at, by name."""
    return {
        "clickhouse": lambda: looks.clickhouse(store, settings.ranking.lengths),
        "postgres": lambda: looks.postgres(settings.postgres),
        "kafka": lambda: looks.kafka(settings.kafka),
        "disk": lambda: looks.disk(settings.disk),
    }


async def main(unit: Unit, settings: ExporterSettings) -> None:
    """Export until cancelled. It is ready at once: a server that is unavailable is what it reports."""
    async with store_of(settings.clickhouse, 1, ANSWER_S) as store, asyncio.TaskGroup() as tasks:
        for server, look in servers(settings, store).items():
            tasks.create_task(cancellable(keep_looking(unit, server, look, settings.interval_s)))
