"""What stands before the application, as one stack: ids, metrics, and the limits that every request meets."""

import asyncio
import math
import re
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.metrics import Metrics
from services.api.metrics import REQUEST_SECONDS, REQUESTS
from services.api.problems import REQUEST_ID, problem, unavailable
from services.api.settings import ApiSettings

ENDLESS = "text/event-stream"  # lasts as long as the client likes: no time to an answer
METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
KEPT_CLIENTS = 10_000
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def guarded(app: ASGIApp, metrics: Metrics, log: structlog.stdlib.BoundLogger, settings: ApiSettings) -> ASGIApp:
    """The application behind its limits; a request passes them from the last line to the first."""
    app = Timed(app, settings.request_timeout_s, log)
    app = Bounded(app, settings.max_head_bytes, settings.max_body_bytes)
    if settings.rate_limit_per_s:
        app = RateLimited(app, Buckets(settings.rate_limit_per_s, settings.rate_limit_burst))
    if settings.origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_headers=["If-None-Match", "X-Request-Id"],
            expose_headers=["ETag", "Retry-After", "X-Request-Id"],
        )
    app = Observed(app, metrics, log)
    return Identified(app)


class Identified:
    """Gives each request an id: the client's X-Request-Id where it is sane, otherwise a new one.

    It is in the log lines of the request, in its problem, and in the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        offered = Headers(scope=scope).get("x-request-id", "")
        own = offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex
        scope[REQUEST_ID] = own

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = own
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=own):
            await self._app(scope, receive, named)


class Observed:
    """Counts and times every request by its route template; unknown paths count as one route, `unmatched`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: structlog.stdlib.BoundLogger) -> None:
        self._app = app
        self._log = log
        self._requests = metrics[REQUESTS]
        self._seconds = metrics[REQUEST_SECONDS]

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


class Buckets:
    """One token bucket per client: `burst` tokens, refilled with `per_s` tokens a second.

    Of each bucket only the moment is kept at which it is full again; one that is full is as good as none.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._token_s = 1 / per_s
        self._whole_s = burst / per_s
        self._clock = clock
        self._full_at: dict[str, float] = {}

    @property
    def clients(self) -> int:
        """How many clients are kept."""
        return len(self._full_at)

    def take(self, client: str) -> float:
        """Take a token: 0, or the seconds until there is one."""
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now) + self._token_s
        short = full_at - now - self._whole_s
        if short > 1e-9:
            return short
        if len(self._full_at) >= KEPT_CLIENTS:
            self._forget(now)
        self._full_at[client] = full_at
        return 0.0

    def _forget(self, now: float) -> None:
        """Forget the full buckets; the fullest too, where too many clients are left."""
        emptiest = sorted(((at, client) for client, at in self._full_at.items() if at > now), reverse=True)
        self._full_at = {client: at for at, client in emptiest[: KEPT_CLIENTS // 2]}


class RateLimited:
    """Answers 429 to a client (an address) whose bucket is empty. WebSockets have limits of their own."""

    def __init__(self, app: ASGIApp, buckets: Buckets) -> None:
        self._app = app
        self._buckets = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it."""
        if scope["type"] == "http":
            client = scope.get("client")
            wait_s = self._buckets.take(client[0] if client else "")
            if wait_s:
                detail = "too many requests from this address; ask again after the seconds in Retry-After"
                headers = {"Retry-After": str(math.ceil(wait_s))}
                await problem(scope, 429, detail, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Bounded:
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
        if scope["type"] == "http" and (excess := self._excess(scope)):
            await problem(scope, *excess, headers={"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Timed:
    """Answers 503 when no answer has begun within `limit_s` seconds; a stream that has begun may last."""

    def __init__(self, app: ASGIApp, limit_s: float, log: structlog.stdlib.BoundLogger) -> None:
        self._app = app
        self._limit_s = limit_s
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on until the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

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
