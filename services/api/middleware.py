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
    app = timeout_middleware(head_middleware(app), settings.request_timeout_s, log)
    app = body_size_middleware(app, settings.max_head_bytes, settings.max_body_bytes)
    if settings.rate_limit_per_s:
        app = rate_limit_middleware(app, TokenBucket(settings.rate_limit_per_s, settings.rate_limit_burst))
    if settings.origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_methods=["GET", "HEAD"],
            allow_headers=["If-None-Match", "X-Request-Id"],
            expose_headers=["ETag", "Retry-After", "X-Request-Id"],
        )
    app = metrics_middleware(app, metrics, log)
    logging.getLogger("asgi_correlation_id").setLevel(logging.ERROR)  # an id of a stranger's making is no warning
    return CorrelationIdMiddleware(
        app,
        header_name="X-Request-Id",
        update_request_header=False,
        validator=lambda offered: _SANE_ID.fullmatch(offered) is not None,
        transformer=_logged,
    )


def metrics_middleware(app: ASGIApp, metrics: Metrics, log: structlog.stdlib.BoundLogger) -> ASGIApp:
    """Counts and times every request by its route template; unknown paths count as one route, `unmatched`."""
    requests, seconds = metrics[REQUESTS], metrics[REQUEST_SECONDS]

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status, endless = 500, False

        async def watched(message: Message) -> None:
            nonlocal status, endless
            if message["type"] == "http.response.start":
                status = message["status"]
                endless = Headers(raw=message["headers"]).get("content-type", "").startswith(ENDLESS)
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"
            took = time.perf_counter() - started
            requests.inc({"route": route, "method": method, "status": str(status)})
            if not endless:
                seconds.observe({"route": route}, took)
            log.debug("request", method=method, path=scope["path"], status=status, seconds=round(took, 4))

    return measured


def rate_limit_middleware(app: ASGIApp, bucket: TokenBucket) -> ASGIApp:
    """Answers 429 to a client (an address) whose bucket is empty."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        wait_s = bucket.take(client[0] if client else "")
        if wait_s:
            detail = "too many requests from this address; try again after the seconds in Retry-After"
            headers = {"Retry-After": str(math.ceil(wait_s))}
            await problem(scope, 429, detail, headers=headers)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return limited


def body_size_middleware(app: ASGIApp, max_head: int, max_body: int) -> ASGIApp:
    """Rejects addresses, headers and bodies of more bytes, and closes the connection, so that the rest is not read.

    The server bounds what is still arriving.
    """

    def excess(scope: Scope) -> tuple[int, str] | None:
        address = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if address > max_head // 2:
            return 414, f"the address has {address} bytes; at most {max_head // 2} are read (API_MAX_HEAD_BYTES)"
        headers = sum(len(name) + len(value) for name, value in scope["headers"])
        if headers > max_head:
            return 431, f"the headers have {headers} bytes; at most {max_head} are read (API_MAX_HEAD_BYTES)"
        body = Headers(scope=scope).get("content-length", "0")
        if int(body) > max_body:
            return 413, f"the body has {body} bytes; at most {max_body} are read (API_MAX_BODY_BYTES)"
        return None

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        if rejected := excess(scope):
            await problem(scope, *rejected, headers={"Connection": "close"})(scope, receive, send)
        else:
            await app(scope, receive, send)

    return bounded


def timeout_middleware(app: ASGIApp, limit_s: float, log: structlog.stdlib.BoundLogger) -> ASGIApp:
    """Answers 503 when no answer has begun within `limit_s` seconds; a stream that has begun may last."""

    async def timed(scope: Scope, receive: Receive, send: Send) -> None:
        async def begun(message: Message) -> None:
            if message["type"] == "http.response.start":
                limit.reschedule(None)
            await send(message)

        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                await app(scope, receive, begun)
        except TimeoutError:
            if not limit.expired():
                raise
            log.warning("too_slow", path=scope["path"], limit_s=limit_s)
            detail = f"no answer within {limit_s:g} s (API_REQUEST_TIMEOUT_S); try again"
            await unavailable(scope, detail)(scope, receive, send)

    return timed


def head_middleware(app: ASGIApp) -> ASGIApp:
    """Answers HEAD with the headers of GET and no body, on every route, also of a stream that would not end."""

    async def as_get(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD":
            await app(scope, receive, send)
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
            await app(request, disconnect, headers_only)
        finally:
            scope["route"] = request.get("route")  # for the metrics

    return as_get
