"""Composition root of the lineage service: its database, its HTTP application, and its retention."""

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
from services.lineage.metrics import RECEIVED
from services.lineage.settings import LineageServerSettings
from services.lineage.store import UNAVAILABLE, Store, opened

NAME = "lineage"
SERVER = "postgres"
RETENTION_S = 3600.0
WATCH_S = 5.0


def application(unit: Unit, store: Store) -> ASGIApp:
    """The whole HTTP application.

    It routes by the path as it was sent: a name may contain slashes, which clients send as %2F.
    """
    app = FastAPI(title="Placar lineage", summary="Marquez-compatible subset", redoc_url=None, docs_url=None)
    received = unit.metrics[RECEIVED]
    routes.problems(app, unit.log)
    app.include_router(routes.api(store, lambda outcome: received.inc({"outcome": outcome})))
    app.mount("/", routes.Page())

    async def by_encoded_path(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii", errors="replace")}
        await app(scope, receive, send)

    return by_encoded_path


async def apply_retention(unit: Unit, store: Store, keep_days: int) -> None:
    """Delete old events and runs, each hour until cancelled."""
    while True:
        try:
            deleted = await store.delete(datetime.now(UTC) - timedelta(days=keep_days))
            unit.log.info("retention_applied", rows=deleted, keep_days=keep_days)
        except UNAVAILABLE as error:
            unit.log.warning("store_unavailable", error=repr(error))
        await asyncio.sleep(RETENTION_S)


async def watch(unit: Unit, store: Store, address: str) -> None:
    """Not ready while the database does not answer."""
    while True:
        await unit.retry_until_available(SERVER, address, SETTING, lambda: store.rows("SELECT 1"), UNAVAILABLE)
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
        store = await unit.connect(SERVER, address, SETTING, attempt, (*UNAVAILABLE, asyncpg.PostgresError))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cancellable(watch(unit, store, address)))
            tasks.create_task(cancellable(apply_retention(unit, store, settings.keep_days)))
            tasks.create_task(serve(application(unit, store), listener))
