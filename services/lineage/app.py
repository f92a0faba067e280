"""Composition root of the lineage service: its database, the application, and what it forgets."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.asgi import listen, serve
from chassis.postgres import SETTING
from chassis.unit import Unit, cancellable
from services.lineage import routes
from services.lineage.metrics import TAKEN
from services.lineage.settings import LineageServerSettings
from services.lineage.store import AWAY, Store, opened

NAME = "lineage"
SERVER = "postgres"
FORGET_S = 3600.0
WATCH_S = 5.0


class EncodedPaths:
    """Routes by the path as it was sent: a name may hold slashes, which clients send as %2F."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii", errors="replace")}
        await self._app(scope, receive, send)


def application(unit: Unit, store: Store) -> ASGIApp:
    """The whole HTTP application."""
    app = FastAPI(title="Placar lineage", summary="Marquez-compatible subset", redoc_url=None, docs_url=None)
    taken = unit.metrics[TAKEN]
    routes.problems(app, unit.log)
    app.include_router(routes.api(store, lambda outcome: taken.inc({"outcome": outcome})))
    app.include_router(routes.page())
    return EncodedPaths(app)


async def forget(unit: Unit, store: Store, keep_days: int) -> None:
    """Delete what is old, each hour until cancelled."""
    while True:
        try:
            gone = await store.forget(datetime.now(UTC) - timedelta(days=keep_days))
            unit.log.info("forgotten", rows=gone, keep_days=keep_days)
        except AWAY as error:
            unit.log.warning("store_away", error=repr(error))
        await asyncio.sleep(FORGET_S)


async def watch(unit: Unit, store: Store, address: str) -> None:
    """Keep the readiness true: not ready while the database does not answer."""
    while True:
        try:
            await store.alive()
            unit.readiness.met(SERVER)
        except AWAY as error:
            unit.readiness.waiting(SERVER, f"{SERVER} at {address} (setting {SETTING}) is unreachable: {error!r}")
            unit.metrics.connection_failed(SERVER)
        await asyncio.sleep(WATCH_S)


async def main(unit: Unit, settings: LineageServerSettings) -> None:
    """Serve until cancelled.

    Raises:
        OSError: the port is in use.
    """
    postgres = settings.postgres
    listener = listen(settings.bind_host, settings.port, "MARQUEZ_PORT")
    async with AsyncExitStack() as stack:

        async def attempt() -> Store:
            return await stack.enter_async_context(opened(postgres))

        address = f"{postgres.host}:{postgres.port}"
        store = await unit.connect(SERVER, address, SETTING, attempt, (*AWAY, asyncpg.PostgresError))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cancellable(watch(unit, store, address)))
            tasks.create_task(cancellable(forget(unit, store, settings.keep_days)))
            tasks.create_task(serve(application(unit, store), listener))
