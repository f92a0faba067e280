"""The queries: which windows there are, what the sales of some windows add up to, and what is served for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.clickhouse import ClickHouse
from contracts.rankings import RANKINGS
from contracts.windows import WindowLength, tables
from tools.audit.transform import Sets, published, ranked

TOP = 10
LAST_SECOND = 2**32 - 1  # ClickHouse's DateTime ends there
QUARTER_S = 900  # since 1972 no time zone begins its days elsewhere than at a quarter of an hour


@dataclass(frozen=True)
class Grid:
    """The windows of one length, and the table in which each ranking over it is served."""

    length: WindowLength
    tables: Mapping[str, str]

    def bounds(self, index: int) -> tuple[int, int]:
        """Start and end of a window in epoch seconds."""
        start_ms, end_ms = self.length.bounds(index)
        return start_ms // 1000, end_ms // 1000


def grids(lengths: Sequence[WindowLength]) -> dict[str, Grid]:
    """The windows and tables of each configured length by its label."""
    served = {ranking.name: tables(ranking.table, lengths) for ranking in RANKINGS}
    return {
        length.label: Grid(length, {name: by_label[length.label] for name, by_label in served.items()})
        for length in lengths
    }


# Without FINAL: the times of replaced versions are only more windows to read, and this reads one column.
_SECONDS = """
SELECT DISTINCT intDiv(second, {step}) * {step} FROM (
    SELECT intDiv(event_time_ms, 1000) AS second FROM sales WHERE deleted = 0
    {served}
) WHERE second >= %(start)s AND second < %(end)s
"""
_SERVED_SECONDS = "UNION ALL SELECT toInt64(toUInt32(window_start)) AS second FROM {table}"
# The server sorts and cuts, so that as many rows come as there are ranks, however many names sold in a window. Text is
# compared byte by byte, which for UTF-8 is the order of code points that the ranking uses for equal totals.
# ClickHouse 18.16 compares decimals very slowly; the floats before them, which rounding leaves in the same order, leave
# it only ties to compare. Integers of 64 bits would not hold every total.
_RECOMPUTED = """
SELECT window, of_country, name, total, sales FROM (
    SELECT {sold} AS window, {country} AS of_country, {column} AS name, sum(amount) AS total, count() AS sales
    FROM sales FINAL
    WHERE deleted = 0 AND event_time_ms >= %(first)s * 1000 AND event_time_ms < %(end)s * 1000
      AND {sold} IN %(windows)s
    GROUP BY window, of_country, name
)
ORDER BY window, of_country, toFloat64(total) DESC, total DESC, name
LIMIT {top} BY window, of_country
"""
_SERVED = """
SELECT toUInt32(window_start), {country}, rank, {column}, total_sales, transaction_count
FROM {table} FINAL
WHERE window_start >= toDateTime(%(first)s, 'UTC') AND window_start < toDateTime(%(end)s, 'UTC')
  AND {begun} IN %(windows)s
"""
# The start of the window that a second falls into.
_EQUAL = "intDiv({second}, {length}) * {length}"
# The borders of local days come from Python, whose time zones are newer than an old server's.
_BETWEEN = "arrayFirst(border -> border <= {second}, %(borders)s)"
_SOLD, _BEGUN = "intDiv(event_time_ms, 1000)", "toUInt32(window_start)"


async def windows(store: ClickHouse, grid: Grid, start: int, end: int) -> list[int]:
    """The windows (indexes, ascending) that overlap `start` up to but not `end` (epoch seconds) and are not empty.

    That is: something was sold in them, or is served for them.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable or takes too long.
        ServerException: it rejects the query (a table is missing).
    """
    first, last = grid.length.index(start), grid.length.index(min(end, LAST_SECOND) - 1)
    if grid.bounds(last)[1] > LAST_SECOND:
        last -= 1
    period = {"start": grid.bounds(first)[0], "end": grid.bounds(last)[1]}
    step = grid.length.seconds if grid.length.zone == "UTC" else QUARTER_S
    served = " ".join(_SERVED_SECONDS.format(table=table) for table in grid.tables.values())
    rows = await store.select(_SECONDS.format(step=step, served=served), period)
    return sorted({grid.length.index(second) for (second,) in rows})


async def both_sides(store: ClickHouse, grid: Grid, page: Sequence[int]) -> tuple[Sets, Sets]:
    """All sets of these windows (ascending indexes): as served, and as the sales make them.

    The sales are read first: what is served trails them, and so has had the time of a query to catch up.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable or takes too long.
        ServerException: it rejects the query (a table is missing).
    """
    bounds = [grid.bounds(index) for index in page]
    values: dict[str, Any] = {
        "first": bounds[0][0],
        "end": bounds[-1][1],
        "windows": tuple(start for start, _ in bounds),
    }
    window = _EQUAL
    if grid.length.zone != "UTC":
        window = _BETWEEN
        values["borders"] = sorted({border for both in bounds for border in both}, reverse=True)
    served: Sets = {}
    recomputed: Sets = {}
    for ranking in RANKINGS:
        own = {
            "table": grid.tables[ranking.name],
            "column": ranking.column,
            "country": "country" if ranking.per_country else "''",
            "sold": window.format(second=_SOLD, length=grid.length.seconds),
            "begun": window.format(second=_BEGUN, length=grid.length.seconds),
            "top": TOP,
        }
        of = (grid.length.label, ranking.name)
        recomputed = {**recomputed, **ranked(*of, await store.select(_RECOMPUTED.format(**own), values))}
        served = {**served, **published(*of, await store.select(_SERVED.format(**own), values))}
    return served, recomputed
