"""Counts and times every request by its route template, and adds the headers that every answer carries."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.metrics import Metrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, float("inf"))
ENDLESS = b"text/event-stream"  # lasts as long as the client likes: no time to an answer


class Observed:
    """An ASGI application whose requests are measured; unknown paths count as one route, `unmatched`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.counter("placar_http_requests_total", "Requests by route, method and status")
        self._seconds = metrics.histogram("placar_http_request_seconds", "Time to the whole answer, by route", SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, endless = 500, False

        async def measured(message: Message) -> None:
            nonlocal status, endless
            if message["type"] == "http.response.start":
                status = message["status"]
                endless = any(
                    value.startswith(ENDLESS) for name, value in message["headers"] if name == b"content-type"
                )
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self._app(scope, receive, measured)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._requests.inc({"route": route, "method": scope["method"], "status": str(status)})
            if not endless:
                self._seconds.observe({"route": route}, time.perf_counter() - started)
