"""The queries: which hours there are, what the sales of some hours add up to, and what is served for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.clickhouse import ClickHouse
from services.audit.transform import Sets, published, ranked

HOUR_S = 3600
TOP = 10
LAST_HOUR = 2**32 // HOUR_S  # ClickHouse's DateTime ends there


@dataclass(frozen=True)
class Ranking:
    """What is ranked: `column` of a sale names the competitors, of every country apart where `per_country`."""

    name: str
    table: str
    column: str
    per_country: bool


RANKINGS = (
    Ranking("city", "top_sales_city", "city", per_country=False),
    Ranking("salesman", "top_salesman_country", "salesman_name", per_country=True),
)

# Without FINAL: the hours of replaced versions are only more hours to look at, and this reads one column.
_HOURS = """
SELECT DISTINCT hour FROM (
    SELECT intDiv(event_time_ms, 3600000) AS hour FROM sales WHERE deleted = 0
    UNION ALL SELECT toInt64(intDiv(toUInt32(window_start), 3600)) AS hour FROM top_sales_city
    UNION ALL SELECT toInt64(intDiv(toUInt32(window_start), 3600)) AS hour FROM top_salesman_country
) WHERE hour >= %(start)s AND hour < %(end)s
ORDER BY hour
"""
# The server sorts and cuts, so that as many rows come as there are ranks, however many names sold in an hour. Text is
# compared byte by byte, which for UTF-8 is the order of code points that the ranking uses for equal totals.
# ClickHouse 18.16 compares decimals very slowly; the whole numbers before them leave it only ties to compare.
_RECOMPUTED = """
SELECT hour * 3600 AS window, of_country, name, total, sales FROM (
    SELECT intDiv(event_time_ms, 3600000) AS hour, {country} AS of_country, {column} AS name,
           sum(amount) AS total, count() AS sales
    FROM sales FINAL
    WHERE deleted = 0 AND event_time_ms >= %(first)s * 3600000 AND event_time_ms < (%(last)s + 1) * 3600000
      AND intDiv(event_time_ms, 3600000) IN %(hours)s
    GROUP BY hour, of_country, name
)
ORDER BY window, of_country, toInt64(total) DESC, total DESC, name
LIMIT {top} BY window, of_country
"""
_SERVED = """
SELECT toUInt32(window_start), {country}, rank, {column}, total_sales, transaction_count
FROM {table} FINAL
WHERE window_start >= toDateTime(%(first)s * 3600, 'UTC') AND window_start <= toDateTime(%(last)s * 3600 + 3599, 'UTC')
  AND intDiv(toUInt32(window_start), 3600) IN %(hours)s
"""


async def hours(store: ClickHouse, start: int, end: int) -> list[int]:
    """The hours since 1970, from `start` up to but not `end`, in which something was sold or is served; ascending.

    Raises:
        StoreAway: ClickHouse is unreachable or takes too long.
        ServerException: it refuses the query (a table is missing).
    """
    return [row[0] for row in await store.select(_HOURS, {"start": start, "end": end})]


async def both_sides(store: ClickHouse, page: Sequence[int]) -> tuple[Sets, Sets]:
    """All sets of these ascending hours: as served, and as the sales make them.

    The sales are read first: what is served trails them, and so has had the time of a query to catch up.

    Raises:
        StoreAway: ClickHouse is unreachable or takes too long.
        ServerException: it refuses the query (a table is missing).
    """
    values = {"first": page[0], "last": page[-1], "hours": tuple(page)}
    served: Sets = {}
    recomputed: Sets = {}
    for ranking in RANKINGS:
        own = {
            "table": ranking.table,
            "column": ranking.column,
            "country": "country" if ranking.per_country else "''",
            "top": TOP,
        }
        recomputed = {**recomputed, **ranked(ranking.name, await store.select(_RECOMPUTED.format(**own), values))}
        served = {**served, **published(ranking.name, await store.select(_SERVED.format(**own), values))}
    return served, recomputed
