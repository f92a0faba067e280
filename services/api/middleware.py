"""What stands before the application, as one stack: ids, metrics, and the limits that every request meets."""

import asyncio
import logging
import math
import re
import time

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.metrics import Metrics
from services.api.limits import TokenBucket
from services.api.metrics import REQUEST_SECONDS, REQUESTS
from services.api.problems import problem, unavailable
from services.api.settings import ApiSettings

ENDLESS = "text/event-stream"  # lasts as long as the client likes: no time to an answer
METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def _logged(request_id: str) -> str:
    """The id itself, which all log lines of the request have from now on."""
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def guarded(app: ASGIApp, metrics: Metrics, log: structlog.stdlib.BoundLogger, settings: ApiSettings) -> ASGIApp:
    """The application behind its limits; a request passes them from the last line to the first. Only HTTP comes here.

    Each request has an id: the client's X-Request-Id where it is sane, otherwise a new one. It is in the log lines of
    the request, in its problem, and in the answer.
    """
    app = TimeoutMiddleware(HeadMiddleware(app), settings.request_timeout_s, log)
    app = BodySizeMiddleware(app, settings.max_head_bytes, settings.max_body_bytes)
    if settings.rate_limit_per_s:
        app = RateLimitMiddleware(app, TokenBucket(settings.rate_limit_per_s, settings.rate_limit_burst))
    if settings.origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_methods=["GET", "HEAD"],
            allow_headers=["If-None-Match", "X-Request-Id"],
            expose_headers=["ETag", "Retry-After", "X-Request-Id"],
        )
    app = MetricsMiddleware(app, metrics, log)
    logging.getLogger("asgi_correlation_id").setLevel(logging.ERROR)  # an id of a stranger's making is no warning
    return CorrelationIdMiddleware(
        app,
        header_name="X-Request-Id",
        update_request_header=False,
        validator=lambda offered: _SANE_ID.fullmatch(offered) is not None,
        transformer=_logged,
    )


class MetricsMiddleware:
    """Counts and times every request by its route template; unknown paths count as one route, `unmatched`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: structlog.stdlib.BoundLogger) -> None:
        self._app = app
        self._log = log
        self._requests = metrics[REQUESTS]
        self._seconds = metrics[REQUEST_SECONDS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; count it when its answer has ended."""
        started = time.perf_counter()
        status, endless = 500, False

        async def measured(message: Message) -> None:
            nonlocal status, endless
            if message["type"] == "http.response.start":
                status = message["status"]
                endless = Headers(raw=message["headers"]).get("content-type", "").startswith(ENDLESS)
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, measured)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"
            took = time.perf_counter() - started
            self._requests.inc({"route": route, "method": method, "status": str(status)})
            if not endless:
                self._seconds.observe({"route": route}, took)
            self._log.debug("request", method=method, path=scope["path"], status=status, seconds=round(took, 4))


class RateLimitMiddleware:
    """Answers 429 to a client (an address) whose bucket is empty."""

    def __init__(self, app: ASGIApp, bucket: TokenBucket) -> None:
        self._app = app
        self._bucket = bucket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it."""
        client = scope.get("client")
        wait_s = self._bucket.take(client[0] if client else "")
        if wait_s:
            detail = "too many requests from this address; try again after the seconds in Retry-After"
            headers = {"Retry-After": str(math.ceil(wait_s))}
            await problem(scope, 429, detail, headers=headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class BodySizeMiddleware:
    """Rejects addresses, headers and bodies that are too long. The server bounds what is still arriving."""

    def __init__(self, app: ASGIApp, max_head_bytes: int, max_body_bytes: int) -> None:
        self._app = app
        self._max_head = max_head_bytes
        self._max_body = max_body_bytes

    def _excess(self, scope: Scope) -> tuple[int, str] | None:
        address = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if address > self._max_head // 2:
            return 414, f"the address has {address} bytes; at most {self._max_head // 2} are read (API_MAX_HEAD_BYTES)"
        headers = sum(len(name) + len(value) for name, value in scope["headers"])
        if headers > self._max_head:
            return 431, f"the headers have {headers} bytes; at most {self._max_head} are read (API_MAX_HEAD_BYTES)"
        body = Headers(scope=scope).get("content-length", "0")
        if int(body) > self._max_body:
            return 413, f"the body has {body} bytes; at most {self._max_body} are read (API_MAX_BODY_BYTES)"
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it and close the connection, so that the rest is not read."""
        if excess := self._excess(scope):
            await problem(scope, *excess, headers={"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, receive, send)


class TimeoutMiddleware:
    """Answers 503 when no answer has begun within `limit_s` seconds; a stream that has begun may last."""

    def __init__(self, app: ASGIApp, limit_s: float, log: structlog.stdlib.BoundLogger) -> None:
        self._app = app
        self._limit_s = limit_s
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on until the limit."""

        async def begun(message: Message) -> None:
            if message["type"] == "http.response.start":
                limit.reschedule(None)
            await send(message)

        limit = asyncio.timeout(self._limit_s)
        try:
            async with limit:
                await self._app(scope, receive, begun)
        except TimeoutError:
            if not limit.expired():
                raise
            self._log.warning("too_slow", path=scope["path"], limit_s=self._limit_s)
            detail = f"no answer within {self._limit_s:g} s (API_REQUEST_TIMEOUT_S); try again"
            await unavailable(scope, detail)(scope, receive, send)


class HeadMiddleware:
    """Answers HEAD with the headers of GET and no body, on every route, also of a stream that would not end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a HEAD request on as a GET, whose body is dropped."""
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def headers_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        async def disconnect() -> Message:
            await answered.wait()  # no endpoint reads a body
            return {"type": "http.disconnect"}

        request = {**scope, "method": "GET"}
        try:
            await self._app(request, disconnect, headers_only)
        finally:
            scope["route"] = request.get("route")  # for the metrics
