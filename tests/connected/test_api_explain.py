"""The sales behind a rank, served from real ClickHouse tables as the sink writes them."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.clickhouse_sink.transform import rows
from tests import oracle
from tests.connected.serving import Database, database, ranking_set
from tests.connected.test_api import api

EXPLAIN = "/api/v1/sales/explain"
START = datetime(2026, 2, 19, 10, tzinfo=UTC)
WINDOW = "2026-02-19T10:00:00Z"
SOURCES = ("files", "legacy", "postgres")


@pytest.fixture
async def db(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A database of the test's own."""
    async with database(servers) as made:
        yield made


def sale(number: int, **more: Any) -> dict[str, Any]:
    """A sale of START's hour; several have the same instant."""
    return {
        "sale_id": f"s{number}",
        "source": SOURCES[number % 3],
        "salesman_name": ("Ana", "Rui")[number % 2],
        "city": ("São Paulo", "Recife")[number % 2],
        "country": "BR" if number % 5 else "PT",
        "amount": Decimal("9999999999999.99") if number == 4 else Decimal(number) + Decimal("0.37"),
        "product": "GPU",
        "event_time": START + timedelta(seconds=number % 4, milliseconds=number % 2),
        "ingestion_time": START,
        "version": 2**62 + 1 if number == 6 else 1,
        "deleted": False,
    } | more


HISTORY = [
    *(sale(n) for n in range(60)),
    *(sale(n, version=2, deleted=True) for n in range(8, 60, 10)),
    *(sale(n, version=2, event_time=START + timedelta(hours=1)) for n in (10, 12)),  # left the window
    *(sale(n, version=2, city="São Paulo", salesman_name="Ana") for n in (11, 13)),  # came from another name
    *(sale(n, version=2, amount=Decimal("0.01")) for n in (14, 16)),
    # other sources' sales of the same ids
    *(sale(n, version=3, source=SOURCES[(n + 1) % 3], city="Recife", salesman_name="Rui") for n in (20, 22)),
    sale(24, version=3, source=SOURCES[(24 + 1) % 3], deleted=True),
    sale(26, version=3, source=SOURCES[(26 + 1) % 3], event_time=START + timedelta(hours=1)),
    sale(100, event_time=START - timedelta(milliseconds=1)),
    sale(102, event_time=START + timedelta(hours=1)),
    sale(104, event_time=START + timedelta(minutes=59, seconds=59, milliseconds=999)),
    sale(106, city="O'Hara \\ %(x)s", salesman_name="O'Hara \\ %(x)s"),
]


async def store(db: Database) -> dict[oracle.SetKey, tuple[oracle.Entry, ...]]:
    """Write the history and the sets that the oracle makes of it; returns these."""
    plan = db.plans["sales.unified"]
    await db.store.insert(plan.mapping.table, plan.columns, [row for record in HISTORY for row in rows(plan, record)])
    expected = oracle.expected(HISTORY)
    for set_key, entries in expected.items():
        topic = f"rankings.{set_key.ranking}"
        record = ranking_set(topic, set_key.start, 1, [], country=set_key.country)
        record["entries"] = [
            {"rank": p.rank, "name": p.name, "total_sales": p.total, "transaction_count": p.count} for p in entries
        ]
        await db.write(topic, record)
    return expected


async def pages(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """All pages of an answer, decimals exact."""
    answers: list[dict[str, Any]] = []
    while not answers or "nextCursor" in answers[-1]:
        more = {"cursor": answers[-1]["nextCursor"]} if answers else {}
        answer = await client.get(EXPLAIN, params=query | more)
        assert answer.status_code == 200, answer.text
        answers.append(json.loads(answer.text, parse_float=Decimal))
    return answers


async def test_explanations(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """The sales of every rank add up to its total and count, each once, in pages of any size."""
    expected = await store(db)
    ranks = [(set_key, entry) for set_key, entries in expected.items() if set_key.start == START for entry in entries]
    assert len(ranks) >= 8
    async with api(servers, db, tmp_path) as (client, _):
        for set_key, entry in ranks:
            query: dict[str, Any] = {"ranking": set_key.ranking, "name": entry.name, "window": WINDOW}
            if set_key.country:
                query["country"] = set_key.country
            whole = await pages(client, **query, limit=500)
            small = await pages(client, **query, limit=7)
            assert len(whole) == 1
            assert [sale for page in small for sale in page["sales"]] == whole[0]["sales"]
            assert {(page["totalSales"], page["transactionCount"]) for page in (*whole, *small)} == {
                (entry.total, entry.count)
            }
            sales = whole[0]["sales"]
            assert (sum(sale["amount"] for sale in sales), len(sales)) == (entry.total, entry.count)
            keys = [(sale["source"], sale["saleId"]) for sale in sales]
            assert len(set(keys)) == len(keys)

        # one sale, field by field, with a version beyond what a float holds, as text
        sales = (await pages(client, ranking="city", name="São Paulo", window=WINDOW))[0]["sales"]
        assert next(sale for sale in sales if sale["saleId"] == "s6") == {
            "source": "files",
            "saleId": "s6",
            "version": str(2**62 + 1),
            "amount": Decimal("6.37"),
            "eventTime": "2026-02-19T10:00:02Z",
            "salesmanName": "Ana",
            "city": "São Paulo",
            "country": "BR",
            "product": "GPU",
        }
        moments = [datetime.fromisoformat(sale["eventTime"]) for sale in sales]
        assert moments == sorted(moments)

        # `latest` stays the same window for the whole of a reading, also when a newer one comes
        latest = (await client.get(EXPLAIN, params={"ranking": "city", "name": "São Paulo", "limit": 1})).json()
        assert latest["window"]["start"] == "2026-02-19T11:00:00Z"
        await db.write("rankings.city", ranking_set("rankings.city", START + timedelta(hours=9), 1, ["x"]))
        query = {"ranking": "city", "name": "São Paulo", "cursor": latest["nextCursor"]}
        assert (await client.get(EXPLAIN, params=query)).json()["window"] == latest["window"]

        # problems
        for query, status in (
            ({"ranking": "city", "name": "Recife", "window": "2026-02-19T10:30:00Z"}, 404),
            ({"ranking": "city", "name": "Nowhere", "window": WINDOW}, 404),
            ({"ranking": "salesman", "name": "Ana", "country": "AR", "window": WINDOW}, 404),
            ({"ranking": "city", "name": "São Paulo", "window": WINDOW, "cursor": latest["nextCursor"]}, 422),
        ):
            rejected = await client.get(EXPLAIN, params=query)
            assert rejected.status_code == status, query
            assert rejected.headers["content-type"] == "application/problem+json"


async def test_a_rank_of_a_day(servers: Mapping[str, str], tmp_path: Path) -> None:
    """With a length the sales are those of its window: a day has those of all its hours, in pages too."""
    windows = "1h,1d@America/Sao_Paulo"
    day = START.replace(hour=3)
    async with database(servers, windows) as db:
        plan = db.plans["sales.unified"]
        rows_of = [row for record in HISTORY for row in rows(plan, record)]
        await db.store.insert(plan.mapping.table, plan.columns, rows_of)
        await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["São Paulo"]))
        of_day = ranking_set("rankings.city", day, 1, ["São Paulo"]) | {"window_end": day + timedelta(days=1)}
        await db.write("rankings.city.1d", of_day)
        want = {
            (sale["source"], sale["sale_id"])
            for sale in oracle.current(HISTORY)
            if sale["city"] == "São Paulo" and day <= sale["event_time"] < day + timedelta(days=1)
        }
        async with api(servers, db, tmp_path, RANKING_WINDOWS=windows) as (client, _):
            day_pages = await pages(client, ranking="city", name="São Paulo", length="1d", limit=7)
            query = {"ranking": "city", "name": "São Paulo", "cursor": day_pages[0]["nextCursor"]}
            without = await client.get(EXPLAIN, params=query)  # the cursor knows of which length it is
            hour = await pages(client, ranking="city", name="São Paulo", limit=500)
        keys = [(sale["source"], sale["saleId"]) for page in day_pages for sale in page["sales"]]
        assert (set(keys), len(keys)) == (want, len(want))
        assert {page["transactionCount"] for page in day_pages} == {len(want)}
        assert [sale["saleId"] for sale in without.json()["sales"]][:7] == [
            sale["saleId"] for sale in day_pages[1]["sales"]
        ]
        assert 0 < hour[0]["transactionCount"] < len(want)
