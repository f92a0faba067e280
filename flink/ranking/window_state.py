"""What the job does with the totals of one ranking window: gathers them, and once per interval publishes what changed.

Plain Python over a store of named states, so that it runs the same in a test and in Flink.

The windows in use are in memory. Each total that arrives is added to a log in the store. Once the log is long, the
windows that it changed are written and it is cleared: writing a window for each row, or on each timer, costs ten times
as much.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from contracts.rankings import RankingWindow
from flink.ranking.contract import ranking_set
from flink.ranking.sql import CLOCK, SEPARATOR
from flink.ranking.store import Store
from flink.ranking.windows import snapshot
from flink.ranking.windows.clock import LAG_MS, watermark
from flink.ranking.windows.top_n import Total, Window, put, update_ranking

GATHER_MS = 50
"""How long the first change after a pause waits for others of the same batch."""

HEARTBEAT_MS = 10_000
"""A timer is set at least this often, so that every saved state has one and a restored job publishes by itself."""

CONFIRM_AFTER_MS = 10_000
"""So long after its start a restored process confirms its windows: by then it has read again what it missed."""

CONFIRM_AT_ONCE = 100
"""Windows that are confirmed on one timer."""

EMPTY_AFTER_MS = 10_000
"""So long a window that was never published and has no sales is not published: its first sale may follow."""

LOG_ENTRIES = 20_000
"""The length of the log at which the windows are written."""

NAMES_IN_MEMORY = 100_000
"""How many names, over all windows of a ranking window, stay in memory: about 30 MB."""

AHEAD_MS = 10 * 60_000
"""More than a sale may be dated ahead of its arrival (5 minutes), so that its state lives that much shorter."""

UNPUBLISHED = 0
"""The end of a window that is still to be published: past at the next timer."""


@dataclass(frozen=True)
class Rules:
    """How a ranking window is kept.

    emit_interval_ms: a window is published at most this often. idle_ms: after so long without input the clock goes on
    by itself. shadow: keep all ready and publish nothing; a job without it that is restored from this one's state
    publishes every window on its first timer. ttl_ms: how long Flink keeps a total that does not change. since_ms: from
    when the state holds every sale; 0 where it does not.
    """

    emit_interval_ms: int
    idle_ms: int
    shadow: bool
    ttl_ms: int
    since_ms: int

    def closed(self, window_start_ms: int, now_ms: int) -> bool:
        """Whether totals of the window may have expired, so that what arrives for it cannot be counted any more.

        No total is older than the state or than its window.
        """
        return max(window_start_ms, self.since_ms) < now_ms - self.ttl_ms + AHEAD_MS


@dataclass(frozen=True)
class Publication:
    """A set to publish: its record key and the record."""

    key: str
    record: dict[str, Any]


def _split(window_key: str) -> tuple[str, int]:
    country, _, index = window_key.partition(SEPARATOR)
    return country, int(index)


class _WindowCache:
    """The windows that were used last, in memory; written to the store on `write`, or when they leave the memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cached: OrderedDict[str, Window] = OrderedDict()
        self._names = 0
        self._unwritten: set[str] = set()

    def get(self, window_key: str) -> Window:
        """The window; changes to it stay."""
        if window_key not in self._cached:
            window = snapshot.load(self._store.totals.get(window_key), self._store.published.get(window_key))
            self._cached[window_key] = window
            self._names += len(window.totals)
        self._cached.move_to_end(window_key)
        return self._cached[window_key]

    def put(self, window_key: str, totals: Mapping[str, Total]) -> None:
        """Put absolute totals into the window."""
        window = self.get(window_key)
        before = len(window.totals)
        put(window, totals)
        self._names += len(window.totals) - before
        self._unwritten.add(window_key)

    def write(self) -> None:
        """Write the totals of every changed window."""
        for window_key in sorted(self._unwritten):
            self._store.totals.put(window_key, snapshot.totals(self._cached[window_key]))
        self._unwritten.clear()

    def trim(self) -> None:
        """Drop the windows that were used longest ago, beyond NAMES_IN_MEMORY."""
        while self._names > NAMES_IN_MEMORY and len(self._cached) > 1:
            window_key, window = self._cached.popitem(last=False)
            self._names -= len(window.totals)
            if window_key in self._unwritten:
                self._unwritten.remove(window_key)
                self._store.totals.put(window_key, snapshot.totals(window))


class WindowState:
    """All windows of one ranking window. Every instant is epoch milliseconds of the processing clock.

    `on_total` and `on_timer` return when the next timer is due, or None where it is set already. What is not in the
    store is lost with the process, and that is harmless: the log brings the totals back, Flink keeps the timers, and
    one timer too many does nothing. `rejected` gets the number of changes that were rejected for closed windows.

    A killed process may have published sets after its state was saved. Where what it had read by then comes to nothing
    in the end (a sale that is deleted again), the restored state sees no change, and readers would keep the killed
    process' set. So every window that a process finds in its state is confirmed: published once more, as it is.
    """

    def __init__(
        self, of: RankingWindow, store: Store, rules: Rules, *, now_ms: int, rejected: Callable[[int], None]
    ) -> None:
        self._of = of
        self._store = store
        self._rules = rules
        self._rejected = rejected
        # Silence is counted from the start of this process: a restored job first reads what it missed.
        self._last_input_ms = now_ms
        self._last_timer_ms = 0
        self._due_ms: int | None = None
        self._windows = _WindowCache(store)
        self._open = dict(store.open.items())
        self._empty_since: dict[str, int] = {}
        self._confirm_at_ms = now_ms + CONFIRM_AFTER_MS
        self._unconfirmed = sorted(store.published.keys(), key=lambda window_key: _split(window_key)[1])
        self._pending: dict[str, tuple[str, str]] = {}
        self._logged = 0
        for entry in store.log.get():
            self._add_pending(*entry.split(SEPARATOR, 2))

    def on_total(self, entry: str, now_ms: int) -> int | None:
        """Take in an entry of `sql.TOTALS_QUERY`: an absolute total (sales 0: there is none any more), or a clock."""
        total, sales, key = entry.split(SEPARATOR, 2)
        if key.startswith(CLOCK):
            newest_ms = int(Decimal(total))
            newest = self._store.newest.value()
            if newest is None or newest_ms > newest:
                self._store.newest.update(newest_ms)
        else:
            self._store.log.add(entry)
            self._add_pending(total, sales, key)
        self._last_input_ms = now_ms
        return self._schedule(max(now_ms + GATHER_MS, self._last_timer_ms + self._rules.emit_interval_ms))

    def on_timer(self, due_ms: int, now_ms: int) -> tuple[list[Publication], int | None]:
        """The sets to publish of what changed, ended or is to be confirmed, and when the next timer is due.

        `due_ms` is when this timer was due.
        """
        if self._due_ms is not None and due_ms < self._due_ms:
            return [], None  # left over from before another was set, and too soon after the last one
        self._due_ms = None
        self._last_timer_ms = now_ms
        reached = watermark(
            self._store.newest.value() or 0,
            now_ms=now_ms,
            silent_ms=now_ms - self._last_input_ms,
            idle_ms=self._rules.idle_ms,
        )
        changes = self._accepted(now_ms)
        for window_key, totals in changes.items():
            self._windows.put(window_key, totals)
        publications = []
        if self._rules.shadow:
            for window_key in changes:
                self._set_open(window_key, UNPUBLISHED)
        else:
            ended = {window_key for window_key, end_ms in self._open.items() if end_ms <= reached}
            confirmed = self._next_unconfirmed(now_ms)
            for window_key in sorted({*changes, *ended, *confirmed}):
                publication = self._emit_if_changed(window_key, reached, now_ms, confirm=window_key in confirmed)
                if publication is not None:
                    publications.append(publication)
                    if window_key in changes or window_key in ended:
                        # not for a mere confirmation, which must not renew how long it is kept
                        self._store.published.put(window_key, snapshot.published(self._windows.get(window_key)))
        self._windows.trim()
        if self._logged >= LOG_ENTRIES:
            self._windows.write()
            self._store.log.clear()
            self._logged = 0
        return publications, self._schedule(self._next_due_ms(now_ms))

    def _emit_if_changed(self, window_key: str, reached: int, now_ms: int, *, confirm: bool) -> Publication | None:
        """The window's set where it differs from the last one, or is to be confirmed."""
        country, index = _split(window_key)
        bounds = self._of.window.bounds(index)
        window = self._windows.get(window_key)
        if self._may_fill(window_key, window, now_ms):
            self._set_open(window_key, UNPUBLISHED)
            return None
        changed = update_ranking(window, passed=bounds[1] <= reached, now_ms=now_ms, again=confirm)
        self._set_open(window_key, bounds[1] if window.status == "provisional" else None)
        if not changed:
            return None
        record = ranking_set(self._of, country, bounds, window, watermark_ms=reached, now_ms=now_ms)
        return Publication(self._of.record_key(country, bounds[0]), record)

    def _may_fill(self, window_key: str, window: Window, now_ms: int) -> bool:
        """Whether the window is empty only because its first sale is still on its way.

        Its key arrives at once, its sales only behind the deduplication.
        """
        if window.status is not None or window.totals:
            self._empty_since.pop(window_key, None)
            return False
        return now_ms < self._empty_since.setdefault(window_key, now_ms) + EMPTY_AFTER_MS

    def _next_unconfirmed(self, now_ms: int) -> list[str]:
        """The windows to confirm now, the newest first."""
        if now_ms < self._confirm_at_ms:
            return []
        rest = max(0, len(self._unconfirmed) - CONFIRM_AT_ONCE)
        taken, self._unconfirmed = self._unconfirmed[rest:], self._unconfirmed[:rest]
        return taken

    def _next_due_ms(self, now_ms: int) -> int:
        soonest = now_ms + self._rules.emit_interval_ms
        # a whole multiple, so that Flink keeps one timer for it and not one for each call
        due = -(-soonest // HEARTBEAT_MS) * HEARTBEAT_MS
        if self._open and not self._rules.shadow:
            due = min(due, max(soonest, min(self._open.values()) + LAG_MS))
        if self._unconfirmed:
            due = min(due, max(soonest, self._confirm_at_ms))
        return due

    def _add_pending(self, total: str, sales: str, key: str) -> None:
        """Keep a total of the log until the next timer; a later one of the same key replaces it."""
        self._pending[key] = (total, sales)
        self._logged += 1

    def _schedule(self, due_ms: int) -> int | None:
        if self._due_ms is not None and self._due_ms <= due_ms:
            return None
        self._due_ms = due_ms
        return due_ms

    def _accepted(self, now_ms: int) -> dict[str, dict[str, Total]]:
        """What is pending by window key and name, without that for closed windows; nothing is pending after it."""
        changes: dict[str, dict[str, Total]] = defaultdict(dict)
        for key, (total, sales) in self._pending.items():
            country, index, name = key.split(SEPARATOR, 2)
            # The sum is a decimal with two places, and its text is exact.
            changes[f"{country}{SEPARATOR}{index}"][name] = Total(int(total.replace(".", "")), int(sales))
        self._pending = {}
        closed = [window_key for window_key in changes if self._rules.closed(self._start_ms(window_key), now_ms)]
        if closed:
            self._rejected(sum(len(changes.pop(window_key)) for window_key in closed))
        return changes

    def _start_ms(self, window_key: str) -> int:
        return self._of.window.bounds(_split(window_key)[1])[0]

    def _set_open(self, window_key: str, end_ms: int | None) -> None:
        if end_ms is None:
            if self._open.pop(window_key, None) is not None:
                self._store.open.remove(window_key)
        elif self._open.get(window_key) != end_ms:
            self._open[window_key] = end_ms
            self._store.open.put(window_key, end_ms)
