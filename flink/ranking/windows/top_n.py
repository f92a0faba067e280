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
    """One place of a ranking; the rank is its position, from 1."""

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


def top(totals: Mapping[str, Total], places: int = TOP) -> tuple[Entry, ...]:
    """The highest totals, largest first; equal totals by name in code point order."""
    best = heapq.nsmallest(places, totals.items(), key=lambda item: (-item[1].cents, item[0]))
    return tuple(Entry(name, total.cents, total.sales) for name, total in best)


def next_status(status: Status | None, *, passed: bool, changed: bool) -> Status:
    """The status after a look at the window.

    Before the watermark passes the window's end (`passed`) it is provisional, then final; a final set that changes is
    corrected and stays so. A published status never goes back.
    """
    if status in ("final", "corrected"):
        return "corrected" if changed else status
    return "final" if passed else "provisional"


def apply(window: Window, changes: Mapping[str, Total], *, passed: bool, now_ms: int) -> bool:
    """Put absolute totals into the window (sales 0: the name leaves) and renew its ranking.

    Returns whether there is something to publish: other entries or another status. The revision is then greater than
    the one before and at least `now_ms`, so that it grows also when the state is restored from an earlier moment.
    A window of which nothing was ever published stays silent while it is empty.
    """
    for name, total in changes.items():
        if total.sales > 0:
            window.totals[name] = total
        else:
            window.totals.pop(name, None)
    entries = top(window.totals) if changes else window.entries
    if window.status is None and not entries:
        return False
    status = next_status(window.status, passed=passed, changed=entries != window.entries)
    if entries == window.entries and status == window.status:
        return False
    window.entries, window.status = entries, status
    window.revision = max(window.revision + 1, now_ms)
    return True
