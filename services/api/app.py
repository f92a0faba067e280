"""Composition root of the API: the application, its server, and the watch over what it needs."""

import asyncio
from collections.abc import Sequence

from fastapi import FastAPI
from starlette.types import ASGIApp

from chassis.asgi import listen, serve
from chassis.clickhouse import SETTING, ClickHouse, clickhouse
from chassis.datasets import Datasets, clickhouse_dataset
from chassis.unit import Unit, cancellable
from contracts.windows import WindowLength, tables
from services.api import routes
from services.api.health import Check, KafkaProbe, clickhouse_check
from services.api.middleware import Observed
from services.api.problems import install
from services.api.settings import ApiSettings
from services.api.store import TABLES

NAME = "api"
WATCH_S = 2.0


def datasets(settings: ApiSettings) -> Datasets:
    """The tables that are read."""
    read = [table for base in TABLES.values() for table in tables(base, settings.ranking.lengths).values()]
    return Datasets(inputs=[clickhouse_dataset(settings.clickhouse, table) for table in (*read, "sales")])


def application(
    unit: Unit, store: ClickHouse, lengths: Sequence[WindowLength], clickhouse_state: Check, kafka_state: Check
) -> ASGIApp:
    """The whole HTTP application."""
    app = FastAPI(
        title="Placar", version="1", summary="Live, correct top-ten rankings of sales", redoc_url=None, docs_url=None
    )
    install(app, unit.log)
    app.include_router(routes.rankings(store, lengths))
    app.include_router(routes.operations(clickhouse_state, kafka_state, unit.metrics))
    app.include_router(routes.page())
    return Observed(app, unit.metrics)


async def watch(unit: Unit, settings: ApiSettings, checks: dict[str, Check]) -> None:
    """Keep the readiness true: not ready while a server is away, naming its address and setting."""
    places = {
        "clickhouse": (settings.clickhouse.address, SETTING),
        "kafka": (settings.kafka.bootstrap, "KAFKA_HOST, KAFKA_PORT"),
    }
    known: dict[str, str] = {}
    while True:
        for server, check in checks.items():
            state, why = await check.state()
            address, setting = places[server]
            if state == "UP":
                unit.readiness.met(server)
            else:
                unit.readiness.waiting(server, f"{server} at {address} (setting {setting}) is unreachable: {why}")
                unit.metrics.connection_failed(server)
            if known.get(server) != state:
                unit.log.info("server_state", server=server, state=state, address=address, setting=setting, error=why)
            known[server] = state
        await asyncio.sleep(WATCH_S)


async def main(unit: Unit, settings: ApiSettings) -> None:
    """Serve until cancelled. It serves from the start: what it cannot answer yet is a 503 problem.

    Raises:
        OSError: the port is in use.
    """
    for server in ("clickhouse", "kafka"):
        unit.readiness.waiting(server, "not asked yet")
    listener = listen(settings.bind_host, settings.port, "API_PORT")
    probe = KafkaProbe(settings.kafka)
    async with clickhouse(settings.clickhouse, settings.connections, settings.query_timeout_s) as store:
        checks = {"clickhouse": clickhouse_check(store), "kafka": probe.check()}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(cancellable(watch(unit, settings, checks)))
                app = application(unit, store, settings.ranking.lengths, *checks.values())
                tasks.create_task(serve(app, listener))
        finally:
            await probe.close()
