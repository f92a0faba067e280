"""The table of rankings is all that the API knows of them: a row more is served, streamed, shown and described."""

import json
import subprocess
import sys
from typing import Any

import pytest

# In a process of its own, with one more row before the API is imported. The contract's folder is that of products.
SCRIPT = """
import asyncio, json
from contracts import rankings
from contracts.windows import window_lengths

ROW = rankings.RankingDefinition(
    "region", column="sales_region", per_country=True, topic="rankings.product", table="top_regions",
    path="top-regions", title={"en": "Top regions", "pt": "Melhores regiões"},
    competitor={"en": "Region", "pt": "Região"},
)
rankings.RANKINGS += (ROW,)
rankings.BY_NAME = {ranking.name: ranking for ranking in rankings.RANKINGS}

import yaml
from services.api import asyncapi
from services.api.live_rankings import live_set
from services.api.protocol import from_query
from tests.unit.test_api_explain import SalesStore, sale_row, select_of
from tests.unit.test_api_http import START, END, api, ten_rows

async def main():
    record = {
        "ranking": "region", "country": "BR", "window_start": START, "window_end": END,
        "revision": 1, "status": "final", "watermark": START, "as_of": START,
        "entries": [{"rank": 1, "name": "Sul", "total_sales": 10, "transaction_count": 1}],
    }
    async with api(ten_rows(1)) as (client, store):
        rest = await client.get("/api/v1/sales/top-regions?country=PT")
        windows = await client.get("/api/v1/windows?ranking=region&limit=0")
        page = await client.get("/")
        document = (await client.get("/openapi.json")).json()
        queries = list(store.queries)
        sales = SalesStore([sale_row(1)])
        store.select = select_of(sales)
        explained = await client.get("/api/v1/sales/explain?ranking=region&name=Sul&country=PT")
    print(json.dumps({
        "rest": rest.json(), "query": queries[0][0], "values": queries[0][1],
        "windows": windows.json()["errors"][0]["field"],
        "page": page.text,
        "paths": list(document["paths"]), "schemas": list(document["components"]["schemas"]),
        "explain": [explained.status_code, sales.queries[-1][0]],
        "set": live_set(ROW, "1h", record, 0, 0).body,
        "subscription": from_query([("rankings", "region")], ["1h"]).described()["rankings"],
        "default": from_query([], ["1h"]).described()["rankings"],
        "asyncapi": yaml.safe_load(asyncapi.document())["components"]["schemas"],
    }))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def served() -> dict[str, Any]:
    """What an API with a fourth ranking serves."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    answers: dict[str, Any] = json.loads(run.stdout)
    return answers


def test_rest(served: dict[str, Any]) -> None:
    """It has an endpoint, with its table, column and country, and entries that name the competitor."""
    assert "FROM top_regions FINAL" in served["query"]
    assert "rank, sales_region, country AS of_country" in served["query"]
    assert served["values"] == {"country": "PT"}
    (entry,) = served["rest"]["rankings"]
    assert entry == {"rank": 1, "salesRegion": "name 1", "country": "BR", "totalSales": 1.0, "transactionCount": 1}
    assert served["windows"] == "limit"  # the ranking is known
    assert served["explain"][0] == 200
    assert "sales_region = %(name)s AND country = %(country)s" in served["explain"][1]


def test_documents(served: dict[str, Any]) -> None:
    """Both documents describe it."""
    assert "/api/v1/sales/top-regions" in served["paths"]
    assert {"RegionRank", "RegionRanking"} <= set(served["schemas"])
    assert served["asyncapi"]["rankings"]["items"]["enum"][-1] == "region"
    assert "salesRegion" in served["asyncapi"]["entry"]["oneOf"][-1]["properties"]


def test_live_stream(served: dict[str, Any]) -> None:
    """It can be subscribed to, is among all rankings, and its sets are what REST answers."""
    assert served["subscription"] == ["region"]
    assert served["default"][-1] == "region"
    assert served["set"].startswith('{"ranking":"region","length":"1h","country":"BR","window":')
    assert '"rankings":[{"rank":1,"salesRegion":"Sul","country":"BR","totalSales":10.00,' in served["set"]


def test_page(served: dict[str, Any]) -> None:
    """The page is given its field and what people read of it."""
    assert '"name": "region", "field": "salesRegion", "perCountry": true' in served["page"]
    assert "Melhores regiões" in served["page"]
    assert '<a href="/api/v1/sales/top-regions">Top regions</a>' in served["page"]
