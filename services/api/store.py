"""The queries: whole ranking sets from ClickHouse."""

from datetime import datetime
from typing import Any

from chassis.clickhouse import ClickHouse
from services.api.transform import epoch_second

# FINAL keeps the highest revision per rank. A set is always written as ten rows in one block, so these are ten rows of
# one revision; the filters are on the leading columns of the table's order, so that only one window is read.
# `{window}` is one of the three expressions below, never input.
_CITY = """
SELECT window_start, window_end, revision, status, watermark_ms, as_of_ms,
       rank, city, '' AS country, total_sales, transaction_count
FROM top_sales_city FINAL
WHERE window_start = {window}
ORDER BY rank
"""
_SALESMAN = """
SELECT window_start, window_end, revision, status, watermark_ms, as_of_ms,
       rank, salesman_name, country, total_sales, transaction_count
FROM top_salesman_country FINAL
WHERE country = %(country)s AND window_start = {window}
ORDER BY rank
"""
_INSTANT = "toDateTime(%(start)s, 'UTC')"
_LATEST_CITY = "(SELECT max(window_start) FROM top_sales_city)"
_LATEST_SALESMAN = "(SELECT max(window_start) FROM top_salesman_country WHERE country = %(country)s)"

Rows = list[tuple[Any, ...]]


async def _set(store: ClickHouse, query: str, latest: str, window: datetime | None, values: dict[str, Any]) -> Rows:
    if window is None:
        return await store.select(query.format(window=latest), values)
    start = epoch_second(window)
    if start is None:
        return []
    return await store.select(query.format(window=_INSTANT), values | {"start": start})


async def city_set(store: ClickHouse, window: datetime | None) -> Rows:
    """The rows of the city ranking of the window that starts then, of the newest window for None; none where unknown.

    Raises:
        StoreAway: ClickHouse is unreachable.
        ServerException: it refuses the query (a table is missing).
    """
    return await _set(store, _CITY, _LATEST_CITY, window, {})


async def salesman_set(store: ClickHouse, window: datetime | None, country: str) -> Rows:
    """The same for the salespeople of a country; the newest window is the country's own.

    Raises:
        StoreAway: ClickHouse is unreachable.
        ServerException: it refuses the query (a table is missing).
    """
    return await _set(store, _SALESMAN, _LATEST_SALESMAN, window, {"country": country})
