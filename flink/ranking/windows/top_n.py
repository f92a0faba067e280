"""A window's ranking: totals become the top ten, with a status and a revision."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

TOP = 10
Status = Literal["provisional", "final", "corrected"]


class Total(NamedTuple):
    """What one name sold in a window: exact cents, and the number of sales."""

    cents: int
    sales: int


class Entry(NamedTuple):
    """One entry of a ranking; the rank is its position, from 1."""

    name: str
    cents: int
    sales: int


@dataclass
class Window:
    """All totals of one window, and what was last published of it (`status` None: nothing yet)."""

    totals: dict[str, Total] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    status: Status | None = None
    revision: int = 0


def top(totals: Mapping[str, Total], entries: int = TOP) -> tuple[Entry, ...]:
    """The highest totals, largest first; equal totals by name in code point order."""
    best = heapq.nsmallest(entries, totals.items(), key=lambda item: (-item[1].cents, item[0]))
    return tuple(Entry(name, total.cents, total.sales) for name, total in best)


def next_status(status: Status | None, *, passed: bool, changed: bool) -> Status:
    """The status that the ranking is published with.

    Before the watermark passes the window's end (`passed`) it is provisional, then final; a final set that changes is
    corrected and stays so. A published status never goes back.
    """
    if status in ("final", "corrected"):
        return "corrected" if changed else status
    return "final" if passed else "provisional"


def put(window: Window, changes: Mapping[str, Total]) -> None:
    """Put absolute totals into the window (sales 0: the name leaves); its ranking stays as it is."""
    for name, total in changes.items():
        if total.sales > 0:
            window.totals[name] = total
        else:
            window.totals.pop(name, None)


def update_ranking(window: Window, *, passed: bool, now_ms: int, again: bool = False) -> bool:
    """Rank the window's totals again.

    Returns whether there is something to publish: other entries, another status, or the same `again`. The revision is
    then greater than the one before and at least `now_ms`, so that it grows also when the state is restored from an
    earlier moment.
    The first time a window is published even when it is empty: an earlier job may have published something else.
    """
    entries = top(window.totals)
    status = next_status(window.status, passed=passed, changed=entries != window.entries)
    if entries == window.entries and status == window.status and not again:
        return False
    window.entries, window.status = entries, status
    window.revision = max(window.revision + 1, now_ms)
    return True
