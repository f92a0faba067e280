"""The audit: compares page by page, reads again what differs until it settles, and reports what is left."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal

import typer

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.settings import ClickHouseSettings, RankingSettings, load
from contracts.text import quoted
from contracts.time import iso
from tools.audit.store import LAST_SECOND, Grid, both_sides, grids, windows
from tools.audit.transform import Difference, Figure, Key, differences, differing
from tools.table import Rows, print_json, warn

TIMEOUT_S = 300.0  # one query reads all sales of some days
PAGE_WINDOWS = 168  # the sets of so many windows are held at a time, however long the period is
PAGE_S = 7 * 86_400  # and of no more than so many seconds of sales
READ_AGAIN_S = 0.5
SHOWN = 1000  # differences of the table, which is held until it is printed
COLUMNS = ("length", "ranking", "window", "country", "name", "figure", "served", "recomputed", "delta")


@dataclass(frozen=True)
class Result:
    """The outcome in windows, sets (a ranking of a window and country) and entries (ranks)."""

    windows: int
    """windows of which every set is equal"""
    entries: int
    """ranks of all equal sets"""
    differing: int
    """sets that are not equal"""
    changing: int
    """how many of those were still changing while they were read"""
    settled: int
    """sets that differed when first read and agreed later"""


async def compare(
    store: ClickHouse,
    grids: Sequence[Grid],
    start: int,
    end: int,
    *,
    settle_s: float,
    report: Callable[[Difference], None],
    inform: Callable[[str], None],
) -> Result:
    """Compare the windows of `grids` that overlap `start` up to but not `end` (epoch seconds).

    `report` gets every difference that stays. What is served trails the sales by seconds. So sets that differ are read
    again, for up to `settle_s` seconds and at least once, until they agree; `inform` gets a line about that.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable or takes too long.
        ServerException: it rejects a query (a table is missing).
    """
    compared = entries = 0
    read_as: dict[Key, int] = {}  # a hash of both sides of each set that differed, not the set
    changing: set[Key] = set()

    async def read(pending: set[Key] | None, *, last: bool = False) -> set[Key]:
        """The sets that differ: of the whole period, or of those that are pending."""
        nonlocal compared, entries
        unequal: set[Key] = set()
        for grid in grids:
            if pending is None:
                indexes = await windows(store, grid, start, end)
            else:
                own = {key.window for key in pending if key.length == grid.length.label}
                indexes = sorted({grid.length.index(window) for window in own})
            size = min(PAGE_WINDOWS, PAGE_S // grid.length.seconds)
            for first in range(0, len(indexes), size):
                served, recomputed = await both_sides(store, grid, indexes[first : first + size])
                differ = differing(served, recomputed)
                if pending is None:
                    compared += len({key.window for key in {*served, *recomputed}})
                else:
                    differ &= pending
                equal = (recomputed.keys() if pending is None else pending) - differ
                entries += sum(len(recomputed.get(key, ())) for key in equal)
                for key in differ:
                    sides = hash((served.get(key), recomputed.get(key)))
                    if read_as.setdefault(key, sides) != sides:
                        changing.add(key)
                        read_as[key] = sides
                for difference in differences(served, recomputed, differ) if last else ():
                    report(difference)
                unequal |= differ
        return unequal

    pending = await read(None)
    if pending:
        inform(f"{len(pending)} sets differ; reading them again for up to {settle_s:g} s, as rankings trail the sales")
    deadline = time.monotonic() + settle_s
    last = False
    while pending and not last:
        last = time.monotonic() + READ_AGAIN_S > deadline
        await asyncio.sleep(0 if last else READ_AGAIN_S)
        pending = await read(pending, last=last)
    return Result(
        windows=compared - len({(key.length, key.window) for key in pending}),
        entries=entries,
        differing=len(pending),
        changing=len(pending & changing),
        settled=len(read_as) - len(pending),
    )


def _signed(delta: Figure | None) -> str:
    return "-" if delta is None else f"{delta:+.2f}" if isinstance(delta, Decimal) else f"{delta:+}"


def add_difference(rows: Rows, difference: Difference) -> None:
    """Show a difference as a row."""
    key, delta = difference.key, difference.delta
    record = {
        **key._asdict(),
        "window": iso(key.window * 1000),
        "name": difference.name,
        "figure": difference.figure,
        "served": difference.served,
        "recomputed": difference.recomputed,
        "delta": delta,
    }
    rows.add(record, delta=_signed(delta))


def print_result(rows: Rows, result: Result) -> None:
    """Print the table and the outcome in words, or the outcome as a line after the others."""
    if rows.as_json:
        print_json(asdict(result))
        return
    rows.print()
    equal = f"{result.windows} windows, {result.entries} entries equal"
    if not result.differing:
        settled = f" ({result.settled} sets trailed their sales at first)" if result.settled else ""
        print(f"{equal}{settled}")
        return
    more = f" ({rows.hidden} more differences: --json shows all)" if rows.hidden else ""
    print(f"{result.differing} sets differ{more}; {equal}")
    if result.changing:
        print(
            f"{result.changing} of them were still changing: sales arrive; leave the current window out with --to, "
            "or wait longer with --settle"
        )


def run(length: str | None, start: int | None, end: int | None, *, settle_s: float, as_json: bool) -> int:
    """Compare the windows of a period (ms since 1970; None is all), print, and return the exit status."""
    known = grids(load(RankingSettings).lengths)
    if length is not None and length not in known:
        choices = ", ".join(map(repr, known))
        raise typer.BadParameter(f"{quoted(length)} is not one of {choices} (RANKING_WINDOWS)", param_hint="'--length'")
    chosen = list(known.values()) if length is None else [known[length]]
    period = 0 if start is None else start // 1000, LAST_SECOND if end is None else end // 1000
    rows = Rows(*COLUMNS, as_json=as_json, limit=SHOWN)

    async def comparing() -> Result:
        async with clickhouse(load(ClickHouseSettings), 1, TIMEOUT_S) as store:
            return await compare(
                store, chosen, *period, settle_s=settle_s, report=lambda each: add_difference(rows, each), inform=warn
            )

    result = asyncio.run(comparing())
    print_result(rows, result)
    return 1 if result.differing else 0
