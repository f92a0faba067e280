"""The API over HTTP with a store in memory: parameters, problems, health, metrics, the page."""

import asyncio
import json
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
from chassis.clickhouse import ClickHouse, StoreUnavailableError, clickhouse
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.settings import ClickHouseSettings, KafkaSettings, RankingSettings
from chassis.unit import Unit
from contracts.rankings import RANKINGS
from contracts.time import instant
from contracts.windows import DEFAULT
from services.api.app import application
from services.api.health import Check, KafkaProbe, clickhouse_check
from services.api.settings import ApiSettings
from services.api.transform import LAST_SECOND

START, END = datetime(2026, 2, 19, 10, tzinfo=UTC), datetime(2026, 2, 19, 11, tzinfo=UTC)
CITY, SALESMAN, WINDOWS = "/api/v1/sales/top-by-city", "/api/v1/sales/top-salesman", "/api/v1/windows"
HOUR = "2026-02-19T10:00:00Z"
AT = datetime.fromtimestamp(2, UTC)


class MemoryStore:
    """Answers every query with the same rows, or fails; remembers what it was asked."""

    def __init__(self, answer: list[tuple[Any, ...]] | Exception) -> None:
        self.answer = answer
        self.queries: list[tuple[str, Mapping[str, Any]]] = []

    async def select(self, query: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows."""
        self.queries.append((query, values or {}))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ten_rows(filled: int, status: str = "final", revision: int = 5) -> list[tuple[Any, ...]]:
    """The rows of a set."""
    return [
        (
            START,
            END,
            revision,
            status,
            1000,
            2000,
            n,
            f"name {n}" if n <= filled else "",
            "BR",
            Decimal(n),
            int(n <= filled),
        )
        for n in range(1, 11)
    ]


async def up() -> str:
    """A check that finds its server."""
    return "1.2.3"


async def down() -> str:
    """A check that does not."""
    raise StoreUnavailableError("connection refused")


@asynccontextmanager
async def api(
    answer: list[tuple[Any, ...]] | Exception,
    kafka: Any = up,
    windows: str = DEFAULT,
    **settings: Any,
) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryStore]]:
    """A client of the application over a store in memory."""
    store = MemoryStore(answer)
    unit = Unit("api", logs.configure("api", "error"), Metrics("api"), Readiness())
    checks = Check(up), Check(kafka)
    chosen = ApiSettings(**settings, ranking=RankingSettings(windows=windows))
    app = application(unit, cast(ClickHouse, store), chosen, *checks)
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
        (f"{CITY}?limit=5.0", "limit"),
        (f"{CITY}?limit=1_0", "limit"),
        (f"{CITY}?limit=%2B5", "limit"),
        (f"{WINDOWS}?limit=1_0", "limit"),
        (f"{CITY}?window=now", "window"),
        (f"{CITY}?window=2026-02-19T10:00:00", "window"),
        (f"{CITY}?length=1d", "length"),
        (f"{SALESMAN}?length=", "length"),
        (f"{SALESMAN}?country=Brazil", "country"),
        (f"{SALESMAN}?country=br", "country"),
        (f"{SALESMAN}?country=%27%20OR%201=1", "country"),
        (f"{CITY}?limt=3", "limt"),
        (f"{CITY}?country=BR", "country"),
        (f"{CITY}?limit=3&limit=4", "limit"),
        (f"{WINDOWS}?ranking=region", "ranking"),
        (f"{WINDOWS}?country=BR", "country"),
        (f"{WINDOWS}?ranking=salesman&country=br", "country"),
        (f"{WINDOWS}?length=1d", "length"),
        (f"{WINDOWS}?limit=0", "limit"),
        (f"{WINDOWS}?limit=501", "limit"),
        (f"{WINDOWS}?from=yesterday", "from"),
        (f"{WINDOWS}?from=latest", "from"),
        (f"{WINDOWS}?to=2026-02-19T10:00:00", "to"),
        (f"{WINDOWS}?cursor=x", "cursor"),
        (f"{WINDOWS}?cursor=WyJjaXR5IiwiMWgiLCIiLC0xXQ", "cursor"),
        ("/api/v1/health?details=yes", "details"),
        ("/api/v1/metrics?x=1", "x"),
    ],
)
async def test_wrong_parameter(path: str, field: str) -> None:
    """A wrong parameter is a 422 problem that names the field, and the store is not asked."""
    async with api(ten_rows(10)) as (client, store):
        body = assert_problem(await client.get(path), 422)
    assert [item["field"] for item in body["errors"]] == [field]
    assert field in body["detail"]
    assert not store.queries


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
    assert "max(window_start)" in store.queries[0][0]
    assert store.queries[0][1] == {"country": "BR"}


@pytest.mark.parametrize(("path", "table"), [(CITY, "top_sales_city"), (SALESMAN, "top_salesman_country")])
async def test_lengths(path: str, table: str) -> None:
    """Each configured length has its table, the first one without being asked for; another one is told which exist."""
    for query, name in (("", table), ("length=1h", table), ("length=1d", f"{table}_1d")):
        for window in ("window=latest", "window=2026-02-19T10:00:00Z"):
            async with api(ten_rows(1), windows="1h,1d@America/Sao_Paulo") as (client, store):
                assert (await client.get(f"{path}?{window}&{query}")).status_code == 200
            tables = {word for word in store.queries[0][0].replace(")", " ").split() if word.startswith("top_sales")}
            assert tables == {name}
    async with api(ten_rows(1), windows="1h,1d@America/Sao_Paulo") as (client, _):
        rejected = assert_problem(await client.get(f"{path}?length=1d@America/Sao_Paulo"), 422)
    assert "RANKING_WINDOWS" in rejected["detail"]
    assert rejected["detail"].endswith("1h, 1d")


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
    assert store.queries[0][1] == {"start": int(START.timestamp())}
    assert "2026" not in store.queries[0][0]


async def test_no_ranking_yet() -> None:
    """Before the first set, `latest` is a 404 problem that says so."""
    async with api([]) as (client, _):
        assert "no 1h ranking city yet" in assert_problem(await client.get(CITY), 404)["detail"]


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
        StoreUnavailableError("NetworkError: 10.1.2.3"),
        ServerException("DB::Exception: secret. Stack trace: 0. x", 60),  # type: ignore[no-untyped-call]
    ],
)
async def test_store_unavailable(error: Exception) -> None:
    """While the store is unavailable the answer is a 503 problem with Retry-After that shows nothing of the inside."""
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


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/", f"{CITY}/", "/api/v1/sales/%00", "/docs"])
async def test_wrong_path(path: str) -> None:
    """A path that does not exist is a 404 problem that says where to look."""
    async with api(ten_rows(1)) as (client, _):
        assert "/openapi.json" in assert_problem(await client.get(path), 404)["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", [CITY, WINDOWS, "/api/v1/health", "/"])
async def test_wrong_method(method: str, path: str) -> None:
    """A method that is not allowed is a 405 problem that names it, and Allow says which is."""
    async with api(ten_rows(1)) as (client, _):
        response = await client.request(method, path)
    assert method in assert_problem(response, 405)["detail"]
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [CITY, WINDOWS, "/api/v1/health", "/", "/page/main.js", "/openapi.json", "/nowhere"])
async def test_head(path: str) -> None:
    """HEAD is answered as GET, without the body."""
    async with api(ten_rows(1)) as (client, _):
        get, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    own = ("x-request-id", "last-modified")
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in get.headers.items() if k not in own
    }


async def test_latest_final() -> None:
    """`latest-final` asks for the newest window whose newest revision is final or corrected; none is a 404 problem."""
    for path in (CITY, SALESMAN):
        async with api(ten_rows(1)) as (client, store):
            assert (await client.get(f"{path}?window=latest-final")).status_code == 200
        assert "newest IN ('final', 'corrected')" in store.queries[0][0]
        async with api([]) as (client, _):
            body = assert_problem(await client.get(f"{path}?window=latest-final"), 404)
        assert "final" in body["detail"]


@pytest.mark.parametrize(
    ("window", "status", "cache"),
    [
        ("latest", "final", "no-cache"),
        ("latest-final", "final", "no-cache"),
        (HOUR, "provisional", "no-cache"),
        (HOUR, "final", "public, max-age=30, must-revalidate"),
        (HOUR, "corrected", "public, max-age=30, must-revalidate"),
    ],
)
async def test_caching(window: str, status: str, cache: str) -> None:
    """Only a final or corrected window that was asked for by its start may be kept, and for half a minute."""
    async with api(ten_rows(1, status)) as (client, _):
        response = await client.get(CITY, params={"window": window})
        again = await client.get(CITY, params={"window": window}, headers={"If-None-Match": response.headers["etag"]})
    assert response.headers["cache-control"] == again.headers["cache-control"] == cache


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{}', "*"])
async def test_not_modified(form: str) -> None:
    """Who has the answer gets 304 without a body, also among other tags and by a weak comparison."""
    async with api(ten_rows(3)) as (client, _):
        tag = (await client.get(CITY)).headers["etag"]
        response = await client.get(CITY, headers={"If-None-Match": form.format(tag)})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == tag
    assert "content-type" not in response.headers
    assert "x-request-id" in response.headers


@pytest.mark.parametrize("have", ["", "other", '"other"', '"{}x"', "{}", '"'])
async def test_modified(have: str) -> None:
    """Any other tag gets the answer."""
    async with api(ten_rows(3)) as (client, _):
        tag = (await client.get(CITY)).headers["etag"].strip('"')
        response = await client.get(CITY, headers={"If-None-Match": have.format(tag)})
    assert response.status_code == 200


async def test_the_tag_is_of_the_answer() -> None:
    """The ETag is the same for the same answer, and another with another revision, status, limit, length or ranking."""
    tags: list[str] = []
    for path, rows in (
        (CITY, ten_rows(3)),
        (CITY, ten_rows(3)),
        (f"{CITY}?limit=2", ten_rows(3)),
        (SALESMAN, ten_rows(3)),
        (CITY, ten_rows(3, revision=6)),
        (CITY, ten_rows(3, "corrected")),
    ):
        async with api(rows) as (client, _):
            tags.append((await client.get(path)).headers["etag"])
    assert tags[0] == tags[1]
    assert len(set(tags)) == 5


async def test_windows() -> None:
    """Windows are listed with start, end, status, revision and asOf; `nextCursor` is there while there are more."""
    row = (START, END, 5, "final", 2000)
    async with api([row]) as (client, store):
        response = await client.get(f"{WINDOWS}?limit=1")
    assert response.json() == {
        "ranking": "city",
        "length": "1h",
        "windows": [
            {"start": HOUR, "end": "2026-02-19T11:00:00Z", "status": "final", "revision": 5, "asOf": instant(AT)}
        ],
    }
    assert response.headers["cache-control"] == "no-cache"
    assert store.queries[0][1]["limit"] == 2
    async with api([row, row]) as (client, store):
        cursor = (await client.get(f"{WINDOWS}?limit=1")).json()["nextCursor"]
        assert (await client.get(f"{WINDOWS}?cursor={cursor}")).status_code == 200
    assert store.queries[1][1]["end"] == int(START.timestamp())


async def test_windows_of_a_period() -> None:
    """`from` is included and `to` is not, to the fraction of a second; what no window can be is cut off."""
    for query, first, end in (
        ("", 0, LAST_SECOND),
        (f"from={HOUR}", int(START.timestamp()), LAST_SECOND),
        (f"to={HOUR}", 0, int(START.timestamp())),
        (
            "from=2026-02-19T09:59:59.000001Z&to=2026-02-19T10:00:00.5Z",
            int(START.timestamp()),
            int(START.timestamp()) + 1,
        ),
        ("from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z", 0, LAST_SECOND),
    ):
        async with api([]) as (client, store):
            response = await client.get(f"{WINDOWS}?{query}")
        assert response.json()["windows"] == []
        assert (store.queries[0][1]["first"], store.queries[0][1]["end"]) == (first, end)


async def test_cursor_of_other_windows() -> None:
    """A cursor of one list of windows is rejected for another ranking, length or country."""
    async with api([(START, END, 5, "final", 2000)] * 2, windows="1h,1d") as (client, _):
        own = f"{WINDOWS}?ranking=salesman&country=BR&limit=1"
        cursor = (await client.get(own)).json()["nextCursor"]
        assert (await client.get(f"{own}&cursor={cursor}")).status_code == 200
        for other in ("", "ranking=salesman&country=PT", "ranking=salesman&country=BR&length=1d"):
            body = assert_problem(await client.get(f"{WINDOWS}?{other}&cursor={cursor}"), 422)
            assert [item["field"] for item in body["errors"]] == ["cursor"]


async def test_request_id_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """A sane X-Request-Id is in the answer, in the problem and in the log; without one a new one is."""
    async with api(RuntimeError("inside")) as (client, _):
        response = await client.get(CITY, headers={"X-Request-Id": "trace/4f-1.a"})
        other = [await client.get("/nowhere") for _ in range(2)]
    assert response.headers["x-request-id"] == "trace/4f-1.a" == assert_problem(response, 500)["requestId"]
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "request_failed" in line]
    assert line["request_id"] == "trace/4f-1.a"
    made = [answer.headers["x-request-id"] for answer in other]
    assert len(set(made)) == 2
    assert [assert_problem(answer, 404)["requestId"] for answer in other] == made


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "a\tb", "<b>", 'a"b', "é"])
async def test_insane_request_id_is_replaced(offered: str) -> None:
    """An X-Request-Id that is empty, too long or has unusual characters is not taken over."""
    async with api([]) as (client, _):
        response = await client.get("/nowhere", headers={b"X-Request-Id": offered.encode()})
    assert response.headers["x-request-id"] != offered
    assert len(response.headers["x-request-id"]) == 32


async def test_problems_are_not_kept() -> None:
    """No cache keeps a problem."""
    async with api([]) as (client, _):
        for path in (CITY, "/nowhere", f"{CITY}?limit=0"):
            assert (await client.get(path)).headers["cache-control"] == "no-store"


async def test_health_up() -> None:
    """When all servers answer, health is 200 and UP."""
    async with api([]) as (client, _):
        response = await client.get("/api/v1/health")
    assert response.status_code == 200
    assert response.json() == {"status": "UP", "clickhouse": "UP", "kafka": "UP"}


async def test_health_down() -> None:
    """When a server is unavailable, health is 503 and says which."""
    async with api([], kafka=down) as (client, _):
        response = await client.get("/api/v1/health")
    assert response.status_code == 503
    assert response.json() == {"status": "DOWN", "clickhouse": "UP", "kafka": "DOWN"}


async def test_health_details() -> None:
    """With details health says since when, how long the check took, the version, why a server is down, and ages."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    async with api([(now_ms - 3_000,)]) as (client, _):
        body = (await client.get("/api/v1/health?details=true")).json()
    details = body.pop("details")
    assert body == {"status": "UP", "clickhouse": "UP", "kafka": "UP"}
    assert details["clickhouse"]["state"] == "UP"
    assert details["clickhouse"]["version"] == "1.2.3"
    assert details["clickhouse"]["latencyMs"] >= 0
    assert details["startedAt"] <= details["clickhouse"]["since"] == details["clickhouse"]["checkedAt"]
    assert details["rankings"]["fresh"]
    assert 3 <= details["rankings"]["ageSeconds"] < 60
    async with api([(now_ms - 300_000,)], kafka=down) as (client, _):
        response = await client.get("/api/v1/health?details=true")
    details = response.json()["details"]
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert details["kafka"]["state"] == "DOWN"
    assert details["kafka"]["why"] == "connection refused"
    assert not details["rankings"]["fresh"]


@pytest.mark.parametrize("answer", [[(0,)], StoreUnavailableError("gone")])
async def test_health_details_without_rankings(answer: Any) -> None:
    """Where there is no ranking, or the store does not say, the details have no age of rankings."""
    async with api(answer) as (client, _):
        response = await client.get("/api/v1/health?details=true")
    assert response.status_code == 200
    assert "rankings" not in response.json()["details"]


async def test_check_is_kept_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check is made again after a second and not before, and `since` is when the state began."""
    now, states = 0.0, [True, True, False, False, True]
    monkeypatch.setattr("services.api.health.time.monotonic", lambda: now)

    async def ask() -> str:
        if states.pop(0):
            return ""
        raise StoreUnavailableError("gone")

    check = Check(ask)
    seen = []
    for now in (0.0, 0.9, 1.1, 2.0, 2.2, 2.3, 3.5, 4.6):  # noqa: B007 - the clock reads it
        seen.append(await check.health())
    assert [health.state for health in seen] == ["UP", "UP", "UP", "UP", "DOWN", "DOWN", "DOWN", "UP"]
    assert len({id(health) for health in seen}) == 5
    assert seen[0].since == seen[3].since
    assert seen[4].since == seen[6].since == seen[4].checked_at
    assert seen[6].checked_at > seen[4].checked_at
    assert seen[7].since == seen[7].checked_at


async def test_checks_of_servers_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and says nothing is DOWN after the limit, ClickHouse and Kafka alike."""
    monkeypatch.setattr("services.api.health.LIMIT_S", 0.3)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    probe = KafkaProbe(KafkaSettings(host="127.0.0.1", port=port))
    async with silent, clickhouse(ClickHouseSettings(host="127.0.0.1", native_port=port), 2, 5.0) as store:
        began = asyncio.get_running_loop().time()
        states = await asyncio.gather(clickhouse_check(store).health(), Check(probe.ask).health())
        took = asyncio.get_running_loop().time() - began
        await probe.close()
    assert [server.state for server in states] == ["DOWN", "DOWN"]
    assert all("no answer" in (server.why or "") for server in states)
    assert 0.3 <= took < 2


async def test_check_is_shared() -> None:
    """Many who ask at once cost one check."""
    checks = 0

    async def count() -> str:
        nonlocal checks
        checks += 1
        await asyncio.sleep(0)
        return ""

    check = Check(count)
    assert {server.state for server in await asyncio.gather(*(check.health() for _ in range(50)))} == {"UP"}
    assert checks == 1


async def test_check_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers is DOWN after the limit."""
    monkeypatch.setattr("services.api.health.LIMIT_S", 0.05)
    server = await Check(asyncio.Event().wait).health()  # type: ignore[arg-type]
    assert server.state == "DOWN"
    assert "no answer" in (server.why or "")


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


@pytest.mark.parametrize("root", ["", "/sales/placar"])
async def test_page(root: str) -> None:
    """The page and every file that it names are served, under a policy that allows nothing from elsewhere."""
    async with api([], root_path=root) as (client, _):
        answers = {f"{root}/": await client.get(f"{root}/")}
        named = re.findall(r'(?:src|href)="([^"#]+)"', answers[f"{root}/"].text)
        assert all(path.startswith(f"{root}/") for path in named)
        wanted = [path for path in named if path.startswith(f"{root}/page/")]
        while wanted:
            path = wanted.pop()
            if path not in answers:
                answers[path] = await client.get(path)
                wanted += [f"{root}/page/{name}" for name in re.findall(r'from "\./([^"]+)"', answers[path].text)]
        beside = await client.get(f"{root}/page/%2e%2e/app.py")
        document = (await client.get(f"{root}/openapi.json")).json()
    assert document.get("servers") == ([{"url": root}] if root else None)
    assert {f"{root}/page/{name}" for name in ("style.css", "theme.js", "icon.svg", "settings.js")} <= set(answers)
    assert len([path for path in answers if path.endswith(".js")]) > 4
    for path, answer in answers.items():
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy
        assert not {part for part in policy if "unsafe" in part or "http" in part or "*" in part}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), path
    assert all("javascript" in answers[path].headers["content-type"] for path in answers if path.endswith(".js"))
    assert beside.status_code == 404


@pytest.mark.parametrize("address", ["/ops", "/ops/runbook", "/api/v1/ops"])
async def test_operations_are_not_public(address: str) -> None:
    """The operations dashboard is a service of its own: the API serves nothing of it."""
    async with api([]) as (client, _):
        assert_problem(await client.get(address), 404)
        document = (await client.get("/openapi.json")).json()
    assert address not in document["paths"]


async def test_openapi_names_every_ranking() -> None:
    """The OpenAPI document describes every ranking with its camelCase fields and its problems."""
    async with api([]) as (client, _):
        document = (await client.get("/openapi.json")).json()
    rankings = {f"/api/v1/sales/{ranking.path}" for ranking in RANKINGS}
    assert rankings | {"/api/v1/health", "/api/v1/metrics"} <= set(document["paths"])
    assert "totalSales" in str(document["components"]["schemas"])
    assert {"404", "422", "503"} <= set(document["paths"][CITY]["get"]["responses"])
