"""The oracle and the histories that the ranking job is measured by."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests import oracle
from tests.histories import EFFECTS, HOUR, NEUTRAL_TIME, ORDERS, effects, history, moved

START = datetime(2026, 2, 1, tzinfo=UTC)


def test_the_oracle_does_not_care_about_arrival_order() -> None:
    """Any order of the same records gives the same rankings."""
    changes = history(7, 300, START, hours=3)
    shuffled = random.Random(1).sample(changes, len(changes))
    assert oracle.expected(c.record() for c in changes) == oracle.expected(c.record() for c in shuffled)


def test_the_oracle_counts_a_small_case_by_hand() -> None:
    """Two sales of one city in one hour, one of them changed, a third deleted: worked out by hand."""
    sales = [change for change in history(1, 1, START) if not change.deleted][:1]
    first = {**sales[0].record(), "sale_id": "a", "city": "X", "amount": Decimal("1.10"), "version": 1}
    changed = {**first, "amount": Decimal("2.20"), "version": 2}
    second = {**first, "sale_id": "b", "amount": Decimal("0.05")}
    gone = [{**first, "sale_id": "c"}, {**first, "sale_id": "c", "version": 9, "deleted": True}]
    (entries,) = [
        entries
        for set_key, entries in oracle.expected([changed, first, second, *gone]).items()
        if set_key.ranking == "city"
    ]
    assert entries == (oracle.Entry(1, "X", Decimal("2.25"), 2),)


def test_a_seed_names_one_history() -> None:
    """The same seed gives the same history, another one gives another."""
    assert history(3, 200, START) == history(3, 200, START)
    assert history(3, 200, START) != history(4, 200, START)


def test_histories_hold_every_kind_of_change() -> None:
    """Each effect occurs, as do days-late files, skewed clocks and neutral deletes."""
    changes = history(3, 2000, START, hours=4)
    counts = effects(changes)
    assert set(counts) == set(EFFECTS)
    assert min(counts.values()) >= 10, counts
    assert {change.source for change in changes} == {"postgres", "legacy", "files"}
    days_late = [c for c in changes if c.source == "files" and c.ingestion_time - c.event_time > timedelta(days=2)]
    ahead_of_its_ingestion = [c for c in changes if c.ingestion_time < c.event_time]
    neutral = [c for c in changes if c.deleted and c.event_time == NEUTRAL_TIME]
    for kind in (days_late, ahead_of_its_ingestion, neutral):
        assert len(kind) >= 10


def test_histories_hold_a_new_snapshot() -> None:
    """In the middle every sale that exists by then comes again, with the version it has."""
    changes = history(3, 500, START, hours=4)
    ((at, count),) = Counter(change.ingestion_time for change in changes).most_common(1)
    begin = next(index for index, change in enumerate(changes) if change.ingestion_time == at) + 1
    snapshot = [change.record() for change in changes[begin : begin + count - 1]]
    existing = oracle.current(change.record() for change in changes[:begin])
    assert len(existing) > 100
    assert {(r["source"], r["sale_id"], r["version"]) for r in snapshot} == {
        (r["source"], r["sale_id"], r["version"]) for r in existing
    }


def test_histories_end_with_the_hard_hours() -> None:
    """A tie beyond rank ten, an hour that shrinks to seven, one that empties, and one that only exact cents order."""
    want = oracle.expected(change.record() for change in history(3, 500, START, hours=4))
    tie, shrunk, emptied, exact = (oracle.SetKey("city", "", START + hours * HOUR) for hours in (4, 5, 6, 7))
    assert [entry.name for entry in want[tie]] == [f"Empate {number:02}" for number in range(10)]
    assert len({entry.total for entry in want[tie]}) == 1
    assert len(want[shrunk]) == 7
    assert emptied not in want
    assert [entry.name for entry in want[exact]] == [f"Empate {number:02}" for number in range(11, 1, -1)]
    assert len({float(entry.total) for entry in want[exact]}) < len(want[exact])


@pytest.mark.parametrize("order", ORDERS)
def test_every_arrival_order_ends_the_same(order: str) -> None:
    """Each order brings every change at least once, and the oracle expects the same of it."""
    changes = history(7, 300, START, hours=3)
    arriving = ORDERS[order](changes)
    assert set(arriving) == set(changes)
    assert (arriving == changes) == (order == "ingestion")
    assert oracle.expected(c.record() for c in arriving) == oracle.expected(c.record() for c in changes)


def test_a_moved_history_is_the_same_at_another_time() -> None:
    """Other ids, other hours, the same rankings."""
    changes, by = history(7, 300, START, hours=3), timedelta(days=10)
    there = oracle.expected(c.record() for c in moved(changes, "there", by))
    here = oracle.expected(c.record() for c in changes)
    assert there == {replace(set_key, start=set_key.start + by): entries for set_key, entries in here.items()}
    assert not {c.identity for c in changes} & {c.identity for c in moved(changes, "there", by)}


def test_differences_name_what_differs() -> None:
    """An empty set and an absent one are the same; another total is a difference."""
    set_key = oracle.SetKey("city", "", START)
    entry = oracle.Entry(1, "X", Decimal("1.00"), 1)
    assert oracle.differences({}, {set_key: ()}) == []
    assert len(oracle.differences({set_key: (entry,)}, {})) == 1
