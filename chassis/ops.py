"""The operations port of a process: /livez, /readyz and /metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from chassis.metrics import READY, WAITING, Metrics


class Readiness:
    """What a process waits for, `start` at first; ready when nothing is missing. Exported to `metrics`."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._missing: dict[str, str] = {}
        self._metrics = metrics
        self.waiting("start", "starting")

    def waiting(self, need: str, why: str) -> None:
        """Not ready: `need` is missing because of `why` (an address and setting, an error)."""
        self._missing[need] = why
        self._export(need)

    def met(self, need: str) -> None:
        """`need` is there."""
        self._missing.pop(need, None)
        self._export(need)

    def _export(self, need: str) -> None:
        if self._metrics is not None:
            self._metrics[WAITING].set({"need": need}, int(need in self._missing))
            self._metrics[READY].set({}, int(not self._missing))

    @property
    def missing(self) -> dict[str, str]:
        """What is missing and why; empty when ready."""
        return dict(self._missing)


def needs_operator(reason: str) -> bool:
    """Whether a reason for not being ready names a task that the operator must run: waiting longer does not help."""
    return "run task " in reason


def application(readiness: Readiness, metrics: Metrics) -> web.Application:
    """The three routes."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "UP"})

    async def ready(_: web.Request) -> web.Response:
        missing = readiness.missing
        return web.json_response(
            {"status": "DOWN" if missing else "UP", "missing": missing}, status=503 if missing else 200
        )

    async def scrape(request: web.Request) -> web.Response:
        body, headers = metrics.render(request.headers.getall("Accept", []))
        return web.Response(body=body, headers=headers)

    app = web.Application()
    app.add_routes([web.get("/livez", live), web.get("/readyz", ready), web.get("/metrics", scrape)])
    return app


@asynccontextmanager
async def serve(host: str, port: int, readiness: Readiness, metrics: Metrics) -> AsyncIterator[None]:
    """Serve the operations port while the context lasts.

    Raises:
        OSError: the port is in use.
    """
    runner = web.AppRunner(application(readiness, metrics), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
