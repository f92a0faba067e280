"""Counts and times every request by its route template, and adds the headers that every answer carries."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.metrics import Metrics
from services.api.metrics import REQUEST_SECONDS, REQUESTS


class Observed:
    """An ASGI application whose requests are measured; unknown paths count as one route, `unmatched`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics[REQUESTS]
        self._seconds = metrics[REQUEST_SECONDS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self._app(scope, receive, measured)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._requests.inc({"route": route, "method": scope["method"], "status": str(status)})
            self._seconds.observe({"route": route}, time.perf_counter() - started)
