"""What the job does with the totals of one board: gathers them, and once per interval tells which sets to publish.

Plain Python over a store of named states, so that it runs the same in a test and in Flink. The states' names and texts
are part of the job's state: changing one loses what is kept under it.

A row costs one small write to `pending`; rewriting a window for each row would cost ten times as much.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from flink.ranking.contract import ranking_set
from flink.ranking.definitions import Board
from flink.ranking.windows import snapshot
from flink.ranking.windows.clock import LAG_MS, watermark
from flink.ranking.windows.top_n import Total, Window, apply

GATHER_MS = 50
"""How long the first change after a pause waits for others of the same batch."""

Place = tuple[str, int]
"""Country ('' where the ranking spans all) and window index."""

V = TypeVar("V")


class MapState(Protocol[V]):
    """A durable map from text, as Flink's keyed state offers it."""

    def get(self, key: str) -> V | None:
        """The value, or None."""

    def put(self, key: str, value: V) -> None:
        """Set the value."""

    def remove(self, key: str) -> None:
        """Forget the key."""

    def items(self) -> Iterable[tuple[str, V]]:
        """All of it."""

    def clear(self) -> None:
        """Forget everything."""


class ValueState(Protocol[V]):
    """A durable value."""

    def value(self) -> V | None:
        """The value, or None."""

    def update(self, value: V) -> None:
        """Set the value."""


@dataclass(frozen=True)
class Store:
    """The state of the board that is being worked on.

    pending: country, window index and name -> total and sales that arrived since the last look. windows: country and
    window index -> the window as text. open: the same -> end of the window in epoch ms, of provisional windows. newest:
    the newest instant in epoch ms that any source has shown.
    """

    pending: MapState[str]
    windows: MapState[str]
    open: MapState[int]
    newest: ValueState[int]


@dataclass(frozen=True)
class Publication:
    """A set to publish: its record key and the record."""

    key: str
    record: dict[str, Any]


def _place(text: str) -> Place:
    country, _, index = text.partition("|")
    return country, int(index)


def _text(place: Place) -> str:
    return f"{place[0]}|{place[1]}"


class Keeper:
    """Keeps one board. Every instant is epoch milliseconds of the processing clock.

    Each note returns when to look next (a timer to set), or None where that is settled already. What is not in the
    store is lost with the process, and that is harmless: Flink keeps the timers, and one look too many does nothing.
    """

    def __init__(self, board: Board, store: Store, *, now_ms: int, emit_interval_ms: int, idle_ms: int) -> None:
        self._board = board
        self._store = store
        self._interval_ms = emit_interval_ms
        self._idle_ms = idle_ms
        # Silence is counted from the start of this process: a restored job first reads what it missed.
        self._last_input_ms = now_ms
        self._last_look_ms = 0
        self._armed_ms: int | None = None
        self._open: dict[Place, int] | None = None

    def note_total(self, place: Place, name: str, total: Total, now_ms: int) -> int | None:
        """Note the absolute total of a name in a window (sales 0: it has none any more)."""
        self._store.pending.put(f"{_text(place)}|{name}", f"{total.cents}|{total.sales}")
        return self._input(now_ms)

    def note_clock(self, newest_ms: int, now_ms: int) -> int | None:
        """Note the newest instant that a source has shown."""
        newest = self._store.newest.value()
        if newest is None or newest_ms > newest:
            self._store.newest.update(newest_ms)
        return self._input(now_ms)

    def look(self, due_ms: int, now_ms: int) -> tuple[list[Publication], int | None]:
        """Look at every window that changed or could have ended: the sets to publish, and when to look next.

        `due_ms` is when this look should have been: one that comes late must not push back the next.
        """
        if self._armed_ms is not None and due_ms < self._armed_ms:
            return [], None  # left over from before something else was planned, and too soon after the last look
        self._armed_ms = None
        self._last_look_ms = due_ms
        reached = watermark(
            self._store.newest.value() or 0,
            now_ms=now_ms,
            silent_ms=now_ms - self._last_input_ms,
            idle_ms=self._idle_ms,
        )
        still_open = self._open_windows()
        changes = self._drain()
        ended = [place for place, end in still_open.items() if end <= reached]
        publications = []
        for place in sorted({*changes, *ended}):
            bounds = self._board.window.bounds(place[1])
            kept = self._store.windows.get(_text(place))
            window = Window() if kept is None else snapshot.load(kept)
            publish = apply(window, changes.get(place, {}), passed=bounds[1] <= reached, now_ms=now_ms)
            if publish:
                record = ranking_set(self._board, place[0], bounds, window, watermark_ms=reached, now_ms=now_ms)
                publications.append(Publication(self._board.record_key(place[0], bounds[0]), record))
            if publish or place in changes:
                self._store.windows.put(_text(place), snapshot.dump(window))
            self._note_open(still_open, place, bounds[1], window)
        if not still_open:
            return publications, None
        return publications, self._arm(max(now_ms + self._interval_ms, min(still_open.values()) + LAG_MS))

    def _input(self, now_ms: int) -> int | None:
        self._last_input_ms = now_ms
        return self._arm(max(now_ms + GATHER_MS, self._last_look_ms + self._interval_ms))

    def _arm(self, due_ms: int) -> int | None:
        if self._armed_ms is not None and self._armed_ms <= due_ms:
            return None
        self._armed_ms = due_ms
        return due_ms

    def _open_windows(self) -> dict[Place, int]:
        if self._open is None:
            self._open = {_place(text): end for text, end in self._store.open.items()}
        return self._open

    def _note_open(self, still_open: dict[Place, int], place: Place, end_ms: int, window: Window) -> None:
        if window.status == "provisional":
            if place not in still_open:
                still_open[place] = end_ms
                self._store.open.put(_text(place), end_ms)
        elif still_open.pop(place, None) is not None:
            self._store.open.remove(_text(place))

    def _drain(self) -> dict[Place, dict[str, Total]]:
        changes: dict[Place, dict[str, Total]] = defaultdict(dict)
        for text, value in self._store.pending.items():
            country, index, name = text.split("|", 2)
            cents, sales = value.split("|")
            changes[country, int(index)][name] = Total(int(cents), int(sales))
        if changes:
            self._store.pending.clear()
        return changes
