"""Composition root of the API: the application, its server, and the watch over what it needs."""

import asyncio
import gc
import resource

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.asgi import listen, serve
from chassis.clickhouse import SETTING, ClickHouse, clickhouse
from chassis.datasets import Datasets, clickhouse_dataset, topic_dataset
from chassis.unit import Unit, cancellable
from contracts.rankings import RANKINGS
from contracts.windows import tables, topics
from services.api import live, openapi, problems
from services.api.health import Check, KafkaProbe, clickhouse_check
from services.api.hub import Hub
from services.api.middleware import guarded
from services.api.routes import operations, page, rankings
from services.api.settings import ApiSettings
from services.api.store import Store

NAME = "api"
WATCH_S = 2.0
SPARE_FILES = 256  # beside the clients of the live stream
THREADS = 1  # of the store for a query: for ten rows more cost more than they bring, and no reader has all its cores


def datasets(settings: ApiSettings) -> Datasets:
    """The tables and topics that are read."""
    lengths = settings.ranking.lengths
    read = [table for ranking in RANKINGS for table in tables(ranking.table, lengths).values()]
    followed = [(topic, r.topic) for r in RANKINGS for topic in topics(r.topic, lengths).values()]
    return Datasets(
        inputs=[
            *(clickhouse_dataset(settings.clickhouse, table) for table in (*read, "sales")),
            *(topic_dataset(settings.kafka, topic, base) for topic, base in followed),
        ]
    )


def below(root_path: str, app: ASGIApp) -> ASGIApp:
    """The application below a path, whether or not the proxy before it leaves the path in the address."""

    async def stripped(scope: Scope, receive: Receive, send: Send) -> None:
        if f"{scope['path']}/".startswith(f"{root_path}/"):
            scope = {**scope, "path": scope["path"].removeprefix(root_path) or "/"}
        await app(scope, receive, send)

    return stripped if root_path else app


def application(
    unit: Unit,
    store: ClickHouse,
    settings: ApiSettings,
    clickhouse_state: Check,
    kafka_state: Check,
    *,
    stream: live.Live | None = None,
) -> ASGIApp:
    """The whole application; REST alone without the live stream."""
    app = FastAPI(
        title="Placar",
        version="1",
        summary="Live, correct top-ten rankings of sales",
        description=openapi.ABOUT,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        responses=openapi.common(),
        redoc_url=None,
        docs_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app, unit.log)
    reads = Store(store, settings)
    app.include_router(rankings.router(reads, [length.label for length in settings.ranking.lengths]))
    app.include_router(operations.router(reads, settings.fresh_s, clickhouse_state, kafka_state, unit.metrics))
    if stream is not None:
        app.include_router(live.routes(stream))
    app.include_router(page.router(settings.root_path, token=bool(settings.live_token.get_secret_value())))
    openapi.install(app)
    whole = live.with_sockets(guarded(app, unit.metrics, unit.log, settings), stream)
    return below(settings.root_path, whole)


async def watch(unit: Unit, settings: ApiSettings, clickhouse_state: Check, kafka_state: Check) -> None:
    """Keep the readiness true: not ready while a server is unavailable, naming its address and setting."""
    servers = {
        "clickhouse": (clickhouse_state, settings.clickhouse.address, SETTING),
        "kafka": (kafka_state, settings.kafka.bootstrap, "KAFKA_HOST, KAFKA_PORT"),
    }
    known: dict[str, str] = {}
    while True:
        for server, (check, address, setting) in servers.items():
            health = await check.health()
            if health.state == "UP":
                unit.readiness.met(server)
            else:
                why = f"{server} at {address} (setting {setting}) is unreachable: {health.why}"
                unit.readiness.waiting(server, why)
                unit.metrics.connection_failed(server)
            if known.get(server) != health.state:
                now = {"server": server, "state": health.state, "address": address, "setting": setting}
                unit.log.info("server_state", **now, error=health.why or "")
            known[server] = health.state
        await asyncio.sleep(WATCH_S)


def allow_connections(unit: Unit, count: int) -> None:
    """Raise this process's limit of open files so that so many clients may connect, as far as the system allows."""
    need = count + SPARE_FILES
    allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(need, hard), hard))
    if hard < need:
        remedy = "raise the hard limit (ulimit -n), or lower API_LIVE_CONNECTIONS"
        unit.log.warning("nofile_limit_low", limit=hard, needed=need, remedy=remedy)


async def main(unit: Unit, settings: ApiSettings) -> None:
    """Serve until cancelled. It serves from the start: what it cannot answer yet is a 503 problem.

    Raises:
        OSError: the port is in use.
    """
    for server in ("clickhouse", "kafka"):
        unit.readiness.waiting(server, "not checked yet")
    allow_connections(unit, settings.live_connections)
    listener = listen(settings.bind_host, settings.port, "API_PORT")
    probe = KafkaProbe(settings.kafka)
    reader = clickhouse(settings.clickhouse, settings.connections, settings.query_timeout_s, threads=THREADS)
    async with reader as store:
        checks = clickhouse_check(store), Check(probe.ask)
        hub = Hub(unit, settings)
        stream = live.Live(hub, settings)
        app = application(unit, store, settings, *checks, stream=stream)
        gc.freeze()  # what is there now stays; a collection of all of it would stop every request for 0.1 s
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(cancellable(watch(unit, settings, *checks)))
                tasks.create_task(cancellable(hub.run()))
                tasks.create_task(hub.beat())
                tasks.create_task(
                    serve(
                        app,
                        listener,
                        receive_s=settings.receive_timeout_s,
                        max_head_bytes=settings.max_head_bytes,
                        trusted_proxies=settings.trusted_proxies,
                    )
                )
        finally:
            await probe.close()
