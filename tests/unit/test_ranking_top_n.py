"""How totals become a ranking with a status and a revision."""

from hypothesis import given
from hypothesis import strategies as st

from flink.ranking.windows import snapshot
from flink.ranking.windows.top_n import Entry, Total, Window, next_status, put, top, update_ranking

NAMES = st.sampled_from([f"n{number:02}" for number in range(14)] + ["São Paulo", "Z", "é", "a"])
TOTALS = st.builds(Total, st.integers(1, 4), st.integers(1, 3))
CHANGES = st.dictionaries(NAMES, st.one_of(TOTALS, st.just(Total(0, 0))), max_size=8)
UPDATES = st.lists(st.tuples(CHANGES, st.booleans(), st.integers(0, 5)), max_size=12)


def apply(window: Window, changes: dict[str, Total], *, passed: bool, now_ms: int) -> bool:
    """One update of the window: what changed, then the ranking."""
    put(window, changes)
    return update_ranking(window, passed=passed, now_ms=now_ms)


def naive(totals: dict[str, Total]) -> tuple[Entry, ...]:
    """The ranking by full sort: largest total first, then by name."""
    by_name = sorted(totals.items())
    by_total = sorted(by_name, key=lambda item: item[1].cents, reverse=True)
    return tuple(Entry(name, total.cents, total.sales) for name, total in by_total[:10])


@given(st.dictionaries(NAMES, TOTALS))
def test_top_is_the_head_of_a_full_sort(totals: dict[str, Total]) -> None:
    """The ranking equals the first ten of all names sorted by total, then name."""
    assert top(totals) == naive(totals)


def test_names_of_equal_totals_are_in_code_point_order() -> None:
    """Ties are decided by name, without regard to any language's alphabet."""
    totals = {name: Total(5, 1) for name in ("é", "z", "Z", "a")}
    assert [entry.name for entry in top(totals)] == ["Z", "a", "z", "é"]


@given(UPDATES)
def test_published_sets_follow_the_totals(updates: list[tuple[dict[str, Total], bool, int]]) -> None:
    """After every update the published entries are the naive ranking of all changes so far, over restored state too."""
    window, totals = Window(), dict[str, Total]()
    for changes, passed, now_ms in updates:
        totals.update(changes)
        totals = {name: total for name, total in totals.items() if total.sales}
        before = window.entries, window.status, window.revision
        published = apply(window, changes, passed=passed, now_ms=now_ms)
        window = snapshot.load(snapshot.totals(window), snapshot.published(window))
        assert window.totals == totals
        assert window.entries == naive(totals)
        assert published == (before[:2] != (window.entries, window.status))
        if published:
            assert window.revision > before[2]
            assert window.revision >= now_ms
        else:
            assert (window.entries, window.status, window.revision) == before


@given(UPDATES)
def test_a_status_never_goes_back(updates: list[tuple[dict[str, Total], bool, int]]) -> None:
    """Provisional becomes final, final becomes corrected, and neither is undone, also when a watermark goes back."""
    order = [None, "provisional", "final", "corrected"]
    window, reached = Window(), 0
    for changes, passed, now_ms in updates:
        apply(window, changes, passed=passed, now_ms=now_ms)
        assert order.index(window.status) >= reached
        reached = order.index(window.status)


def test_a_window_is_provisional_then_final_then_corrected() -> None:
    """The watermark makes a set final without any change of totals; only a change of the set after that corrects it."""
    window = Window()
    assert apply(window, {"a": Total(100, 1)}, passed=False, now_ms=10)
    assert (window.status, window.revision) == ("provisional", 10)
    assert not apply(window, {}, passed=False, now_ms=11)
    assert apply(window, {}, passed=True, now_ms=12)
    assert (window.status, window.revision) == ("final", 12)
    assert not apply(window, {"a": Total(100, 1)}, passed=True, now_ms=13)
    assert apply(window, {"a": Total(200, 2)}, passed=True, now_ms=12)
    assert (window.status, window.revision) == ("corrected", 13)


def test_a_late_window_begins_final() -> None:
    """What is first seen after the watermark has passed its end is final at once."""
    assert next_status(None, passed=True, changed=True) == "final"


def test_a_shrinking_window_publishes_the_shorter_set_and_then_the_empty_one() -> None:
    """Ten entries, seven, none: each is published whole, with growing revisions."""
    window = Window()
    apply(window, {f"n{number}": Total(number + 1, 1) for number in range(10)}, passed=False, now_ms=1)
    assert apply(window, {f"n{number}": Total(0, 0) for number in range(3)}, passed=False, now_ms=1)
    assert [entry.name for entry in window.entries] == [f"n{number}" for number in range(9, 2, -1)]
    assert apply(window, {f"n{number}": Total(0, 0) for number in range(3, 10)}, passed=False, now_ms=1)
    assert (window.entries, window.revision) == ((), 3)


def test_rank_eleven_moves_up_when_one_of_the_ten_leaves() -> None:
    """A deleted competitor makes room for the next one."""
    window = Window()
    apply(window, {f"n{number:02}": Total(100 - number, 1) for number in range(12)}, passed=False, now_ms=1)
    assert apply(window, {"n00": Total(0, 0)}, passed=False, now_ms=2)
    assert window.entries[-1] == Entry("n10", 90, 1)


def test_a_window_is_published_the_first_time_also_when_it_is_empty() -> None:
    """Nobody knows what an earlier job has left behind; the second time there is nothing new."""
    window = Window()
    assert apply(window, {"a": Total(0, 0)}, passed=True, now_ms=1)
    assert (window.entries, window.status) == ((), "final")
    assert not apply(window, {"a": Total(0, 0)}, passed=True, now_ms=2)


def test_totals_beyond_64_bits_are_kept_exactly() -> None:
    """Cents are integers without a limit, through the state's text as well."""
    window = Window()
    apply(window, {"a": Total(10**30 + 1, 1)}, passed=False, now_ms=1)
    assert snapshot.load(snapshot.totals(window), snapshot.published(window)) == window
