"""The oracle and the histories that the ranking job is measured by."""

import random
from datetime import UTC, datetime
from decimal import Decimal

from tests import oracle
from tests.histories import HOUR, history

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
    (places,) = [
        places for board, places in oracle.expected([changed, first, second, *gone]).items() if board.ranking == "city"
    ]
    assert places == (oracle.Place(1, "X", Decimal("2.25"), 2),)


def test_histories_are_repeatable_and_hold_the_hard_cases() -> None:
    """A seed names one history; it has deletions, repeats, a tie beyond place ten, a shrinking and an emptied hour."""
    changes = history(3, 500, START, hours=4)
    assert changes == history(3, 500, START, hours=4)
    assert changes != history(4, 500, START, hours=4)
    want = oracle.expected(change.record() for change in changes)
    tie, shrunk, emptied = (oracle.Board("city", "", START + hours * HOUR) for hours in (4, 5, 6))
    assert [place.name for place in want[tie]] == [f"Empate {number:02}" for number in range(10)]
    assert len(want[shrunk]) == 7
    assert emptied not in want
    assert any(change.deleted for change in changes)
    identities = [(change.source, change.sale_id, change.version) for change in changes]
    assert len(set(identities)) < len(identities)


def test_differences_name_what_differs() -> None:
    """An empty set and an absent one are the same; another total is a difference."""
    board = oracle.Board("city", "", START)
    place = oracle.Place(1, "X", Decimal("1.00"), 1)
    assert oracle.differences({}, {board: ()}) == []
    assert len(oracle.differences({board: (place,)}, {})) == 1
