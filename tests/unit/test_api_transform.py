"""What the API makes of parameters and rows, and how exact its JSON is."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rankings import BY_NAME
from contracts.time import instant
from services.api.models import ENTRIES, encode
from services.api.transform import epoch_second, parse_country, parse_whole_number, parse_window, ranking_set

START, END = datetime(2026, 2, 19, 10, tzinfo=UTC), datetime(2026, 2, 19, 11, tzinfo=UTC)


def row(rank: int, name: str, total: str, count: int, *, revision: int = 9, country: str = "") -> tuple[Any, ...]:
    """One row as the queries give it."""
    head = (START, END, revision, "final", 1771498795000, 1771498800123)
    return (*head, rank, name, country, Decimal(total), count)


def rows(length: int) -> list[tuple[Any, ...]]:
    """The ten rows of a set of so many entries."""
    filled = [row(n, f"name {n}", f"{n}.50", n) for n in range(1, length + 1)]
    return filled + [row(n, "", "0", 0) for n in range(length + 1, 11)]


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-19T10:00:00Z",
        "2026-02-19T07:00:00-03:00",
        "2026-02-19T10:00:00.000+00:00",
        "2026-02-19t10:00:00z",
        "2026-02-19 10:00Z",
    ],
)
def test_window_instant(text: str) -> None:
    """A window is named by its start in any zone, in the profile of RFC 3339 that is read everywhere."""
    assert parse_window(text) == START


@pytest.mark.parametrize("text", ["latest", "latest-final"])
def test_window_newest(text: str) -> None:
    """`latest` and `latest-final` are no instants."""
    assert parse_window(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-02-19T10:00:00",
        "2026-02-30T10:00:00Z",
        "1771495200",
        "LATEST",
        "0001-01-01T00:00:00+14:00",
        "2026-02-19T10.5Z",
        "2026-02-19T10:00:00-03000000",
        "20260219T100000Z",
        "2026-W08-4T10:00:00Z",
    ],
)
def test_window_malformed(text: str) -> None:
    """What is neither `latest` nor an instant with a zone is rejected with an example."""
    with pytest.raises(ValueError, match="2026-02-19T10:00:00Z"):
        parse_window(text)


@pytest.mark.parametrize("text", ["", "B", "br", "BRA", "XX", "12", "B'", "Br", "ß"])
def test_country_malformed(text: str) -> None:
    """What is not an ISO 3166 alpha-2 code in capitals is rejected."""
    with pytest.raises(ValueError, match="alpha-2"):
        parse_country(text)


@pytest.mark.parametrize("text", ["1_0", "5.0", " 5", "+5", "٥", "", "1e1", "0x1", "9" * 10])
def test_no_whole_number(text: str) -> None:
    """A number is written in the digits 0 to 9 and nothing else."""
    with pytest.raises(ValueError, match="digits 0 to 9"):
        parse_whole_number(text)


def test_country() -> None:
    """A code is taken as it is."""
    assert parse_country("PT") == "PT"


@pytest.mark.parametrize(
    "moment", [datetime(2200, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC), START.replace(microsecond=1000)]
)
def test_impossible_window(moment: datetime) -> None:
    """An instant at which the store can hold no window is not asked for, so that it cannot wrap around to another."""
    assert epoch_second(moment) is None


@pytest.mark.parametrize("length", range(11))
def test_blank_rows_are_left_out(length: int) -> None:
    """A set has as many entries as it was built with, none of the blank rows."""
    answer = ranking_set(BY_NAME["city"], rows(length), 10)
    assert [entry.rank for entry in answer.rankings] == list(range(1, length + 1))


@pytest.mark.parametrize("limit", range(1, 11))
def test_limit_cuts(limit: int) -> None:
    """A limit keeps the first ranks."""
    assert [entry.rank for entry in ranking_set(BY_NAME["city"], rows(7), limit).rankings] == list(
        range(1, min(limit, 7) + 1)
    )


def test_mixed_revisions_are_not_served() -> None:
    """Rows of two revisions are an error, never an answer."""
    with pytest.raises(ValueError, match="revisions"):
        ranking_set(BY_NAME["city"], [*rows(3)[:9], row(10, "", "0", 0, revision=8)], 10)


def test_city_json() -> None:
    """The body has the documented shape, with totals of two decimals and the additive fields."""
    body = encode(ranking_set(BY_NAME["city"], [row(1, "São Paulo", "125000", 342), *rows(1)[1:]], 10)).decode()
    assert body == (
        '{"window":{"start":"2026-02-19T10:00:00Z","end":"2026-02-19T11:00:00Z"},"status":"final","revision":9,'
        '"asOf":"2026-02-19T11:00:00.123Z","watermark":"2026-02-19T10:59:55Z",'
        '"rankings":[{"rank":1,"city":"São Paulo","totalSales":125000.00,"transactionCount":342}]}'
    )


@pytest.mark.parametrize(
    ("ranking", "fields"),
    [("salesman", '"salesmanName":"Ana Souza","country":"BR"'), ("product", '"product":"Ana Souza"')],
)
def test_competitor_json(ranking: str, fields: str) -> None:
    """An entry names the competitor in the field of the ranking's column, and the country where it has one."""
    set_rows = [row(1, "Ana Souza", "0.1", 1, country="BR"), *rows(1)[1:]]
    body = encode(ranking_set(BY_NAME[ranking], set_rows, 10)).decode()
    assert f'"rankings":[{{"rank":1,{fields},"totalSales":0.10,"transactionCount":1}}]' in body


@given(st.integers(0, 10**18 - 1).map(lambda cents: Decimal(cents).scaleb(-2)))
def test_total_is_exact(total: Decimal) -> None:
    """A total is in the JSON to the last cent, with two decimals, also where no float could hold it."""
    body = encode(ENTRIES["city"](rank=1, city="x", total_sales=total, transaction_count=1)).decode()
    assert json.loads(body, parse_float=Decimal)["totalSales"] == total
    assert f'"totalSales":{total:.2f},' in body


def test_instant_shows_milliseconds_only_where_there_are_any() -> None:
    """Instants end in Z; milliseconds are shown where there are any."""
    assert instant(START) == "2026-02-19T10:00:00Z"
    assert instant(START.replace(microsecond=5000)) == "2026-02-19T10:00:00.005Z"
