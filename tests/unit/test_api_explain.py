"""The sales behind a rank: parameters, cursors, pages and exact sums, with a store in memory."""

import json
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rankings import BY_NAME
from contracts.windows import DEFAULT
from services.api.models import encode
from services.api.transform import LAST_SECOND, Cursor, Rank, SalePosition, explanation, parse_cursor, write_cursor
from tests.unit.test_api_http import END, START, api, assert_problem, ten_rows

EXPLAIN = "/api/v1/sales/explain"
RANK = Rank(BY_NAME["city"], "1h", START, END, "Recife", "")
START_MS = int(START.timestamp()) * 1000


def sale_row(number: int, amount: str = "10.00") -> tuple[Any, ...]:
    """A row as the query gives it."""
    head = ("files", f"s{number:03}", 2**63 + number, Decimal(amount), START_MS + number)
    return (*head, "Ana", "Recife", "BR", "GPU")


class SalesStore:
    """Answers as the tables would: a set, or a page of its sales and behind it the totals of all."""

    def __init__(self, sales: list[tuple[Any, ...]]) -> None:
        self.sales = sales
        self.queries: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows."""
        self.queries.append((query, values))
        if "FROM top_" in query:
            return ten_rows(1)
        after = (values["after_ms"], values["after_source"], values["after_id"])
        page = [(*row, 1) for row in self.sales if (row[4], row[0], row[1]) > after][: values["limit"]]
        total = sum((row[3] for row in self.sales), Decimal(0))
        return [*page, ("", "", 0, total, 0, "", "", "", "", len(self.sales))]


async def ask(sales: list[tuple[Any, ...]], query: str, windows: str = DEFAULT) -> tuple[httpx.Response, SalesStore]:
    """The answer to one request."""
    store = SalesStore(sales)
    async with api(ten_rows(1), windows=windows) as (client, memory):
        memory.select = select_of(store)  # type: ignore[method-assign]
        return await client.get(f"{EXPLAIN}?{query}"), store


def select_of(store: SalesStore) -> Any:
    """The store's answers as the coroutine that the application awaits."""

    async def select(query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return store(query, values)

    return select


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("name=Recife", "ranking"),
        ("ranking=region&name=Sul", "ranking"),
        ("ranking=city", "name"),
        ("ranking=city&name=", "name"),
        (f"ranking=city&name={'x' * 256}", "name"),
        ("ranking=city&name=Recife&window=now", "window"),
        ("ranking=city&name=Recife&length=1d", "length"),
        ("ranking=city&name=Recife&country=BR", "country"),
        ("ranking=salesman&name=Ana&country=br", "country"),
        ("ranking=city&name=Recife&limit=0", "limit"),
        ("ranking=city&name=Recife&limit=1_0", "limit"),
        ("ranking=product&name=GPU&country=BR", "country"),
        ("ranking=city&name=Recife&limit=501", "limit"),
        ("ranking=city&name=Recife&cursor=x", "cursor"),
        ("ranking=city&name=Recife&cursor=é", "cursor"),
        ("ranking=city&name=Recife&cursor=WzEsMl0", "cursor"),
        ("ranking=city&name=Recife&cursor=WzEsMiwzLCI0IiwiNSJd", "cursor"),
    ],
)
async def test_wrong_parameter(query: str, field: str) -> None:
    """A wrong parameter is a 422 problem that names it, and no sale is read."""
    response, store = await ask([sale_row(1)], query)
    body = assert_problem(response, 422)
    assert [item["field"] for item in body["errors"]] == [field]
    assert field in body["detail"]
    assert not store.queries


async def test_sales_are_shared_for_longer() -> None:
    """The sales behind a rank are read once for all who ask soon after, also where the set is read each time."""
    store = SalesStore([sale_row(1)])
    async with api(ten_rows(1), share_s=0, explain_share_s=5) as (client, memory):
        memory.select = select_of(store)  # type: ignore[method-assign]
        answers = [await client.get(f"{EXPLAIN}?ranking=city&name=Recife") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert ["FROM top_" in query for query, _ in store.queries] == [True, False, True, True]


async def test_cursor_of_another_window() -> None:
    """A cursor of one window is rejected for another, and without a window it names its own."""
    cursor = write_cursor(Cursor("1h", int(START.timestamp()), SalePosition(START_MS, "files", "s000")))
    other, _ = await ask([sale_row(1)], f"ranking=city&name=Recife&window=2026-02-19T11:00:00Z&cursor={cursor}")
    assert assert_problem(other, 422)["errors"][0]["field"] == "cursor"
    own, store = await ask([sale_row(1)], f"ranking=city&name=Recife&cursor={cursor}")
    assert own.status_code == 200
    assert store.queries[0][1] == {"start": int(START.timestamp())}


async def test_cursor_of_another_length() -> None:
    """A cursor keeps the length that it was given for; another one is rejected, and so is one no longer configured."""
    position = SalePosition(START_MS, "files", "s000")
    days = f"ranking=city&name=Recife&cursor={write_cursor(Cursor('1d', int(START.timestamp()), position))}"
    own, store = await ask([sale_row(1)], days, windows="1h,1d")
    assert own.status_code == 200
    assert "FROM top_sales_city_1d " in store.queries[0][0]
    for query, windows in ((f"{days}&length=1h", "1h,1d"), (days, "1h")):
        other, store = await ask([sale_row(1)], query, windows=windows)
        assert assert_problem(other, 422)["errors"][0]["field"] == "cursor"
        assert not store.queries


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages(limit: int) -> None:
    """Pages of any size give each sale once and in order, with the total of all of them on every page."""
    sales, seen, cursor = [sale_row(n, f"{n}.01") for n in range(1, 8)], [], ""
    while True:
        response, _ = await ask(sales, f"ranking=city&name=Recife&limit={limit}{cursor}")
        body = response.json()
        assert (body["totalSales"], body["transactionCount"]) == (28.07, 7)
        assert len(body["sales"]) <= limit
        seen += [sale["saleId"] for sale in body["sales"]]
        if "nextCursor" not in body:
            break
        cursor = f"&cursor={body['nextCursor']}"
    assert seen == [f"s{n:03}" for n in range(1, 8)]


async def test_scope() -> None:
    """A salesperson's sales are those of one country, Brazil unless named; a city's are those of all."""
    for query, country in (("ranking=salesman&name=Ana", "BR"), ("ranking=salesman&name=Ana&country=PT", "PT")):
        _, store = await ask([sale_row(1)], query)
        assert store.queries[1][1]["country"] == country
        assert "country = %(country)s" in store.queries[1][0]
    for ranking, column in (("city", "city"), ("product", "product")):
        _, store = await ask([sale_row(1)], f"ranking={ranking}&name=Recife")
        assert "%(country)s" not in store.queries[1][0]
        assert f"{column} = %(name)s" in store.queries[1][0]


async def test_name_is_composed() -> None:
    """A name that is written in decomposed Unicode means the one that is stored composed, also at its longest."""
    for name in ("São Paulo", "ã" * 255):
        decomposed = unicodedata.normalize("NFD", name)
        assert decomposed != name
        response, store = await ask([sale_row(1)], f"ranking=city&name={quote(decomposed)}")
        assert response.status_code == 200
        assert store.queries[1][1]["name"] == response.json()["name"] == name


async def test_values_are_never_in_the_query() -> None:
    """A name reaches the store as a value, whatever is in it."""
    _, store = await ask([], "ranking=city&name=x'%20OR%201=1")
    assert store.queries[1][1]["name"] == "x' OR 1=1"
    assert not any("OR 1=1" in query for query, _ in store.queries)


async def test_name_without_sales() -> None:
    """A name that sold nothing in the window is a 404 problem that names both."""
    response, _ = await ask([], "ranking=city&name=Recife")
    detail = assert_problem(response, 404)["detail"]
    assert "Recife" in detail
    assert "2026-02-19T10:00:00Z" in detail


async def test_no_such_window() -> None:
    """A window that is not served is a 404 problem."""
    async with api([]) as (client, _):
        response = await client.get(f"{EXPLAIN}?ranking=salesman&name=Ana&window=2026-02-19T10:30:00Z")
    assert "2026-02-19T10:30:00Z" in assert_problem(response, 404)["detail"]


def test_json() -> None:
    """The body has totals and amounts of two decimals, instants with milliseconds and every field of a sale."""
    body = encode(explanation(RANK, Decimal("10"), 1, [sale_row(5, "10")], 50)).decode()
    assert body == (
        '{"ranking":"city","window":{"start":"2026-02-19T10:00:00Z","end":"2026-02-19T11:00:00Z"},"name":"Recife",'
        '"totalSales":10.00,"transactionCount":1,"sales":[{"source":"files","saleId":"s005",'
        '"version":"9223372036854775813","amount":10.00,"eventTime":"2026-02-19T10:00:00.005Z","salesmanName":"Ana",'
        '"city":"Recife","country":"BR","product":"GPU"}]}'
    )


@given(st.lists(st.integers(1, 10**18 - 1).map(lambda cents: Decimal(cents).scaleb(-2)), min_size=1, max_size=30))
def test_sum_is_exact(amounts: list[Decimal]) -> None:
    """The total and the amounts of an answer are exact to the last cent."""
    rows = [sale_row(n, str(amount)) for n, amount in enumerate(amounts)]
    body = json.loads(encode(explanation(RANK, sum(amounts, Decimal(0)), len(rows), rows, 50)), parse_float=Decimal)
    assert body["totalSales"] == sum(sale["amount"] for sale in body["sales"])
    assert body["transactionCount"] == len(amounts)


@given(st.integers(0, LAST_SECOND), st.integers(0, LAST_SECOND * 1000), st.text(max_size=20), st.text(max_size=40))
def test_cursor_is_read_as_written(window: int, event_ms: int, source: str, sale_id: str) -> None:
    """A cursor is safe in an address and gives back what was written, whatever the ids hold."""
    cursor = Cursor("1d", window, SalePosition(event_ms, source, sale_id))
    text = write_cursor(cursor)
    assert all(char.isalnum() or char in "-_" for char in text)
    assert parse_cursor(Cursor, text) == cursor


@given(st.text(max_size=40))
def test_other_text_is_no_cursor(text: str) -> None:
    """Text that nobody wrote as a cursor is rejected with the remedy, never with another error."""
    with pytest.raises(ValueError, match="nextCursor"):
        parse_cursor(Cursor, text)


def test_cursor_beyond_the_store() -> None:
    """A cursor that was tampered with to an impossible instant is rejected."""
    for cursor in (
        Cursor("1h", LAST_SECOND + 1, SalePosition(0, "", "")),
        Cursor("1h", 0, SalePosition(-1, "", "")),
        Cursor("1h", 0, SalePosition(2**60, "", "")),
    ):
        with pytest.raises(ValueError, match="nextCursor"):
            parse_cursor(Cursor, write_cursor(cursor))


async def test_openapi_describes_it() -> None:
    """The OpenAPI document names the parameters and what is answered."""
    async with api([]) as (client, _):
        document = (await client.get("/openapi.json")).json()
    operation = document["paths"][EXPLAIN]["get"]
    assert {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"} == {
        "ranking", "window", "length", "name", "country", "limit", "cursor",
    }  # fmt: skip
    assert {"404", "422", "503"} <= set(operation["responses"])
    version = document["components"]["schemas"]["Sale"]["properties"]["version"]
    assert version["type"] == "string"
    assert "64 bits" in version["description"]
