"""The queries: whole ranking sets, and the sales behind a rank, from ClickHouse."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from chassis.clickhouse import ClickHouse, StoreUnavailableError
from contracts.rankings import RankingDefinition
from services.api.transform import Newest, Rank, SalePosition, WindowChoice, epoch_second

# FINAL keeps the highest revision per rank. A set is always written as ten rows in one block, so these are ten rows of
# one revision; the filters are on the leading columns of the table's order, so that only one window is read.
# `{window}` is one of the expressions below, `{name}` and `{scope}` are of the table of rankings, and `{table}` is a
# table of a configured length, never input.
_SET = """
SELECT window_start, window_end, revision, status, watermark_ms, as_of_ms,
       rank, {name}, {country} AS of_country, total_sales, transaction_count
FROM {table} FINAL
WHERE {scope} AND window_start = {window}
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

# The inner query reads the rows of the window from a table in the order of time, which has every time that a sale was
# ever given. It leaves the outer one a few ids, of which the table's order finds the rows, so that FINAL merges these
# and not all sales. Only a filter by key may be in the outer PREWHERE, which comes before FINAL: it keeps or drops all
# versions of a sale together. The id alone is such a filter, and of many sales cheaper than the whole key. `{scope}` is
# of the table of rankings, never input.
_OF_RANK = """
FROM sales FINAL
PREWHERE sale_id IN (
    SELECT sale_id FROM sales_by_time WHERE event_time_ms >= %(start)s AND event_time_ms < %(end)s AND {scope}
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

Rows = list[tuple[Any, ...]]


class SingleFlightCache:
    """One answer for all equal queries (request coalescing): while one runs, and for `share_s` seconds after it.

    At most `limit` different queries run or wait. Without that bound an overload would never end: every query would
    wait until nobody wants its answer. The answers to one query come in the order in which it was run, so of this
    process nobody gets an older revision than somebody before them.
    """

    def __init__(self, store: ClickHouse, limit: int, share_s: float) -> None:
        self._store = store
        self._limit = limit
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
            if self._running >= self._limit:
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


def _scope(ranking: RankingDefinition) -> str:
    return "country = %(country)s" if ranking.per_country else "1"


async def ranking_rows(
    store: SingleFlightCache, ranking: RankingDefinition, table: str, window: WindowChoice, country: str
) -> Rows:
    """The rows in `table` of the set of a window; none where there is no such window.

    Where the ranking is per country the set is that of `country`, and the newest window is the country's own.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    scope = _scope(ranking)
    values: dict[str, Any] = {"country": country} if ranking.per_country else {}
    if isinstance(window, datetime):
        start = epoch_second(window)
        if start is None:
            return []
        expression = _INSTANT
        values["start"] = start
    else:
        expression = _NEWEST[window].format(table=table, scope=scope)
    of_country = "country" if ranking.per_country else "''"
    query = _SET.format(name=ranking.column, country=of_country, table=table, scope=scope, window=expression)
    return await store.select(query, values)


async def known_windows(
    store: SingleFlightCache,
    ranking: RankingDefinition,
    table: str,
    country: str,
    *,
    first: int,
    end: int,
    limit: int,
) -> Rows:
    """At most `limit` windows in `table` that start from `first` to before `end` (epoch seconds), newest first.

    Those of `country` where the ranking is per country.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    query = _WINDOWS.format(table=table, scope=_scope(ranking))
    return await store.select(query, {"country": country, "first": first, "end": end, "limit": limit})


async def newest_as_of(store: SingleFlightCache, table: str) -> int | None:
    """When the newest revision in `table` was built, in epoch milliseconds; None where there is none.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    return (await store.select(_FRESHEST.format(table=table), {}))[0][0] or None


async def rank_sales(
    store: SingleFlightCache, rank: Rank, after: SalePosition, limit: int
) -> tuple[Decimal, int, Rows]:
    """Total and count of all sales of a rank, and at most `limit` of those behind `after`.

    They come by event time, source and sale id.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects the query (a table is missing).
    """
    values = {
        "start": int(rank.start.timestamp()) * 1000,
        "end": int(rank.end.timestamp()) * 1000,
        "name": rank.name,
        "country": rank.country,
        "after_ms": after.event_ms,
        "after_source": after.source,
        "after_id": after.sale_id,
        "limit": limit,
    }
    scope = f"{rank.ranking.column} = %(name)s AND {_scope(rank.ranking)}"
    *rows, totals = await store.select(_SALES.format(scope=scope), values)
    return totals[3], totals[9], [row[:9] for row in rows]
