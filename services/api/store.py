"""The queries: whole ranking sets, and the sales behind a rank, from ClickHouse."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from chassis.clickhouse import ClickHouse, StoreUnavailableError
from contracts.rankings import RANKINGS, RankingDefinition
from contracts.time import instant
from contracts.windows import tables
from services.api.problems import NotFoundError
from services.api.settings import ApiSettings
from services.api.transform import Newest, Rank, SalePosition, WindowChoice, epoch_second

WAITING = 8  # queries for each connection to ClickHouse, the running one among them

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


class Store:
    """The rankings of all configured window lengths, and the sales behind them.

    `country` is '' where a ranking is over all countries; otherwise what is read is the country's own. Every method
    raises StoreUnavailableError where ClickHouse is unreachable or busy, and ServerException where it rejects the query
    (a table is missing).
    """

    def __init__(self, store: ClickHouse, settings: ApiSettings) -> None:
        limit = settings.connections * WAITING
        self._reads = SingleFlightCache(store, limit, settings.share_s)
        self._sales = SingleFlightCache(store, limit, settings.explain_share_s)  # their cost grows with the sales
        self._tables = {ranking.name: tables(ranking.table, settings.ranking.lengths) for ranking in RANKINGS}

    async def ranking(self, ranking: RankingDefinition, length: str, window: WindowChoice, country: str) -> Rows:
        """The ten rows of the set of a window.

        Raises:
            NotFoundError: there is no such window.
        """
        table, scope = self._tables[ranking.name][length], _scope(ranking)
        values: dict[str, Any] = {"country": country} if ranking.per_country else {}
        missing = f"there is no {length} ranking {ranking.name}{f' of {country}' if country else ''}"
        if isinstance(window, datetime):
            missing += f" for a window that starts at {instant(window)}"
            expression, values["start"] = _INSTANT, epoch_second(window)
            if values["start"] is None:
                raise NotFoundError(missing)
        else:
            missing += " yet" if window == "latest" else " that is final yet"
            expression = _NEWEST[window].format(table=table, scope=scope)
        of_country = "country" if ranking.per_country else "''"
        query = _SET.format(name=ranking.column, country=of_country, table=table, scope=scope, window=expression)
        rows = await self._reads.select(query, values)
        if not rows:
            raise NotFoundError(missing)
        return rows

    async def windows(
        self, ranking: RankingDefinition, length: str, country: str, *, first: int, end: int, limit: int
    ) -> Rows:
        """At most `limit` windows that start from `first` to before `end` (epoch seconds), newest first."""
        query = _WINDOWS.format(table=self._tables[ranking.name][length], scope=_scope(ranking))
        return await self._reads.select(query, {"country": country, "first": first, "end": end, "limit": limit})

    async def newest_as_of(self) -> int | None:
        """When the newest revision of the first ranking was built, in epoch milliseconds; None where there is none."""
        return (await self._reads.select(_FRESHEST.format(table=RANKINGS[0].table), {}))[0][0] or None

    async def sales(self, rank: Rank, after: SalePosition, limit: int) -> tuple[Decimal, int, Rows]:
        """Total and count of all sales of a rank, and at most `limit` of those behind `after`.

        They come by event time, source and sale id.
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
        *rows, totals = await self._sales.select(_SALES.format(scope=scope), values)
        return totals[3], totals[9], [row[:9] for row in rows]
