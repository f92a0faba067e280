"""The API over HTTP with a store in memory: parameters, problems, health, metrics, the page."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import httpx
import pytest
from asynch.errors import ServerException

from chassis import logs
from chassis.clickhouse import ClickHouse, StoreAway
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from contracts.windows import DEFAULT, window_lengths
from services.api.app import application
from services.api.health import Check

START, END = datetime(2026, 2, 19, 10, tzinfo=UTC), datetime(2026, 2, 19, 11, tzinfo=UTC)
CITY, SALESMAN = "/api/v1/sales/top-by-city", "/api/v1/sales/top-salesman"


class MemoryStore:
    """Answers every query with the same rows, or fails; remembers what it was asked."""

    def __init__(self, answer: list[tuple[Any, ...]] | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def select(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows."""
        self.asked.append((query, values))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ten_rows(filled: int) -> list[tuple[Any, ...]]:
    """The rows of a set."""
    return [
        (START, END, 5, "final", 1000, 2000, n, f"name {n}" if n <= filled else "", "BR", Decimal(n), int(n <= filled))
        for n in range(1, 11)
    ]


async def up() -> None:
    """A check that finds its server."""


async def down() -> None:
    """A check that does not."""
    raise StoreAway("connection refused")


@asynccontextmanager
async def api(
    answer: list[tuple[Any, ...]] | Exception, kafka: Any = up, windows: str = DEFAULT
) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryStore]]:
    """A client of the application over a store in memory."""
    store = MemoryStore(answer)
    unit = Unit("api", logs.configure("api", "error"), Metrics("api"), Readiness())
    checks = Check(up, (StoreAway,)), Check(kafka, (StoreAway,))
    app = application(unit, cast(ClickHouse, store), window_lengths(windows), *checks)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client, store


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an RFC 9457 problem with this status."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance"} <= set(body)
    return body


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{CITY}?limit=0", "limit"),
        (f"{CITY}?limit=11", "limit"),
        (f"{CITY}?limit=many", "limit"),
        (f"{CITY}?limit=1.5", "limit"),
        (f"{CITY}?window=now", "window"),
        (f"{CITY}?window=2026-02-19T10:00:00", "window"),
        (f"{CITY}?length=1d", "length"),
        (f"{SALESMAN}?length=", "length"),
        (f"{SALESMAN}?country=Brazil", "country"),
        (f"{SALESMAN}?country=br", "country"),
        (f"{SALESMAN}?country=%27%20OR%201=1", "country"),
    ],
)
async def test_wrong_parameter(path: str, field: str) -> None:
    """A wrong parameter is a 422 problem that names the field, and the store is not asked."""
    async with api(ten_rows(10)) as (client, store):
        body = assert_problem(await client.get(path), 422)
    assert [item["field"] for item in body["errors"]] == [field]
    assert field in body["detail"]
    assert not store.asked


async def test_every_wrong_parameter_is_named() -> None:
    """Several wrong parameters are named at once."""
    async with api(ten_rows(10)) as (client, _):
        body = assert_problem(await client.get(f"{SALESMAN}?limit=0&country=x&window=x"), 422)
    assert {item["field"] for item in body["errors"]} == {"limit", "country", "window"}


async def test_defaults() -> None:
    """Without parameters the latest window is served, for Brazil, with ten ranks."""
    async with api(ten_rows(10)) as (client, store):
        body = (await client.get(SALESMAN)).json()
    assert len(body["rankings"]) == 10
    assert "max(window_start)" in store.asked[0][0]
    assert store.asked[0][1] == {"country": "BR"}


@pytest.mark.parametrize(("path", "table"), [(CITY, "top_sales_city"), (SALESMAN, "top_salesman_country")])
async def test_lengths(path: str, table: str) -> None:
    """Each configured length has its table, the first one without being asked for; another one is told which exist."""
    for query, name in (("", table), ("length=1h", table), ("length=1d", f"{table}_1d")):
        for window in ("window=latest", "window=2026-02-19T10:00:00Z"):
            async with api(ten_rows(1), windows="1h,1d@America/Sao_Paulo") as (client, store):
                assert (await client.get(f"{path}?{window}&{query}")).status_code == 200
            tables = {word for word in store.asked[0][0].replace(")", " ").split() if word.startswith("top_sales")}
            assert tables == {name}
    async with api(ten_rows(1), windows="1h,1d@America/Sao_Paulo") as (client, _):
        refused = assert_problem(await client.get(f"{path}?length=1d@America/Sao_Paulo"), 422)
    assert "RANKING_WINDOWS" in refused["detail"]
    assert refused["detail"].endswith("1h, 1d")


async def test_openapi_names_the_lengths() -> None:
    """The OpenAPI document lists the configured lengths and which of them is the default."""
    async with api([], windows="15m,1d") as (client, _):
        document = (await client.get("/openapi.json")).json()
    for path in (CITY, SALESMAN, "/api/v1/sales/explain"):
        (length,) = [one for one in document["paths"][path]["get"]["parameters"] if one["name"] == "length"]
        assert not length["required"]
        assert length["schema"]["enum"] == ["15m", "1d"]
        assert "(15m)" in length["description"]


async def test_values_are_never_in_the_query() -> None:
    """The instant reaches the store as a whole number, not as the text that was sent."""
    async with api(ten_rows(1)) as (client, store):
        await client.get(CITY, params={"window": "2026-02-19T07:00:00-03:00"})
    assert store.asked[0][1] == {"start": int(START.timestamp())}
    assert "2026" not in store.asked[0][0]


async def test_no_ranking_yet() -> None:
    """Before the first set, `latest` is a 404 problem that says so."""
    async with api([]) as (client, _):
        assert "no 1h ranking of cities yet" in assert_problem(await client.get(CITY), 404)["detail"]


async def test_unknown_window() -> None:
    """A window without a ranking is a 404 problem that names it."""
    async with api([]) as (client, _):
        body = assert_problem(await client.get(f"{CITY}?window=2026-02-19T10:30:00Z"), 404)
    assert "2026-02-19T10:30:00Z" in body["detail"]


async def test_empty_ranking() -> None:
    """A window whose last sale was deleted is served as empty."""
    async with api(ten_rows(0)) as (client, _):
        response = await client.get(CITY)
    assert response.status_code == 200
    assert response.json()["rankings"] == []


@pytest.mark.parametrize(
    "error",
    [
        StoreAway("NetworkError: 10.1.2.3"),
        ServerException("DB::Exception: secret. Stack trace: 0. x", 60),  # type: ignore[no-untyped-call]
    ],
)
async def test_store_away(error: Exception) -> None:
    """While the store is away the answer is a 503 problem with Retry-After that shows nothing of the inside."""
    async with api(error) as (client, _):
        response = await client.get(CITY)
    assert_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert not any(word in response.text for word in ("10.1.2.3", "secret", "Stack"))


async def test_error_of_ours() -> None:
    """An unexpected error is a 500 problem without its message or trace."""
    async with api(RuntimeError("inside")) as (client, _):
        response = await client.get(CITY)
    assert_problem(response, 500)
    assert "inside" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", CITY, 405)])
async def test_wrong_path_or_method(method: str, path: str, status: int) -> None:
    """A path that does not exist and a method that is not allowed are problems too."""
    async with api(ten_rows(1)) as (client, _):
        assert_problem(await client.request(method, path), status)


async def test_health_up() -> None:
    """When all servers answer, health is 200 and UP."""
    async with api([]) as (client, _):
        response = await client.get("/api/v1/health")
    assert response.status_code == 200
    assert response.json() == {"status": "UP", "clickhouse": "UP", "kafka": "UP"}


async def test_health_down() -> None:
    """When a server is away, health is 503 and says which."""
    async with api([], kafka=down) as (client, _):
        response = await client.get("/api/v1/health")
    assert response.status_code == 503
    assert response.json() == {"status": "DOWN", "clickhouse": "UP", "kafka": "DOWN"}


async def test_check_is_shared() -> None:
    """Many who ask at once cost one check."""
    asked = 0

    async def count() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    check = Check(count, ())
    assert {state for state, _ in await asyncio.gather(*(check.state() for _ in range(50)))} == {"UP"}
    assert asked == 1


async def test_check_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers is DOWN after the limit."""
    monkeypatch.setattr("services.api.health.LIMIT_S", 0.05)
    state, why = await Check(asyncio.Event().wait, ()).state()  # type: ignore[arg-type]
    assert state == "DOWN"
    assert "no answer" in why


async def test_metrics_by_route() -> None:
    """Requests are counted by route template, method and status; unknown paths share one route."""
    async with api(ten_rows(1)) as (client, _):
        await client.get(f"{CITY}?window=2026-02-19T10:00:00Z")
        await client.get(f"{CITY}?limit=99")
        await client.get("/nowhere/1")
        await client.get("/nowhere/2")
        text = (await client.get("/api/v1/metrics")).text
    assert f'placar_http_requests_total{{method="GET",route="{CITY}",status="200",unit="api"}} 1' in text
    assert f'placar_http_requests_total{{method="GET",route="{CITY}",status="422",unit="api"}} 1' in text
    assert 'placar_http_requests_total{method="GET",route="unmatched",status="404",unit="api"} 2' in text
    assert f'placar_http_request_seconds_count{{route="{CITY}",unit="api"}} 2' in text


async def test_page() -> None:
    """The page and every file that it names are served, under a policy that allows nothing from elsewhere."""
    async with api([]) as (client, _):
        whole = await client.get("/")
        named = re.findall(r'(?:src|href)="(/page/[^"]+)"', whole.text)
        imported = re.findall(r'from "\./([^"]+)"', (await client.get("/page/main.js")).text)
        paths = {*named, *(f"/page/{name}" for name in imported)}
        answers = {path: await client.get(path) for path in paths}
        beside = await client.get("/page/%2e%2e/routes.py")
    assert {"/page/style.css", "/page/theme.js", "/page/icon.svg", "/page/live.js"} <= paths
    for path, answer in {"/": whole, **answers}.items():
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy
        assert not {part for part in policy if "unsafe" in part or "http" in part or "*" in part}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), path
    assert all("javascript" in answers[path].headers["content-type"] for path in paths if path.endswith(".js"))
    assert beside.status_code == 404


async def test_openapi_names_both_rankings() -> None:
    """The OpenAPI document describes both rankings with their camelCase fields and their problems."""
    async with api([]) as (client, _):
        document = (await client.get("/openapi.json")).json()
    assert {CITY, SALESMAN, "/api/v1/health", "/api/v1/metrics"} <= set(document["paths"])
    assert "totalSales" in str(document["components"]["schemas"])
    assert {"404", "422", "503"} <= set(document["paths"][CITY]["get"]["responses"])
