"""The audit: compares page by page, reads again what differs until it settles, and tells what is left."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

from chassis.clickhouse import ClickHouse
from tools.audit.store import Grid, both_sides, windows
from tools.audit.transform import Difference, Key, Sets, differences, differing

NAME = "audit"
PAGE_WINDOWS = 168  # the sets of so many windows are held at a time, however long the period is
PAGE_S = 7 * 86_400  # and of no more than so many seconds of sales
READ_AGAIN_S = 0.5


@dataclass(frozen=True)
class Result:
    """What was found, in windows, sets (a ranking of a window and country) and entries (ranks)."""

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


async def _read(store: ClickHouse, grid: Grid, of: Sequence[int]) -> AsyncIterator[tuple[Sets, Sets]]:
    size = min(PAGE_WINDOWS, PAGE_S // grid.length.seconds)
    for start in range(0, len(of), size):
        yield await both_sides(store, grid, of[start : start + size])


def _indexes(grid: Grid, keys: Iterable[Key]) -> list[int]:
    return sorted({grid.length.index(key.window) for key in keys if key.length == grid.length.label})


class _Suspects:
    """The sets that differed whenever they were read: one number is kept for each, not the set."""

    def __init__(self) -> None:
        self.looks: dict[Key, int] = {}
        self.moved: set[Key] = set()

    def look(self, key: Key, served: Sets, recomputed: Sets) -> None:
        """Note how both sides look, and whether that is otherwise than before."""
        look = hash((served.get(key), recomputed.get(key)))
        if self.looks.setdefault(key, look) != look:
            self.moved.add(key)
            self.looks[key] = look


async def audit(
    store: ClickHouse,
    grids: Sequence[Grid],
    start: int,
    end: int,
    *,
    settle_s: float,
    report: Callable[[Difference], None],
    say: Callable[[str], None],
) -> Result:
    """Compare the windows of `grids` that overlap `start` up to but not `end` (epoch seconds).

    `report` gets every difference that stays.

    What is served trails the sales by seconds. So sets that differ are read again, for up to `settle_s` seconds and at
    least once, until they agree; `say` gets a line about that.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable or takes too long.
        ServerException: it rejects a query (a table is missing).
    """
    compared = entries = 0
    suspects = _Suspects()
    for grid in grids:
        async for served, recomputed in _read(store, grid, await windows(store, grid, start, end)):
            unequal = differing(served, recomputed)
            compared += len({key.window for key in {*served, *recomputed}})
            entries += sum(len(ranks) for key, ranks in recomputed.items() if key not in unequal)
            for key in unequal:
                suspects.look(key, served, recomputed)
    left = set(suspects.looks)
    if left:
        say(f"{len(left)} sets differ; reading them again for up to {settle_s:g} s, as rankings trail the sales")
    deadline = time.monotonic() + settle_s
    last = False
    while left and not last:
        last = time.monotonic() + READ_AGAIN_S > deadline
        await asyncio.sleep(0 if last else READ_AGAIN_S)
        still: set[Key] = set()
        for grid in grids:
            async for served, recomputed in _read(store, grid, _indexes(grid, left)):
                unequal = differing(served, recomputed) & left
                for key in unequal:
                    suspects.look(key, served, recomputed)
                entries += sum(len(recomputed.get(key, ())) for key in left - unequal)
                still |= unequal
                if last:
                    for difference in differences(served, recomputed, unequal):
                        report(difference)
        left = still
    return Result(
        windows=compared - len({(key.length, key.window) for key in left}),
        entries=entries,
        differing=len(left),
        changing=len(left & suspects.moved),
        settled=len(suspects.looks) - len(left),
    )
