"""Fills sales_by_time with the sales that were stored before its view was there; resumes where it was stopped."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from chassis.clickhouse import ClickHouse

TABLE = "sales_by_time"
SLICE = 500_000
"""At least so many sales are copied at once, where there are so many."""
HOUR_MS = 3_600_000
COMPLETE = 2**63 - 1
WAIT_S = 0.2

_DONE = "SELECT max(before_ms) FROM backfills WHERE table = %(table)s"
_COLUMNS = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = %(table)s"
_INSERTS = "SELECT query_id FROM system.processes WHERE query LIKE 'INSERT INTO `sales`%'"
_HOURS = """
SELECT intDiv(event_time_ms, 3600000) AS hour, count() FROM sales WHERE event_time_ms >= %(before)s
GROUP BY hour ORDER BY hour
"""

Emit = Callable[[str], None]


def slices(hours: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Whole hours that together have `size` sales or more, each time the end in epoch milliseconds and their number.

    `hours` are hours since 1970 in ascending order, each with how many sales it has.
    """
    count = 0
    for position, (hour, of_hour) in enumerate(hours, 1):
        count += of_hour
        if count >= size or position == len(hours):
            yield (hour + 1) * HOUR_MS, count
            count = 0


async def _older_inserts(store: ClickHouse) -> None:
    """Wait for the inserts that run now: one that began before the view was there does not pass through it."""
    running = set(await store.select(_INSERTS))
    while running:
        await asyncio.sleep(WAIT_S)
        running &= set(await store.select(_INSERTS))


async def fill(store: ClickHouse, emit: Emit) -> None:
    """Copy the stored sales, once, in the order of their times; `emit` is given lines of progress.

    What is copied twice is there once, and new sales come through the view meanwhile. After an error or a kill the next
    call goes on behind the last slice that was copied wholly.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects a statement.
    """
    ((before,),) = await store.select(_DONE, {"table": TABLE})
    if before == COMPLETE:
        return
    await _older_inserts(store)
    hours = await store.select(_HOURS, {"before": before})
    columns = ", ".join(name for (name,) in await store.select(_COLUMNS, {"table": TABLE}))
    copied, total = 0, sum(count for _, count in hours)
    for end, count in slices(hours, SLICE):
        await store.execute(
            f"INSERT INTO {TABLE} ({columns}) SELECT {columns} FROM sales"  # noqa: S608 - names of ours
            f" WHERE event_time_ms >= {before} AND event_time_ms < {end}"
        )
        await store.insert("backfills", ["table", "before_ms"], [(TABLE, end)])
        before, copied = end, copied + count
        emit(f"{TABLE}: {copied:,} of {total:,} stored sales copied")
    await store.insert("backfills", ["table", "before_ms"], [(TABLE, COMPLETE)])
