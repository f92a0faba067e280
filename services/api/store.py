"""The queries: whole ranking sets, and the sales behind a rank, from ClickHouse."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from chassis.clickhouse import ClickHouse, StoreUnavailableError
from contracts.rankings import RANKINGS
from services.api.models import RankingName
from services.api.transform import Asked, Newest, Place, Rank, epoch_second

TABLES = {cast("RankingName", ranking.name): ranking.table for ranking in RANKINGS}
"""The table of each ranking over the first window length; see contracts/windows.py for the others."""

# FINAL keeps the highest revision per rank. A set is always written as ten rows in one block, so these are ten rows of
# one revision; the filters are on the leading columns of the table's order, so that only one window is read.
# `{window}` is one of the expressions below and `{table}` a table of a configured length, never input.
_CITY = """
SELECT window_start, window_end, revision, status, watermark_ms, as_of_ms,
       rank, city, '' AS country, total_sales, transaction_count
FROM {table} FINAL
WHERE window_start = {window}
ORDER BY rank
"""
_SALESMAN = """
SELECT window_start, window_end, revision, status, watermark_ms, as_of_ms,
       rank, salesman_name, country, total_sales, transaction_count
FROM {table} FINAL
WHERE country = %(country)s AND window_start = {window}
ORDER BY rank
"""
_INSTANT = "toDateTime(%(start)s, 'UTC')"
_NEWEST: Mapping[Newest, str] = {
    "latest": "(SELECT max(window_start) FROM {table} WHERE {scope})",
    "latest-final": """(
    SELECT max(window_start) FROM (
        SELECT window_start, argMax(status, revision) AS newest FROM {table} WHERE {scope} AND rank = 1
        GROUP BY window_start
    ) WHERE newest IN ('final', 'corrected')
)""",
}
_OF_ALL, _OF_COUNTRY = "1", "country = %(country)s"

# Every set has a row of rank 1, blank or not. The inner query is a plain scan of the table's order, so that FINAL
# merges the windows of one page only.
_WINDOWS = """
SELECT window_start, window_end, revision, status, as_of_ms
FROM {table} FINAL
WHERE {scope} AND rank = 1 AND window_start IN (
    SELECT DISTINCT window_start FROM {table}
    WHERE {scope} AND rank = 1
      AND window_start >= toDateTime(%(first)s, 'UTC') AND window_start < toDateTime(%(end)s, 'UTC')
    ORDER BY window_start DESC LIMIT %(limit)s
)
ORDER BY window_start DESC
"""
_FRESHEST = "SELECT max(as_of_ms) FROM {table}"

# The inner query is a plain scan: of the times, and of scope and ids where a time is in the window. It leaves the outer
# one a few ids, of which the table's order finds the rows, so that FINAL merges these and not all sales. Only a filter
# by key may be in the outer PREWHERE, which comes before FINAL: it keeps or drops all versions of a sale together. The
# id alone is such a filter, and a third cheaper than the whole key. `{scope}` is of _SCOPES, never input.
_OF_RANK = """
FROM sales FINAL
PREWHERE sale_id IN (
    SELECT sale_id FROM sales PREWHERE event_time_ms >= %(start)s AND event_time_ms < %(end)s WHERE {scope}
)
WHERE deleted = 0 AND event_time_ms >= %(start)s AND event_time_ms < %(end)s AND {scope}
"""
# One read for the page and for total and count of the rank, so that they agree also while sales arrive: the totals
# are those of all sales, before the page's HAVING and LIMIT, and come as the last row of the answer.
_SALES = (
    "SELECT source, sale_id, any(version), sum(amount), event_time_ms, any(salesman_name), any(city), any(country),"
    " any(product), count()"
    + _OF_RANK
    + """GROUP BY event_time_ms, source, sale_id WITH TOTALS
HAVING (event_time_ms, source, sale_id) > (%(after_ms)s, %(after_source)s, %(after_id)s)
ORDER BY event_time_ms, source, sale_id
LIMIT %(limit)s
SETTINGS totals_mode = 'before_having'
"""
)
_SCOPES = {"city": "city = %(name)s", "salesman": "salesman_name = %(name)s AND country = %(country)s"}

Rows = list[tuple[Any, ...]]


class SharedReads:
    """One answer for all who ask the same: while the query runs, and for `share_s` seconds after it.

    At most `most` different queries run or wait. Without that bound an overload would never end: every query would wait
    until nobody wants its answer. The answers to one query come in the order in which it was run, so nobody sees an
    older revision than one who asked the same before.
    """

    def __init__(self, store: ClickHouse, most: int, share_s: float) -> None:
        self._store = store
        self._most = most
        self._share_s = share_s
        self._running = 0
        self._shared: dict[tuple[str, tuple[tuple[str, Any], ...]], asyncio.Task[Rows]] = {}

    async def select(self, query: str, values: Mapping[str, Any]) -> Rows:
        """All rows of a query, as ClickHouse.select gives them.

        Raises:
            StoreUnavailableError: ClickHouse is unreachable, or too many other queries run and wait.
            ServerException: it rejects the query.
        """
        key = (query, tuple(sorted(values.items())))
        if key not in self._shared:
            if self._running >= self._most:
                raise StoreUnavailableError(f"{self._running} queries run or wait already")
            task = asyncio.create_task(self._store.select(query, values))
            self._running += 1
            self._shared[key] = task
            task.add_done_callback(lambda done: self._over(key, done))
        return await asyncio.shield(self._shared[key])  # who gives up does not end it for the others

    def _over(self, key: tuple[str, tuple[tuple[str, Any], ...]], done: asyncio.Task[Rows]) -> None:
        self._running -= 1
        wrong = done.cancelled() or done.exception() is not None  # known to those who wait, if any still do
        if wrong or not self._share_s:
            del self._shared[key]
        else:
            asyncio.get_running_loop().call_later(self._share_s, self._shared.pop, key)


async def _set(
    store: SharedReads, query: str, scope: str, *, table: str, window: Asked, values: dict[str, Any]
) -> Rows:
    if not isinstance(window, datetime):
        newest = _NEWEST[window].format(table=table, scope=scope)
        return await store.select(query.format(table=table, window=newest), values)
    start = epoch_second(window)
    if start is None:
        return []
    return await store.select(query.format(table=table, window=_INSTANT), values | {"start": start})


async def city_set(store: SharedReads, table: str, window: Asked) -> Rows:
    """The rows in `table` of the city ranking of a window; none where there is no such window.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    return await _set(store, _CITY, _OF_ALL, table=table, window=window, values={})


async def salesman_set(store: SharedReads, table: str, window: Asked, country: str) -> Rows:
    """The same for the salespeople of a country; the newest window is the country's own.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    return await _set(store, _SALESMAN, _OF_COUNTRY, table=table, window=window, values={"country": country})


async def known_windows(store: SharedReads, table: str, country: str, *, first: int, end: int, limit: int) -> Rows:
    """At most `limit` windows in `table` that start from `first` to before `end` (epoch seconds), newest first.

    Of the salespeople of a country; of the cities where it is ''.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    query = _WINDOWS.format(table=table, scope=_OF_COUNTRY if country else _OF_ALL)
    return await store.select(query, {"country": country, "first": first, "end": end, "limit": limit})


async def newest_as_of(store: SharedReads, table: str) -> int | None:
    """When the newest revision in `table` was built, in epoch milliseconds; None where there is none.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    return (await store.select(_FRESHEST.format(table=table), {}))[0][0] or None


def _values(rank: Rank) -> dict[str, Any]:
    return {
        "start": int(rank.start.timestamp()) * 1000,
        "end": int(rank.end.timestamp()) * 1000,
        "name": rank.name,
        "country": rank.country,
    }


async def rank_sales(store: SharedReads, rank: Rank, after: Place, limit: int) -> tuple[Decimal, int, Rows]:
    """Total and count of all sales of a rank, and at most `limit` of those behind `after`.

    They come by event time, source and sale id.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    page = {"after_ms": after.event_ms, "after_source": after.source, "after_id": after.sale_id, "limit": limit}
    *rows, totals = await store.select(_SALES.format(scope=_SCOPES[rank.ranking]), _values(rank) | page)
    return totals[3], totals[9], [row[:9] for row in rows]
