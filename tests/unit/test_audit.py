"""What the audit calls equal and different, what it reads again, and how it reports."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clickhouse import ClickHouse
from contracts.windows import window_lengths
from tests import oracle
from tools.audit import app
from tools.audit.app import COLUMNS, SHOWN, Result, add_difference, compare, print_result
from tools.audit.store import Grid, grids, windows
from tools.audit.transform import (
    Difference,
    Entry,
    Key,
    Sets,
    differences,
    differing,
    published,
    ranked,
)
from tools.options import instant
from tools.table import Rows

WINDOW = 1771495200
CITY = Key("1h", "city", WINDOW, "")


def entries(*totals: str) -> tuple[Entry, ...]:
    """The ranks of a set with these totals."""
    return tuple(Entry(n, f"name {n}", Decimal(total), n) for n, total in enumerate(totals, 1))


KEYS = st.builds(
    Key,
    st.sampled_from(["1h", "1d"]),
    st.sampled_from(["city", "salesman"]),
    st.sampled_from([WINDOW, WINDOW + 3600]),
    st.sampled_from(["", "BR"]),
)
ENTRIES = st.builds(
    Entry,
    st.integers(1, 10),
    st.sampled_from(["Recife", "São Paulo", "Z"]),
    st.decimals(min_value=0, max_value=10**16, places=2),
    st.integers(1, 3),
)
SETS = st.dictionaries(KEYS, st.lists(ENTRIES, max_size=4).map(lambda entries: tuple(sorted(entries))), max_size=4)


@given(SETS, SETS)
def test_a_set_differs_exactly_when_a_figure_does(served: Sets, recomputed: Sets) -> None:
    """Sets are equal where no figure of theirs differs, and a set that is not equal has a figure that says so."""
    unequal = differing(served, recomputed)
    assert {each.key for each in differences(served, recomputed, {*served, *recomputed})} == unequal
    assert all(served.get(key, ()) != recomputed.get(key, ()) for key in unequal)


@given(SETS)
def test_a_copy_is_equal(sets: Sets) -> None:
    """Nothing differs from itself, nor from itself without its empty sets."""
    assert not differing(sets, {key: ranks for key, ranks in sets.items() if ranks})


@given(SETS, SETS)
def test_the_other_way_round(left: Sets, right: Sets) -> None:
    """Exchanging the sides exchanges the figures and turns the deltas."""
    there = differences(left, right, differing(left, right))
    back = differences(right, left, differing(right, left))
    assert {(f.key, f.name, f.figure, f.served, f.recomputed) for f in there} == {
        (f.key, f.name, f.figure, f.recomputed, f.served) for f in back
    }
    assert all(f.delta == f.served - f.recomputed for f in there if f.served is not None and f.recomputed is not None)


def test_a_cent_is_a_difference() -> None:
    """A total that is a cent too high is one difference of one figure, with its delta."""
    different = differences({CITY: entries("9999999999999999.99")}, {CITY: entries("9999999999999999.98")}, {CITY})
    assert [(f.name, f.figure, f.delta) for f in different] == [("name 1", "total", Decimal("0.01"))]


def test_exchanged_ranks() -> None:
    """Two names in the wrong order differ in their ranks alone."""
    first, second = entries("5.00", "5.00")
    wrong = (first._replace(rank=2), second._replace(rank=1))
    different = differences({CITY: wrong}, {CITY: (first, second)}, {CITY})
    assert [(f.name, f.figure, f.delta) for f in different] == [("name 1", "rank", 1), ("name 2", "rank", -1)]


def test_a_window_that_is_not_served() -> None:
    """Sales whose window is not served are differences without a served side, and without a delta."""
    different = differences({}, {CITY: entries("5.00")}, differing({}, {CITY: entries("5.00")}))
    assert [(f.figure, f.served, f.recomputed, f.delta) for f in different] == [
        ("total", None, Decimal("5.00"), None),
        ("count", None, 1, None),
        ("rank", None, 1, None),
    ]


def test_a_window_whose_sales_are_gone() -> None:
    """A window without sales is equal when it is served as empty, and differs when it is served as it was."""
    blank = published("1h", "city", [(WINDOW, "", n, "", Decimal(0), 0) for n in range(1, 11)])
    assert blank == {CITY: ()}
    assert not differing(blank, {})
    assert differing({CITY: entries("5.00")}, {}) == {CITY}


def test_a_name_served_twice() -> None:
    """A name that is served twice is a difference although its figures are right."""
    first = entries("5.00")[0]
    different = differences({CITY: (first, first._replace(rank=2))}, {CITY: (first,)}, {CITY})
    assert {(f.name, f.figure, f.served) for f in different} >= {("name 1", "rank", 2)}


def test_served_rows_in_any_order() -> None:
    """The rows of a set may come in any order; ranks are what is written, and blank rows are none."""
    rows = [
        (WINDOW, "", 2, "b", Decimal(1), 1),
        (WINDOW, "", 3, "", Decimal(0), 0),
        (WINDOW, "", 1, "a", Decimal(2), 1),
    ]
    assert [(e.rank, e.name) for e in published("1h", "city", rows)[CITY]] == [(1, "a"), (2, "b")]


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnopqr"), st.integers(1, 300)), max_size=60))
def test_ranks_are_the_oracles(sold: Sequence[tuple[str, int]]) -> None:
    """Totals in the order in which the store gives them have the ranks that the batch oracle gives them."""
    start = datetime.fromtimestamp(WINDOW, UTC)
    sales = [
        {"source": "files", "sale_id": n, "version": 1, "deleted": False, "event_time": start, "country": "BR"}
        | {"city": city, "salesman_name": city, "product": city, "amount": Decimal(cents) / 100}
        for n, (city, cents) in enumerate(sold)
    ]
    totals = {city: [Decimal(cents) / 100 for name, cents in sold if name == city] for city, _ in sold}
    rows = sorted(
        ((WINDOW, "", name, sum(all_), len(all_)) for name, all_ in totals.items()), key=lambda r: (-r[3], r[2])
    )
    want = oracle.expected(sales).get(oracle.SetKey("city", "", start), ())
    assert [tuple(entry) for entry in ranked("1h", "city", rows[:10]).get(CITY, ())] == [
        (entry.rank, entry.name, entry.total, entry.count) for entry in want
    ]


@pytest.mark.parametrize(
    ("length", "start", "end", "first", "last"),
    [
        ("1h", "2026-02-19T10:00:00Z", "2026-02-19T12:00:00Z", "2026-02-19T10:00:00Z", "2026-02-19T12:00:00Z"),
        ("1h", "2026-02-19T10:59:59Z", "2026-02-19T11:00:01Z", "2026-02-19T10:00:00Z", "2026-02-19T12:00:00Z"),
        ("1d", "2026-02-19T10:00:00Z", "2026-02-19T12:00:00Z", "2026-02-19T00:00:00Z", "2026-02-20T00:00:00Z"),
        (
            "1d@America/Sao_Paulo",
            *("2026-02-19T02:59:59Z", "2026-02-19T03:00:01Z"),
            *("2026-02-18T03:00:00Z", "2026-02-20T03:00:00Z"),
        ),
    ],
)
async def test_a_period_is_widened_to_whole_windows(length: str, start: str, end: str, first: str, last: str) -> None:
    """Every window that overlaps the period is looked for, from its start to its end."""
    queries: list[dict[str, int]] = []

    class Store:
        async def select(self, _: str, values: dict[str, int]) -> list[tuple[int]]:
            queries.append(values)
            return [(values["start"],), (values["end"] - 900,), (values["start"],)]

    (grid,) = grids(window_lengths(length)).values()
    indexes = await windows(cast(ClickHouse, Store()), grid, instant(start) // 1000, instant(end) // 1000)
    assert queries == [{"start": instant(first) // 1000, "end": instant(last) // 1000}]
    assert indexes == sorted(set(indexes))
    assert grid.bounds(indexes[0])[0] * 1000 == instant(first)
    assert grid.bounds(indexes[-1])[1] * 1000 == instant(last)


class Readings:
    """A store whose sides are what the test says at each reading; the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *readings: tuple[Sets, Sets], windows: Sequence[int]) -> None:
        self.left = list(readings)
        self.pages: list[Sequence[int]] = []
        self.notes: list[str] = []
        self.reported: list[Difference] = []
        self._windows = windows
        monkeypatch.setattr(app, "windows", self._of)
        monkeypatch.setattr(app, "both_sides", self._read)
        monkeypatch.setattr(app, "READ_AGAIN_S", 0.001)

    async def _of(self, *_: Any) -> list[int]:
        return list(self._windows)

    async def _read(self, _: Any, grid: Grid, page: Sequence[int]) -> tuple[Sets, Sets]:
        self.pages.append(page)
        sides = self.left.pop(0) if len(self.left) > 1 else self.left[0]

        def on_page(key: Key) -> bool:
            return key.length == grid.length.label and key.window // grid.length.seconds in page

        served, recomputed = ({k: v for k, v in side.items() if on_page(k)} for side in sides)
        return served, recomputed

    async def audit(self, settle_s: float, length: str = "1h") -> Result:
        """Run the audit over the readings."""
        store, of = cast(ClickHouse, None), tuple(grids(window_lengths(length)).values())
        return await compare(store, of, 0, 1, settle_s=settle_s, report=self.reported.append, inform=self.notes.append)


HOUR = WINDOW // 3600


async def test_equal_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything is equal, each hour is read once, in pages, and nothing is said."""
    sets = {CITY._replace(window=hour * 3600): entries("5.00", "4.00") for hour in range(400)}
    readings = Readings(monkeypatch, (sets, sets), windows=range(400))
    assert await readings.audit(10) == Result(400, 800, 0, 0, 0)
    assert [len(page) for page in readings.pages] == [168, 168, 64]
    assert not readings.notes


@pytest.mark.parametrize(("length", "pages"), [("1d", [7, 7, 6]), ("15m", [20]), ("1h", [20])])
async def test_a_page_is_at_most_a_week_of_sales(
    monkeypatch: pytest.MonkeyPatch, length: str, pages: list[int]
) -> None:
    """However long the windows are, a page holds no more than a week of them."""
    readings = Readings(monkeypatch, ({}, {}), windows=range(20))
    assert await readings.audit(10, length) == Result(0, 0, 0, 0, 0)
    assert [len(page) for page in readings.pages] == pages


async def test_a_ranking_that_trails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that differs at first and agrees when it is read again is equal; only its hour is read again."""
    other = {CITY._replace(window=WINDOW + 3600): entries("1.00")}
    behind, right = {CITY: entries("4.00")} | other, {CITY: entries("5.00")} | other
    readings = Readings(monkeypatch, (behind, right), (behind, right), (right, right), windows=[HOUR, HOUR + 1])
    assert await readings.audit(10) == Result(2, 2, 0, 0, 1)
    assert readings.pages == [[HOUR, HOUR + 1], [HOUR], [HOUR]]
    assert len(readings.notes) == 1
    assert not readings.reported


async def test_lengths_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour and a day that start together are two windows, each compared with its own sets."""
    midnight = WINDOW // 86_400 * 86_400
    hour, day = CITY._replace(window=midnight), CITY._replace(window=midnight, length="1d")
    right = {hour: entries("1.00"), day: entries("2.00", "1.00")}
    wrong = right | {day: entries("2.00")}
    readings = Readings(monkeypatch, (wrong, right), windows=[midnight // 3600])

    async def of(_: Any, grid: Grid, *__: Any) -> list[int]:
        return [grid.length.index(midnight)]

    monkeypatch.setattr(app, "windows", of)
    assert await readings.audit(0, "1h,1d") == Result(1, 1, 1, 0, 0)
    assert {f.key for f in readings.reported} == {day}
    assert readings.pages == [[midnight // 3600], [midnight // 86_400], [midnight // 86_400]]


async def test_a_difference_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference that is still there at the deadline is reported once, and does not count as changing."""
    readings = Readings(monkeypatch, ({CITY: entries("4.00")}, {CITY: entries("5.00")}), windows=[HOUR])
    assert await readings.audit(0.02) == Result(0, 0, 1, 0, 0)
    assert [(f.figure, f.served, f.recomputed) for f in readings.reported] == [
        ("total", Decimal("4.00"), Decimal("5.00"))
    ]


async def test_a_set_that_keeps_changing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that differs at every reading, but not always in the same way, is said to be changing."""
    first, then = {CITY: entries("4.00")}, {CITY: entries("5.00")}
    readings = Readings(monkeypatch, (first, then), (then, {CITY: entries("6.00")}), windows=[HOUR])
    assert await readings.audit(0) == Result(0, 0, 1, 1, 0)
    assert [f.served for f in readings.reported] == [Decimal("5.00")]


PLANTED = Difference(CITY, "São [Paulo]", "total", Decimal("9999999999999999.99"), Decimal("9999999999999999.98"))
MISSING = Difference(CITY, "Recife", "rank", None, 3)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """People get a table of the differences, exact and with a signed delta, and a line with the outcome."""
    rows = Rows(*COLUMNS, as_json=False)
    for difference in (PLANTED, MISSING):
        add_difference(rows, difference)
    print_result(rows, Result(3, 30, 1, 1, 0))
    lines = capsys.readouterr().out.splitlines()
    figures = ["9999999999999999.99", "9999999999999999.98", "+0.01"]
    assert lines[1].split() == ["1h", "city", "2026-02-19T10:00:00Z", "São", "[Paulo]", "total", *figures]
    assert lines[2].split() == ["1h", "city", "2026-02-19T10:00:00Z", "Recife", "rank", "-", "3", "-"]
    assert lines[3] == "1 sets differ; 3 windows, 30 entries equal"
    assert "--settle" in lines[4]


def test_the_table_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A table of very many differences is cut, and the line has how many more there are."""
    rows = Rows(*COLUMNS, as_json=False, limit=SHOWN)
    for _ in range(SHOWN + 7):
        add_difference(rows, MISSING)
    print_result(rows, Result(0, 0, 1, 0, 0))
    out = capsys.readouterr().out
    assert out.count("Recife") == SHOWN
    assert "7 more differences: --json shows all" in out


def test_equal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Where everything is equal there is one line."""
    print_result(Rows(*COLUMNS, as_json=False), Result(3, 30, 0, 0, 0))
    assert capsys.readouterr().out == "3 windows, 30 entries equal\n"


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Machines get one JSON object per difference with exact numbers, and at last the outcome."""
    rows = Rows(*COLUMNS, as_json=True)
    add_difference(rows, PLANTED)
    add_difference(rows, MISSING)
    print_result(rows, Result(3, 30, 1, 0, 0))
    first, second, outcome = (json.loads(line, parse_float=Decimal) for line in capsys.readouterr().out.splitlines())
    assert first == {
        "length": "1h",
        "ranking": "city",
        "window": "2026-02-19T10:00:00Z",
        "country": "",
        "name": "São [Paulo]",
        "figure": "total",
        "served": Decimal("9999999999999999.99"),
        "recomputed": Decimal("9999999999999999.98"),
        "delta": Decimal("0.01"),
    }
    assert (second["served"], second["recomputed"], second["delta"]) == (None, 3, None)
    assert outcome == {"windows": 3, "entries": 30, "differing": 1, "changing": 0, "settled": 0}
