"""What the job does with the totals of one board: gathers them, and once per interval tells which sets to publish.

Plain Python over a store of named states, so that it runs the same in a test and in Flink. The states' names and texts
are part of the job's state: changing one loses what is kept under it.

The windows in use are in memory. What arrives is added to a log in the store, and once the log is long the windows that
it changed are written and it starts anew: writing a window for each row, or at each look, costs ten times as much.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from contracts.rankings import RankingWindow
from flink.ranking.contract import ranking_set
from flink.ranking.sql import CLOCK, SEPARATOR
from flink.ranking.windows import snapshot
from flink.ranking.windows.clock import LAG_MS, watermark
from flink.ranking.windows.top_n import Total, Window, put, renew

GATHER_MS = 50
"""How long the first change after a pause waits for others of the same batch."""

HEARTBEAT_MS = 10_000
"""A look is planned at least this often, so that every saved state has one and a restored job looks by itself."""

CONFIRM_AFTER_MS = 10_000
"""So long after its start a restored process confirms what it found: by then it has read again what it missed."""

CONFIRM_AT_ONCE = 100
"""Windows that are confirmed in one look."""

EMPTY_AFTER_MS = 10_000
"""So long a window that was never published and has no sales is not published: what it was heard of for may follow."""

LOG_ENTRIES = 20_000
"""The length of the log at which the windows are written."""

NAMES_IN_MEMORY = 100_000
"""How many names, over all windows of a board, stay in memory: about 30 MB."""

AHEAD_MS = 10 * 60_000
"""More than a sale may be dated ahead of its arrival (5 minutes), so that its state lives that much shorter."""

UNPUBLISHED = 0
"""In place of a window's end: it ended long ago as far as the next look is concerned."""

V = TypeVar("V")


class MapState(Protocol[V]):
    """A durable map from text, as Flink's keyed state offers it."""

    def get(self, key: str) -> V | None:
        """The value, or None."""

    def put(self, key: str, value: V) -> None:
        """Set the value."""

    def remove(self, key: str) -> None:
        """Forget the key."""

    def keys(self) -> Iterable[str]:
        """All keys."""

    def items(self) -> Iterable[tuple[str, V]]:
        """All of it."""


class ListState(Protocol[V]):
    """A durable list."""

    def get(self) -> Iterable[V]:
        """All of it, in the order of addition."""

    def add(self, value: V) -> None:
        """Add at the end."""

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
    """The state of the board that is being worked on. A place is the text `country|window index`.

    log: entries that arrived since the totals were last written. totals, published: place -> the two parts of a window
    as text. open: place -> end in epoch ms, of provisional windows, and UNPUBLISHED for what is still to be published
    (by a shadow's successor, or once an empty window has waited). newest: the newest instant in epoch ms that any
    source has shown.
    """

    log: ListState[str]
    totals: MapState[str]
    published: MapState[str]
    open: MapState[int]
    newest: ValueState[int]


@dataclass(frozen=True)
class Rules:
    """How a board is kept.

    emit_interval_ms: a window is published at most this often. idle_ms: after so long without input the clock goes on
    by itself. shadow: keep all ready and publish nothing; a job without it that is restored from this one's state
    publishes every window at its first look. ttl_ms: how long Flink keeps a total that does not change. since_ms: from
    when the state has known every sale; 0 where it has not.
    """

    emit_interval_ms: int
    idle_ms: int
    shadow: bool
    ttl_ms: int
    since_ms: int

    def closed(self, window_start_ms: int, now_ms: int) -> bool:
        """Whether totals of the window may have expired, so that what arrives for it cannot be trusted any more.

        No total is older than the state or than its window.
        """
        return max(window_start_ms, self.since_ms) < now_ms - self.ttl_ms + AHEAD_MS


@dataclass(frozen=True)
class Publication:
    """A set to publish: its record key and the record."""

    key: str
    record: dict[str, Any]


def _split(place: str) -> tuple[str, int]:
    country, _, index = place.partition(SEPARATOR)
    return country, int(index)


class _Windows:
    """The windows that were used last, in memory; written to the store when asked, or when they leave the memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: OrderedDict[str, Window] = OrderedDict()
        self._unwritten: set[str] = set()

    def get(self, place: str) -> Window:
        """The window; changes to it stay."""
        if place not in self._held:
            self._held[place] = snapshot.load(self._store.totals.get(place), self._store.published.get(place))
        self._held.move_to_end(place)
        return self._held[place]

    def changed(self, place: str) -> None:
        """Its totals are no longer those of the store."""
        self._unwritten.add(place)

    def write(self) -> None:
        """Write the totals of every changed window."""
        for place in sorted(self._unwritten):
            self._store.totals.put(place, snapshot.totals(self._held[place]))
        self._unwritten.clear()

    def trim(self) -> None:
        """Let go of the windows that were used longest ago, beyond NAMES_IN_MEMORY."""
        names = sum(len(window.totals) for window in self._held.values())
        while names > NAMES_IN_MEMORY and len(self._held) > 1:
            place, window = self._held.popitem(last=False)
            names -= len(window.totals)
            if place in self._unwritten:
                self._unwritten.remove(place)
                self._store.totals.put(place, snapshot.totals(window))


class Keeper:
    """Keeps one board. Every instant is epoch milliseconds of the processing clock.

    Each note returns when to look next (a timer to set), or None where that is settled already. What is not in the
    store is lost with the process, and that is harmless: the log brings the totals back, Flink keeps the timers, and
    one look too many does nothing. `rejected` is told how many changes a look has rejected for closed windows.

    A killed process may have published sets after its state was saved. Where what it had read by then comes to nothing
    in the end (a sale that is deleted again), the restored state sees no change, and readers would keep the killed
    process' set. So every window that a process finds in its state is confirmed: published once more, as it is.
    """

    def __init__(
        self, board: RankingWindow, store: Store, rules: Rules, *, now_ms: int, rejected: Callable[[int], None]
    ) -> None:
        self._board = board
        self._store = store
        self._rules = rules
        self._rejected = rejected
        # Silence is counted from the start of this process: a restored job first reads what it missed.
        self._last_input_ms = now_ms
        self._last_look_ms = 0
        self._armed_ms: int | None = None
        self._windows = _Windows(store)
        self._open = dict(store.open.items())
        self._heard_of: dict[str, int] = {}
        self._confirm_at_ms = now_ms + CONFIRM_AFTER_MS
        self._unconfirmed = sorted(store.published.keys(), key=lambda place: _split(place)[1])
        self._pending: dict[str, tuple[str, str]] = {}
        self._logged = 0
        for entry in store.log.get():
            self._take(*entry.split(SEPARATOR, 2))

    def note(self, entry: str, now_ms: int) -> int | None:
        """Note an entry of `sql.TOTALS_QUERY`: an absolute total (sales 0: there is none any more), or a clock."""
        total, sales, place = entry.split(SEPARATOR, 2)
        if place.startswith(CLOCK):
            newest_ms = int(Decimal(total))
            newest = self._store.newest.value()
            if newest is None or newest_ms > newest:
                self._store.newest.update(newest_ms)
        else:
            self._store.log.add(entry)
            self._take(total, sales, place)
        self._last_input_ms = now_ms
        return self._arm(max(now_ms + GATHER_MS, self._last_look_ms + self._rules.emit_interval_ms))

    def look(self, due_ms: int, now_ms: int) -> tuple[list[Publication], int | None]:
        """Look at what changed, could have ended or is to be confirmed: the sets to publish, and when to look next.

        `due_ms` is when this look should have been.
        """
        if self._armed_ms is not None and due_ms < self._armed_ms:
            return [], None  # left over from before something else was planned, and too soon after the last look
        self._armed_ms = None
        self._last_look_ms = now_ms
        reached = watermark(
            self._store.newest.value() or 0,
            now_ms=now_ms,
            silent_ms=now_ms - self._last_input_ms,
            idle_ms=self._rules.idle_ms,
        )
        changes = self._accepted(now_ms)
        ended = [place for place, end_ms in self._open.items() if end_ms <= reached]
        confirmed = self._next_unconfirmed(now_ms)
        publications = []
        for place in sorted(changes if self._rules.shadow else {*changes, *ended, *confirmed}):
            country, index = _split(place)
            bounds = self._board.window.bounds(index)
            window = self._windows.get(place)
            if place in changes:
                put(window, changes[place])
                self._windows.changed(place)
            if self._rules.shadow or self._may_fill(place, window, now_ms):
                self._note_open(place, UNPUBLISHED)
                continue
            if renew(window, passed=bounds[1] <= reached, now_ms=now_ms, again=place in confirmed):
                record = ranking_set(self._board, country, bounds, window, watermark_ms=reached, now_ms=now_ms)
                publications.append(Publication(self._board.record_key(country, bounds[0]), record))
                if place in changes or place in ended:  # a mere confirmation must not renew how long it is kept
                    self._store.published.put(place, snapshot.published(window))
            self._note_open(place, bounds[1] if window.status == "provisional" else None)
        self._windows.trim()
        if self._logged >= LOG_ENTRIES:
            self._windows.write()
            self._store.log.clear()
            self._logged = 0
        return publications, self._arm(self._next_look_ms(now_ms))

    def _may_fill(self, place: str, window: Window, now_ms: int) -> bool:
        """Whether the window is empty only because its first sale is still on its way.

        That a place exists is known at once, what was sold there only behind the deduplication.
        """
        if window.status is not None or window.totals:
            self._heard_of.pop(place, None)
            return False
        return now_ms < self._heard_of.setdefault(place, now_ms) + EMPTY_AFTER_MS

    def _next_unconfirmed(self, now_ms: int) -> list[str]:
        """The places to confirm now, the newest first."""
        if now_ms < self._confirm_at_ms:
            return []
        rest = max(0, len(self._unconfirmed) - CONFIRM_AT_ONCE)
        taken, self._unconfirmed = self._unconfirmed[rest:], self._unconfirmed[:rest]
        return taken

    def _next_look_ms(self, now_ms: int) -> int:
        soonest = now_ms + self._rules.emit_interval_ms
        # a whole multiple, so that Flink keeps one timer for it and not one for each look
        due = -(-soonest // HEARTBEAT_MS) * HEARTBEAT_MS
        if self._open and not self._rules.shadow:
            due = min(due, max(soonest, min(self._open.values()) + LAG_MS))
        if self._unconfirmed:
            due = min(due, max(soonest, self._confirm_at_ms))
        return due

    def _take(self, total: str, sales: str, place: str) -> None:
        """Remember an entry of the log under its place, in the stead of an earlier one."""
        self._pending[place] = (total, sales)
        self._logged += 1

    def _arm(self, due_ms: int) -> int | None:
        if self._armed_ms is not None and self._armed_ms <= due_ms:
            return None
        self._armed_ms = due_ms
        return due_ms

    def _accepted(self, now_ms: int) -> dict[str, dict[str, Total]]:
        """What is pending by place and name, without that for closed windows; nothing is pending after it."""
        changes: dict[str, dict[str, Total]] = defaultdict(dict)
        for text, (total, sales) in self._pending.items():
            country, index, name = text.split(SEPARATOR, 2)
            # The sum is a decimal with two places, and its text is exact.
            changes[f"{country}{SEPARATOR}{index}"][name] = Total(int(total.replace(".", "")), int(sales))
        self._pending = {}
        closed = [place for place in changes if self._rules.closed(self._start_ms(place), now_ms)]
        if closed:
            self._rejected(sum(len(changes.pop(place)) for place in closed))
        return changes

    def _start_ms(self, place: str) -> int:
        return self._board.window.bounds(_split(place)[1])[0]

    def _note_open(self, place: str, end_ms: int | None) -> None:
        if end_ms is None:
            if self._open.pop(place, None) is not None:
                self._store.open.remove(place)
        elif self._open.get(place) != end_ms:
            self._open[place] = end_ms
            self._store.open.put(place, end_ms)
