"""The limits that every request meets: rate, size, time, origins; with a clock of the test's own where time matters."""

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from chassis import logs
from services.api.limits import KEPT_CLIENTS, TokenBucket
from services.api.middleware import body_size_middleware, timeout_middleware
from services.api.settings import ApiSettings
from tests.unit.test_api_http import CITY, api, assert_problem, ten_rows

ORIGIN = "https://sales.example.com"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_burst_and_refill() -> None:
    """A client has its burst at once, then as many as the rate refills; the wait is until the next token."""
    clock = Clock()
    bucket = TokenBucket(2, 3, clock)
    assert [bucket.take("a") for _ in range(3)] == [0, 0, 0]
    assert bucket.take("a") == pytest.approx(0.5)
    assert bucket.take("b") == 0  # another client has a bucket of its own
    clock.now += 0.4
    assert bucket.take("a") == pytest.approx(0.1)
    clock.now += 0.1
    assert bucket.take("a") == 0
    assert bucket.take("a") == pytest.approx(0.5)
    clock.now += 3600
    assert [bool(bucket.take("a")) for _ in range(4)] == [False, False, False, True]


def test_debt() -> None:
    """What costs more than there is, is allowed once; then the client waits until all of it is repaid."""
    clock = Clock()
    bucket = TokenBucket(2, 3, clock)
    assert bucket.take("a", 100) == 0
    assert bucket.take("a") == pytest.approx((100 - 3 + 1) / 2)
    clock.now += 49
    assert bucket.take("a") == 0


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate(per_s: float, burst: int, pauses: list[float]) -> None:
    """However a client asks, it gets at most the burst and what the rate gave since; who waits as told gets a token."""
    clock = Clock()
    bucket, began, taken, wait = TokenBucket(per_s, burst, clock), clock.now, 0, 0.0
    for pause in pauses:
        clock.now += pause
        wait = bucket.take("a")
        taken += wait == 0
        assert taken <= burst + (clock.now - began) * per_s + 1e-3
    if wait:
        clock.now += wait + 1e-6
        assert bucket.take("a") == 0


def test_clients_are_forgotten() -> None:
    """However many clients come, only some are kept, those that have asked most among them."""
    clock = Clock()
    bucket = TokenBucket(0.001, 2, clock)
    bucket.take("greedy")
    bucket.take("greedy")
    for number in range(KEPT_CLIENTS * 2):
        bucket.take(str(number))
    assert len(bucket._full_at) <= KEPT_CLIENTS
    assert bucket.take("greedy") > 0


async def test_too_many_requests() -> None:
    """Beyond its burst a client gets a 429 problem with Retry-After, and the store is not asked."""
    async with api(ten_rows(1), rate_limit_per_s=0.01, rate_limit_burst=2, share_s=0) as (client, store):
        answers = [await client.get(CITY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert_problem(answers[2], 429)
    assert 98 <= int(answers[2].headers["retry-after"]) <= 100
    assert len(store.queries) == 2


async def test_no_rate_limit() -> None:
    """With the rate 0 nothing is rejected."""
    async with api(ten_rows(1), rate_limit_per_s=0, rate_limit_burst=1) as (client, _):
        assert {(await client.get("/nowhere")).status_code for _ in range(20)} == {404}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"url": f"{CITY}?window={'x' * 600}"}, 414),
        ({"url": "/" + "x" * 600}, 414),
        ({"url": CITY, "headers": {"X-Long": "x" * 1100}}, 431),
        ({"url": CITY, "headers": {f"X-{n}": "x" * 10 for n in range(100)}}, 431),
        ({"url": CITY, "content": b"x" * 11}, 413),
        ({"url": "/nowhere", "content": b"x" * 11}, 413),
    ],
)
async def test_oversize(request_: dict[str, Any], status: int) -> None:
    """An address, headers or a body that are too long are a problem that names the setting, and the connection ends."""
    async with api(ten_rows(1), max_head_bytes=1024, max_body_bytes=10) as (client, store):
        response = await client.request("GET", **request_)
        fits = await client.request("GET", f"{CITY}?window=latest", headers={"X-Long": "x" * 500}, content=b"x" * 10)
    assert "API_MAX_" in assert_problem(response, status)["detail"]
    assert response.headers["connection"] == "close"
    assert fits.status_code == 200
    assert len(store.queries) == 1


async def test_lengths_at_the_limit() -> None:
    """What is exactly as long as allowed passes."""
    passed = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    base = {"type": "http", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    bounded = body_size_middleware(app, 1024, 10)

    async def sent(_: Any) -> None:
        """Nothing."""

    for more in (
        {"query_string": b"x" * 511},
        {"headers": [(b"x", b"x" * 1023)]},
        {"headers": [(b"content-length", b"10")]},
    ):
        await bounded({**base, **more}, None, sent)  # type: ignore[arg-type]
    assert len(passed) == 3


async def test_slow_answer() -> None:
    """A request that has no answer within the limit is a 503 problem with Retry-After."""
    async with api(ten_rows(1), request_timeout_s=0.05) as (client, store):

        async def never(*_: Any) -> list[tuple[Any, ...]]:
            await asyncio.Event().wait()
            return []

        store.select = never  # type: ignore[method-assign, assignment]
        response = await client.get(CITY)
    assert "API_REQUEST_TIMEOUT_S" in assert_problem(response, 503)["detail"]
    assert int(response.headers["retry-after"]) >= 1


async def test_stream_may_last() -> None:
    """The limit is for the begin of an answer: a stream that has begun goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.15)
        await send({"type": "http.response.body", "body": b"late"})

    transport = httpx.ASGITransport(timeout_middleware(app, 0.05, logs.configure("api", "error")))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/")).text == "late"


async def test_error_of_the_application_is_not_slowness() -> None:
    """A TimeoutError of the application's own is not taken for the limit."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("own")

    timed = timeout_middleware(app, 5, logs.configure("api", "error"))
    with pytest.raises(TimeoutError, match="own"):
        await timed({"type": "http", "path": "/"}, None, None)  # type: ignore[arg-type]


async def test_other_origins() -> None:
    """Without allowed origins, and for others than the allowed, no page of another origin may read an answer."""
    for origins in ("", "https://other.example.com"):
        async with api(ten_rows(1), cors_origins=origins) as (client, _):
            response = await client.get(CITY, headers={"Origin": ORIGIN})
            preflight = await client.options(CITY, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"})
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers
        assert preflight.status_code in (400, 405)
        assert "access-control-allow-origin" not in preflight.headers


async def test_allowed_origins() -> None:
    """Pages of an allowed origin may read answers, problems, ETag, X-Request-Id and Retry-After, and ask with tags."""
    limits: dict[str, Any] = {"rate_limit_per_s": 0.01, "rate_limit_burst": 4}
    async with api(ten_rows(1), cors_origins=f"http://localhost:5173,{ORIGIN}", **limits) as (client, _):
        headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
        wanted = {"Access-Control-Request-Headers": "If-None-Match, X-Request-Id"}
        preflight = await client.options(CITY, headers=headers | wanted)
        answers = [await client.get(path, headers={"Origin": ORIGIN}) for path in (CITY, "/nowhere", CITY, CITY, CITY)]
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert answers[-1].status_code == 429
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Origin" in answer.headers["vary"]
        exposed = answer.headers["access-control-expose-headers"]
        assert all(name in exposed for name in ("ETag", "X-Request-Id", "Retry-After"))
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origins", ["*", "sales.example.com", f"{ORIGIN}/", f"{ORIGIN}, http://x", "ftp://x", f"{ORIGIN},", "http://"]
)
def test_wrong_origins(origins: str) -> None:
    """What is not a list of origins is a wrong setting."""
    with pytest.raises(ValidationError, match="is not an origin"):
        ApiSettings(cors_origins=origins)
