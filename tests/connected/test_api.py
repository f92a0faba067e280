"""The API against real ClickHouse and Kafka."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.clickhouse import clickhouse
from contracts.time import instant
from tests.connected.serving import Database, database, ranking_set, service
from tests.connected.streams import forwarder, free_port, until
from tests.connected.unit_process import UnitProcess

CITY, SALESMAN, WINDOWS = "/api/v1/sales/top-by-city", "/api/v1/sales/top-salesman", "/api/v1/windows"
START = datetime(2026, 2, 19, 10, tzinfo=UTC)


@pytest.fixture
async def db(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A database of the test's own."""
    async with database(servers) as made:
        yield made


async def test_a_query_has_so_many_threads(db: Database) -> None:
    """The server gets how many threads a query may have, and decides itself where it is not."""
    query = "SELECT value, changed FROM system.settings WHERE name = 'max_threads'"
    async with clickhouse(db.settings, 1, 10, threads=7) as store:
        assert await store.select(query) == [("7", 1)]
    ((_, changed),) = await db.store.select(query)
    assert changed == 0


@asynccontextmanager
async def api(
    servers: Mapping[str, str], db: Database, folder: Path, **more: str
) -> AsyncIterator[tuple[httpx.AsyncClient, UnitProcess]]:
    """The API as a process over the test's database, listening; what a test has written is what it reads next."""
    port = str(free_port())
    unshared = {"API_SHARE_S": "0", "API_EXPLAIN_SHARE_S": "0"}
    settings = {"CLICKHOUSE_DB": db.settings.db, "API_PORT": port, **unshared, **more}
    async with (
        service("api", servers, folder, **settings) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):

        async def listens() -> bool:
            try:
                await client.get("/")
            except httpx.TransportError:
                return False
            return True

        await until(listens, "the API listens")
        yield client, process


async def test_rankings_as_written(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """Both rankings are served as they were written, to the cent, with window, status, revision, watermark, asOf."""
    await db.write("rankings.city", ranking_set("rankings.city", START, 41, ["São Paulo", "Recife"], status="final"))
    await db.write("rankings.salesman", ranking_set("rankings.salesman", START, 42, ["Ana"], country="BR"))
    await db.write("rankings.salesman", ranking_set("rankings.salesman", START, 43, ["Rui"], country="PT"))
    async with api(servers, db, tmp_path) as (client, _):
        assert (await client.get(CITY)).text == (
            '{"window":{"start":"2026-02-19T10:00:00Z","end":"2026-02-19T11:00:00Z"},"status":"final","revision":41,'
            '"asOf":"2026-02-19T10:00:00.042Z","watermark":"2026-02-19T10:00:00.041Z","rankings":['
            '{"rank":1,"city":"São Paulo","totalSales":50.01,"transactionCount":1},'
            '{"rank":2,"city":"Recife","totalSales":49.01,"transactionCount":2}]}'
        )
        brazil = (await client.get(SALESMAN)).json()
        portugal = (await client.get(SALESMAN, params={"country": "PT"})).json()
    assert [entry["salesmanName"] for entry in brazil["rankings"]] == ["Ana"]
    assert [(entry["salesmanName"], entry["country"]) for entry in portugal["rankings"]] == [("Rui", "PT")]


async def test_largest_total_is_exact(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """The largest total that the table holds is served to the last cent."""
    record = ranking_set("rankings.city", START, 1, ["x"])
    record["entries"][0]["total_sales"] = Decimal("9999999999999999.99")
    await db.write("rankings.city", record)
    async with api(servers, db, tmp_path) as (client, _):
        assert '"totalSales":9999999999999999.99,' in (await client.get(CITY)).text


async def test_latest_is_the_newest_window(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """`latest` is the newest window, whatever was written last; for salespeople it is the country's own."""
    older = START - timedelta(hours=3)
    async with api(servers, db, tmp_path) as (client, _):
        missing = await client.get(CITY)
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"
        await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["now"]))
        await db.write("rankings.city", ranking_set("rankings.city", older, 2, ["then"], status="corrected"))
        await db.write("rankings.salesman", ranking_set("rankings.salesman", START, 1, ["Ana"], country="BR"))
        await db.write("rankings.salesman", ranking_set("rankings.salesman", older, 2, ["Rui"], country="PT"))
        assert (await client.get(CITY)).json()["window"]["start"] == instant(START)
        assert (await client.get(SALESMAN, params={"country": "PT"})).json()["window"]["start"] == instant(older)
        assert (await client.get(SALESMAN, params={"country": "AR"})).status_code == 404


async def test_window_by_instant(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A window is served by its start instant; an instant that starts no window, or cannot, is a 404 problem."""
    older = START - timedelta(hours=3)
    await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["now"]))
    await db.write("rankings.city", ranking_set("rankings.city", older, 2, ["then"]))
    async with api(servers, db, tmp_path) as (client, _):

        async def ask(window: str) -> httpx.Response:
            return await client.get(CITY, params={"window": window})

        assert (await ask(instant(older))).json()["rankings"][0]["city"] == "then"
        assert (await ask("2026-02-19T04:00:00-03:00")).json()["rankings"][0]["city"] == "then"
        wrapped = datetime.fromtimestamp(
            START.timestamp() + 2**32, UTC
        )  # what a 32-bit second would confuse with START
        for unknown in (instant(START + timedelta(minutes=30)), instant(START + timedelta(hours=1)), instant(wrapped)):
            assert (await ask(unknown)).status_code == 404


async def test_emptied_window_is_served_as_empty(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A window that shrank to seven names and then to none is served so, not as what it was."""
    async with api(servers, db, tmp_path) as (client, _):
        for number, length in enumerate((10, 7, 0), 1):
            names = [f"city {n}" for n in range(length)]
            await db.write("rankings.city", ranking_set("rankings.city", START, number, names))
            body: dict[str, Any] = (await client.get(CITY)).json()
            assert body["revision"] == number
            assert [entry["city"] for entry in body["rankings"]] == names


async def test_each_length_has_its_rankings(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Hours and days that begin together are served apart; the newest window is the length's own."""
    windows = "1h,1d@America/Sao_Paulo"
    midnight = START.replace(hour=3)
    async with database(servers, windows) as db:
        await db.write("rankings.city", ranking_set("rankings.city", midnight, 1, ["of the hour"]))
        await db.write("rankings.city", ranking_set("rankings.city", START, 2, ["of a later hour"]))
        await db.write("rankings.city.1d", ranking_set("rankings.city", midnight, 3, ["of the day"]))
        await db.write("rankings.salesman.1d", ranking_set("rankings.salesman", midnight, 4, ["Ana"], country="BR"))
        async with api(servers, db, tmp_path, RANKING_WINDOWS=windows) as (client, _):

            async def first(**query: str) -> str:
                answer = await client.get(CITY, params=query)
                return str(answer.json()["rankings"][0]["city"])

            assert await first() == await first(length="1h") == "of a later hour"
            assert await first(window=instant(midnight)) == "of the hour"
            assert await first(length="1d") == await first(length="1d", window=instant(midnight)) == "of the day"
            assert (await client.get(CITY, params={"length": "1d", "window": instant(START)})).status_code == 404
            assert (await client.get(SALESMAN, params={"length": "1d"})).json()["rankings"][0]["salesmanName"] == "Ana"
            assert (await client.get(SALESMAN)).status_code == 404
            rejected = await client.get(CITY, params={"length": "7d"})
            assert rejected.status_code == 422
            assert rejected.json()["detail"].endswith("1h, 1d")


async def test_windows(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """All windows with the newest revision of each, newest first, in pages of any size also while windows arrive."""
    hours = [START + timedelta(hours=n) for n in range(5)]
    for number, hour in enumerate(hours, 1):
        await db.write("rankings.city", ranking_set("rankings.city", hour, number, ["x"]))
        await db.write("rankings.salesman", ranking_set("rankings.salesman", hour, number, ["Rui"], country="PT"))
    await db.write("rankings.city", ranking_set("rankings.city", hours[1], 70, [], status="corrected"))
    await db.write("rankings.salesman", ranking_set("rankings.salesman", hours[2], 9, ["Ana"], country="BR"))
    async with api(servers, db, tmp_path) as (client, _):

        async def ask(**query: Any) -> dict[str, Any]:
            answer = await client.get(WINDOWS, params=query)
            assert answer.status_code == 200, answer.text
            body: dict[str, Any] = answer.json()
            return body

        whole = await ask()
        assert [window["start"] for window in whole["windows"]] == [instant(hour) for hour in reversed(hours)]
        assert "nextCursor" not in whole
        assert whole["windows"][3] == {
            "start": instant(hours[1]),
            "end": instant(hours[2]),
            "status": "corrected",
            "revision": 70,
            "asOf": instant(hours[1] + timedelta(milliseconds=71)),
        }
        for limit in (1, 2, 5):
            seen, page = [], await ask(limit=limit)
            while "nextCursor" in page:
                assert len(page["windows"]) == limit
                seen += page["windows"]
                page = await ask(limit=limit, cursor=page["nextCursor"])
            assert seen + page["windows"] == whole["windows"]
        first = await ask(limit=2)
        await db.write("rankings.city", ranking_set("rankings.city", START + timedelta(hours=9), 1, ["newer"]))
        rest = await ask(limit=3, cursor=first["nextCursor"])
        assert first["windows"] + rest["windows"] == whole["windows"]
        period = {"from": instant(hours[1]), "to": instant(hours[3])}
        assert (await ask(**period))["windows"] == whole["windows"][2:4]
        page = await ask(**period, limit=1)
        assert [*page["windows"], *(await ask(**period, cursor=page["nextCursor"]))["windows"]] == whole["windows"][2:4]
        assert [window["revision"] for window in (await ask(ranking="salesman"))["windows"]] == [9]
        assert len((await ask(ranking="salesman", country="PT"))["windows"]) == 5
        assert (await ask(ranking="salesman", country="AR"))["windows"] == []


async def test_latest_final_and_tags(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """`latest-final` is the newest window that is final now; a tag holds until the ranking changes."""
    later = START + timedelta(hours=1)
    async with api(servers, db, tmp_path) as (client, _):

        async def final(path: str = CITY, have: str = "", **query: str) -> httpx.Response:
            return await client.get(path, params={"window": "latest-final", **query}, headers={"If-None-Match": have})

        for number, path in ((1, CITY), (2, SALESMAN)):
            topic = "rankings.city" if path == CITY else "rankings.salesman"
            country = "" if path == CITY else "BR"

            async def write(start: datetime, revision: int, status: str, topic: str = topic, of: str = country) -> None:
                await db.write(topic, ranking_set(topic, start, revision, ["x"], country=of, status=status))

            await write(START, number, "provisional")
            assert (await final(path)).status_code == 404
            await write(START, number + 10, "final")
            await write(later, number, "provisional")
            answer = await final(path)
            assert (answer.json()["window"]["start"], answer.json()["status"]) == (instant(START), "final")
            tag = answer.headers["etag"]
            same = await final(path, tag)
            assert (same.status_code, same.content) == (304, b"")
            await write(START, number + 20, "corrected")
            corrected = await final(path, tag)
            assert (corrected.status_code, corrected.json()["status"]) == (200, "corrected")
            await write(later, number + 10, "final")
            assert (await final(path)).json()["window"]["start"] == instant(later)
            await write(later, number + 20, "provisional")  # as a rebuild may publish it
            assert (await final(path)).json()["window"]["start"] == instant(START)
        assert (await final(SALESMAN, country="PT")).status_code == 404
        sold = {"ranking": "city", "name": "x"}
        assert (await final("/api/v1/sales/explain", **sold)).status_code == 404  # no such sale, but such a window
        assert instant(START) in (await final("/api/v1/sales/explain", **sold)).json()["detail"]


async def test_limit(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A limit keeps the first ranks; one out of range is a 422 problem that names it."""
    await db.write("rankings.city", ranking_set("rankings.city", START, 1, list("abcdefghij")))
    async with api(servers, db, tmp_path) as (client, _):
        assert [e["city"] for e in (await client.get(f"{CITY}?limit=3")).json()["rankings"]] == list("abc")
        rejected = await client.get(f"{CITY}?limit=11")
    assert rejected.status_code == 422
    assert rejected.json()["errors"][0]["field"] == "limit"


async def test_head(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """HEAD is answered wherever GET is, with the same headers and no body, also where the answer never ends."""
    await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["x"]))
    paths = ("/", "/page/main.js", "/openapi.json", "/api/v1/asyncapi.yaml", CITY, "/api/v1/health", "/api/v1/metrics")
    async with api(servers, db, tmp_path, API_LIVE_TOKEN="0123456789abcdef") as (client, process):
        await until(process.ready, "the API is ready")
        for path in paths:
            head, get = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["content-type"] == get.headers["content-type"]
            assert head.headers.get("etag") == get.headers.get("etag")
        assert (
            await client.head(CITY, headers={"If-None-Match": (await client.get(CITY)).headers["etag"]})
        ).status_code == 304
        assert (await client.head("/nowhere")).status_code == 404
        events = "/api/v1/sales/live/events"
        assert (await client.head(events)).status_code == 401
        answer = await client.head(events, headers={"Authorization": "Bearer 0123456789abcdef"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        metrics = await process.metrics()
        assert f'placar_http_requests_total{{method="HEAD",route="{CITY}",status="304",unit="api"}} 1' in metrics
        assert 'placar_live_connections{kind="sse",unit="api"} 0' in metrics


async def test_store_down_and_up_again(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """While ClickHouse is down the API answers 503 with Retry-After and DOWN; when it is back, rankings and UP."""
    port = free_port()
    await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["x"]))
    moved = {**servers, "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_NATIVE_PORT": str(port)}
    host, target = servers["CLICKHOUSE_HOST"], int(servers["CLICKHOUSE_NATIVE_PORT"])
    async with api(moved, db, tmp_path) as (client, process):

        async def away() -> bool:
            health = await client.get("/api/v1/health")
            why = (await process.missing() or {}).get("clickhouse", "")
            return (
                health.status_code == 503
                and health.json() == {"status": "DOWN", "clickhouse": "DOWN", "kafka": "UP"}
                and f"127.0.0.1:{port}" in why
                and "CLICKHOUSE_NATIVE_PORT" in why
            )

        for _ in range(2):
            await until(away, "the API says that the store is unavailable")
            details = (await client.get("/api/v1/health?details=true")).json()["details"]
            assert details["clickhouse"]["why"]
            assert (details["clickhouse"]["state"], details["kafka"]["state"]) == ("DOWN", "UP")
            assert "rankings" not in details
            rejected = await client.get(CITY)
            assert rejected.status_code == 503
            assert rejected.headers["content-type"] == "application/problem+json"
            assert int(rejected.headers["retry-after"]) >= 1
            async with forwarder(port, host, target):

                async def back() -> bool:
                    answers = [await client.get(path) for path in (CITY, "/api/v1/health")]
                    return [answer.status_code for answer in answers] == [200, 200] and await process.ready()

                await until(back, "the API serves again")
                details = (await client.get("/api/v1/health?details=true")).json()["details"]
                assert "." in details["clickhouse"]["version"]
                assert "why" not in details["clickhouse"]
                assert details["rankings"]["fresh"] is False


async def test_kafka_down(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """While Kafka is unavailable health says so and rankings are still served."""
    await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["x"]))
    moved = {**servers, "KAFKA_HOST": "127.0.0.1", "KAFKA_PORT": str(free_port())}
    async with api(moved, db, tmp_path) as (client, process):
        health = await client.get("/api/v1/health")
        assert health.status_code == 503
        assert health.json() == {"status": "DOWN", "clickhouse": "UP", "kafka": "DOWN"}
        assert (await client.get(CITY)).status_code == 200
        assert "kafka" in (await process.missing() or {})


async def test_metrics(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """The metrics of the API are served under /api/v1 and on the operations port alike."""
    async with api(servers, db, tmp_path) as (client, process):
        await client.get(CITY)
        text = (await client.get("/api/v1/metrics")).text
        assert f'placar_http_requests_total{{method="GET",route="{CITY}",status="404",unit="api"}} 1' in text
        assert "placar_http_requests_total" in await process.metrics()


async def test_port_in_use(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A port that is taken ends the process with the address and the setting."""
    taken = free_port()
    async with (
        forwarder(taken, "127.0.0.1", 1),
        service("api", servers, tmp_path, CLICKHOUSE_DB=db.settings.db, API_PORT=str(taken)) as process,
    ):
        assert await process.exit_status() == 1
    assert f"127.0.0.1:{taken}" in process.logged()
    assert "API_PORT" in process.logged()


async def test_clean_stop(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """SIGTERM ends the API with status 0."""
    async with api(servers, db, tmp_path) as (_, process):
        assert await process.end() == 0
