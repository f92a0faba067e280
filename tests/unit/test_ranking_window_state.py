"""What is published when: rate, silence, restored state, and whole sets throughout."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rankings import ranking_windows
from contracts.windows import window_length
from flink.ranking import window_state
from flink.ranking.contract import money
from flink.ranking.store import Store
from flink.ranking.window_state import (
    CONFIRM_AFTER_MS,
    CONFIRM_AT_ONCE,
    EMPTY_AFTER_MS,
    HEARTBEAT_MS,
    Publication,
    Rules,
    WindowState,
)
from flink.ranking.windows.clock import LAG_MS
from flink.ranking.windows.top_n import Total

HOUR_MS = 3_600_000
INTERVAL_MS = 1000
IDLE_MS = 60_000
DAY_MS = 24 * HOUR_MS
TTL_MS = 35 * DAY_MS
SALESMEN_PER_HOUR = ranking_windows([window_length("1h")])[1]
WindowKey = tuple[str, int]
V = TypeVar("V")


class Table(dict[str, V], Generic[V]):
    """A map state in memory."""

    def put(self, key: str, value: V) -> None:
        """Set."""
        self[key] = value

    def remove(self, key: str) -> None:
        """Forget."""
        del self[key]


class Log(list[V], Generic[V]):
    """A list state in memory."""

    def get(self) -> list[V]:
        """All."""
        return list(self)

    def add(self, value: V) -> None:
        """Add."""
        self.append(value)


@dataclass
class Cell(Generic[V]):
    """A value state in memory."""

    kept: V | None = None

    def value(self) -> V | None:
        """Get."""
        return self.kept

    def update(self, value: V) -> None:
        """Set."""
        self.kept = value


@dataclass
class Job:
    """The state of a ranking window with a clock and its timers, as Flink would drive it."""

    now_ms: int
    store: Store = field(
        default_factory=lambda: Store(Log[str](), Table[str](), Table[str](), Table[int](), Cell[int]())
    )
    timers: set[int] = field(default_factory=set)
    published: list[tuple[int, Publication]] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    shadow: bool = False
    since_ms: int | None = None

    def __post_init__(self) -> None:
        self.since_ms = self.now_ms if self.since_ms is None else self.since_ms
        self.restart()

    def restart(self, *, shadow: bool | None = None) -> None:
        """A new process over the same state and timers."""
        self.shadow = self.shadow if shadow is None else shadow
        assert self.since_ms is not None
        rules = Rules(INTERVAL_MS, IDLE_MS, self.shadow, TTL_MS, self.since_ms)
        self.state = WindowState(
            SALESMEN_PER_HOUR, self.store, rules, now_ms=self.now_ms, rejected=self.rejected.append
        )

    def _set_timer(self, due_ms: int | None) -> None:
        if due_ms is not None:
            self.timers.add(due_ms)

    def total(self, window: WindowKey, name: str, total: Total) -> None:
        """A row with a total."""
        entry = f"{money(total.cents)}|{total.sales}|{window[0]}|{window[1]}|{name}"
        self._set_timer(self.state.on_total(entry, self.now_ms))

    def clock(self, newest_ms: int) -> None:
        """A row with a source's clock."""
        self._set_timer(self.state.on_total(f"{newest_ms}.00|1|@postgres", self.now_ms))

    def pass_time(self, ms: int) -> None:
        """Let time pass, and fire what is due on the way."""
        end = self.now_ms + ms
        while due := sorted(timer for timer in self.timers if timer <= end):
            self.timers.remove(due[0])
            self.now_ms = max(self.now_ms, due[0])
            publications, next_ms = self.state.on_timer(due[0], self.now_ms)
            self.published += [(self.now_ms, publication) for publication in publications]
            self._set_timer(next_ms)
        self.now_ms = end

    def last(self, key: str) -> tuple[str, list[str]]:
        """Status and names of the newest set of a key."""
        record = next(one.record for _, one in reversed(self.published) if one.key == key)
        return record["status"], [entry["name"] for entry in record["entries"]]


START_MS = 491_804 * HOUR_MS
WINDOW = ("BR", 491_804)
RECORD_KEY = "2026-02-07T20:00:00Z/BR"


def test_a_change_is_published_at_once_and_the_next_one_a_second_later() -> None:
    """At most one set per window and second, but no second of waiting after a pause."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.pass_time(60)
    assert job.last(RECORD_KEY) == ("provisional", ["Ana"])
    for cents in (200, 300, 400):
        job.total(WINDOW, "Ana", Total(cents, 1))
        job.pass_time(100)
    job.pass_time(2000)
    times = [at for at, _ in job.published]
    assert len(times) == 2
    assert times[1] - times[0] == INTERVAL_MS


def test_a_window_ends_when_the_clock_of_a_source_passes_it() -> None:
    """Final comes with the watermark, without any change of totals."""
    job = Job(START_MS + HOUR_MS - 10_000)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.clock(job.now_ms)
    job.pass_time(10_000 + LAG_MS)
    assert job.last(RECORD_KEY)[0] == "provisional"
    job.clock(job.now_ms)
    job.pass_time(1100)
    assert job.last(RECORD_KEY) == ("final", ["Ana"])


def test_a_quiet_hour_ends_by_itself() -> None:
    """Without any input the window ends a minute after the last row or with its hour, whichever is later."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.clock(job.now_ms)
    job.pass_time(HOUR_MS + LAG_MS + INTERVAL_MS)
    assert job.last(RECORD_KEY)[0] == "final"


def test_an_idle_ranking_window_has_only_its_heartbeat() -> None:
    """While the window cannot have ended, only the heartbeat wakes up."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.pass_time(5000)
    assert job.timers == {START_MS + HEARTBEAT_MS}
    job.pass_time(2 * HEARTBEAT_MS)
    assert job.timers == {START_MS + 3 * HEARTBEAT_MS}


def test_what_a_killed_process_published_and_was_taken_back_is_published_again() -> None:
    """A name came after the state was saved and is gone in the restored state: the ranking is without it again."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.pass_time(5000)
    saved = copy.deepcopy((job.store, job.timers))
    job.total(WINDOW, "Bia", Total(200, 1))
    job.pass_time(5000)
    assert job.last(RECORD_KEY) == ("provisional", ["Bia", "Ana"])
    before = job.published[-1][1].record["revision"]

    job.store, job.timers = saved
    job.restart()
    job.pass_time(CONFIRM_AFTER_MS + HEARTBEAT_MS)

    assert job.last(RECORD_KEY) == ("provisional", ["Ana"])
    assert job.published[-1][1].record["revision"] > before


def test_a_restored_job_confirms_each_window_once_and_the_newest_first() -> None:
    """Hundreds are confirmed on several timers and not written to the state; a job that starts afresh confirms none."""
    job = Job(START_MS)
    windows = [("BR", WINDOW[1] - number) for number in range(2 * CONFIRM_AT_ONCE + 10)]
    for window in windows:
        job.total(window, "Ana", Total(100, 1))
    job.clock(job.now_ms)
    job.pass_time(2 * CONFIRM_AFTER_MS)
    assert len(job.published) == len(windows)

    job.restart()
    job.published.clear()
    kept = dict(job.store.published.items())
    job.pass_time(CONFIRM_AFTER_MS + 5 * INTERVAL_MS)

    assert sorted(one.key for _, one in job.published) == sorted(
        SALESMEN_PER_HOUR.record_key("BR", n * HOUR_MS) for _, n in windows
    )
    assert job.published[CONFIRM_AT_ONCE - 1][1].key == RECORD_KEY
    assert dict(job.store.published.items()) == kept
    times = {at for at, _ in job.published}
    assert len(times) == 3
    assert all(later - earlier >= INTERVAL_MS for earlier, later in pairwise(sorted(times)))


def test_the_end_of_a_window_causes_no_second_set_within_a_second() -> None:
    """A timer that was set for the window's end is passed over when another has just fired."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.pass_time(HOUR_MS + LAG_MS - 300)
    for cents in (200, 300):
        job.total(WINDOW, "Ana", Total(cents, 1))
        job.pass_time(200)
    job.pass_time(5000)
    times = [at for at, _ in job.published]
    assert all(later - earlier >= INTERVAL_MS for earlier, later in pairwise(times))
    assert job.published[-1][1].record["entries"][0]["total_sales"] == Decimal("3.00")


def test_a_restored_job_does_not_take_its_own_downtime_for_silence() -> None:
    """After hours of downtime a window stays provisional until what was missed has had a minute to arrive."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.clock(job.now_ms)
    job.pass_time(100)
    job.now_ms += 5 * HOUR_MS
    job.restart()
    job.pass_time(IDLE_MS - 2000)
    assert job.last(RECORD_KEY)[0] == "provisional"
    job.pass_time(3 * INTERVAL_MS)
    assert job.last(RECORD_KEY)[0] == "final"


def test_what_arrived_before_a_crash_and_was_not_published_is_published_after_it() -> None:
    """What is not in a window yet is in the log."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(100, 1))
    job.restart()
    job.pass_time(2000)
    assert job.last(RECORD_KEY) == ("provisional", ["Ana"])


def test_countries_are_ranked_apart_and_names_may_hold_any_sign() -> None:
    """A name with the separator in it stays one name."""
    job = Job(START_MS)
    job.total(("BR", WINDOW[1]), "A|B|1", Total(100, 1))
    job.total(("PT", WINDOW[1]), "Ana", Total(100, 1))
    job.pass_time(100)
    assert job.last(RECORD_KEY) == ("provisional", ["A|B|1"])
    assert job.last(RECORD_KEY.replace("/BR", "/PT")) == ("provisional", ["Ana"])


def test_a_window_whose_key_arrives_before_its_first_sale_is_not_published_empty() -> None:
    """A window without sales is published once nothing has followed for a while; a sale that follows is its first."""
    job = Job(START_MS)
    job.total(WINDOW, "Ana", Total(0, 0))
    job.total((WINDOW[0], WINDOW[1] - 1), "Ana", Total(0, 0))
    job.pass_time(2000)
    assert not job.published
    job.total(WINDOW, "Ana", Total(100, 1))
    job.pass_time(EMPTY_AFTER_MS + 2 * INTERVAL_MS)
    assert [(one.record["status"], len(one.record["entries"])) for _, one in job.published] == [
        ("provisional", 1),
        ("provisional", 0),
    ]


def test_windows_leave_the_memory_and_the_log_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limits totals go to the store, and a later change finds them there."""
    monkeypatch.setattr(window_state, "LOG_ENTRIES", 4)
    monkeypatch.setattr(window_state, "NAMES_IN_MEMORY", 2)
    job = Job(START_MS)
    for number in range(5):
        job.total(("BR", WINDOW[1] - number), "Ana", Total(100, 1))
        job.total(("BR", WINDOW[1] - number), "Bia", Total(50, 1))
    job.pass_time(60)
    assert list(job.store.log.get()) == []
    assert len(list(job.store.totals.items())) == 5
    job.total(("BR", WINDOW[1]), "Bia", Total(200, 2))
    job.pass_time(INTERVAL_MS)
    assert job.last(RECORD_KEY) == ("provisional", ["Bia", "Ana"])
    assert len(list(job.store.log.get())) == 1


@pytest.mark.parametrize("log_entries", [1, 1000])
def test_a_shadow_publishes_nothing_and_its_successor_every_window_once(
    log_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also windows of which the log holds nothing any more, and one that has lost all its sales."""
    monkeypatch.setattr(window_state, "LOG_ENTRIES", log_entries)
    job = Job(START_MS, shadow=True)
    for number in range(3):
        job.total(("BR", WINDOW[1] - number), "Ana", Total(100, 1))
        job.pass_time(2 * INTERVAL_MS)
    job.total(WINDOW, "Ana", Total(0, 0))
    job.pass_time(EMPTY_AFTER_MS + IDLE_MS)
    assert not job.published
    job.restart(shadow=False)
    job.pass_time(4 * EMPTY_AFTER_MS)
    published = {one.key: [entry["name"] for entry in one.record["entries"]] for _, one in job.published}
    assert sorted(published.values()) == [[], ["Ana"], ["Ana"]]
    assert published[RECORD_KEY] == []


ROWS = st.tuples(
    st.sampled_from(["BR", "PT"]),
    st.integers(WINDOW[1] - 2, WINDOW[1]),
    st.sampled_from([f"n{number}" for number in range(13)]),
    st.one_of(st.just(Total(0, 0)), st.builds(Total, st.integers(1, 5), st.integers(1, 3))),
)
EVENTS = st.lists(
    st.one_of(ROWS, st.integers(0, 2 * IDLE_MS), st.just("restart")),
    max_size=60,
)


def _names(totals: Iterable[tuple[str, Total]]) -> list[str]:
    return [name for name, _ in sorted(totals, key=lambda item: (-item[1].cents, item[0]))][:10]


@given(EVENTS, st.sampled_from([1, 5, 1000]), st.sampled_from([1, 12, 1000]))
def test_every_history_ends_in_the_ranking_of_its_last_totals(
    events: list[object], log_entries: int, names_in_memory: int
) -> None:
    """Whatever the order of rows, pauses and restarts: last sets are right, revisions grow, statuses never go back."""
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(window_state, "LOG_ENTRIES", log_entries)
        limits.setattr(window_state, "NAMES_IN_MEMORY", names_in_memory)
        _run_history(events)


def _run_history(events: list[object]) -> None:
    job = Job(START_MS)
    totals: dict[str, dict[str, Total]] = {}
    for event in events:
        if isinstance(event, int):
            job.pass_time(event)
        elif event == "restart":
            job.restart()
        elif isinstance(event, tuple):
            country, index, name, total = event
            job.total((country, index), name, total)
            key = SALESMEN_PER_HOUR.record_key(country, index * HOUR_MS)
            totals.setdefault(key, {})[name] = total
    job.pass_time(EMPTY_AFTER_MS + 3000)
    seen: dict[str, list[dict[str, Any]]] = {}
    for _, publication in job.published:
        seen.setdefault(publication.key, []).append(publication.record)
    for key, by_name in totals.items():
        left = [(name, total) for name, total in by_name.items() if total.sales]
        assert key in seen
        assert job.last(key)[1] == _names(left)
    for records in seen.values():
        revisions = [record["revision"] for record in records]
        assert revisions == sorted(set(revisions))
        order = ["provisional", "final", "corrected"]
        statuses = [order.index(record["status"]) for record in records]
        assert statuses == sorted(statuses)
