"""Pure rules of `task trace`: whether a sale is ranked, and in which window it is."""

from decimal import Decimal

import pytest

from contracts.windows import window_lengths
from tools.trace.transform import Entry, instant, made_from, ranked, told_by_bytes, window_of


def entries(*named: tuple[str, str]) -> list[Entry]:
    """A set of ten rows, blank beyond the names."""
    filled = [Entry(rank, name, Decimal(total), 3, 7, "final", 0) for rank, (name, total) in enumerate(named, 1)]
    blank = [Entry(rank, "", Decimal(0), 0, 7, "final", 0) for rank in range(len(named) + 1, 11)]
    return [*filled, *blank]


OWN = (Decimal("5"), 3)


@pytest.mark.parametrize(
    ("served", "deleted", "said"),
    [
        (entries(("Natal", "9"), ("Recife", "5")), False, "city Recife is rank 2: 5.00 of 3 sales"),
        (
            entries(("Recife", "4")),
            False,
            "city Recife is rank 1: 4.00 of 3 sales; the stored sales say 5.00 of 3 sales",
        ),
        (
            entries(("Natal", "9"), ("Belém", "8")),
            False,
            "not ranked: city Recife has 5.00 of 3 sales, rank 2 (Belém) has 8.00",
        ),
        (entries(), False, "not ranked: the ranking of this window is empty; city Recife has 5.00 of 3 sales"),
        ([], False, "not ranked: there is no ranking of this window yet"),
        (entries(("Recife", "5")), True, "not ranked: the sale is deleted"),
    ],
)
def test_a_rank_or_why_there_is_none(served: list[Entry], deleted: bool, said: str) -> None:
    """One sentence for each state of a ranking."""
    assert ranked("city", "Recife", OWN, served, deleted=deleted) == said


def test_the_window_is_that_of_the_lengths_own_clock() -> None:
    """An hour of UTC, and a day of São Paulo's, which begins at three in UTC."""
    hour, day = window_lengths("1h,1d@America/Sao_Paulo")
    at = 1_771_466_400_000  # 2026-02-19T02:00:00Z
    assert window_of(hour, at + 59 * 60_000) == (at, at + 3_600_000)
    assert window_of(day, at) == (at - 23 * 3_600_000, at + 3_600_000)


def test_a_version_of_the_database_is_known_by_its_place_in_the_log() -> None:
    """The epoch above the place is left out; other versions are the record's own."""
    assert made_from("postgres", 3 << 56 | 41, {41: "sales.postgres-0@7"}) == "sales.postgres-0@7"
    assert made_from("files", 41, {41: "sales.files-0@7"}) == "sales.files-0@7"
    assert made_from("legacy", 41, {}) is None


@pytest.mark.parametrize(
    ("source", "key", "value", "told"),
    [
        ("files", b"bucket/a.csv#3", b"S-1,Ana", "S-1"),
        ("files", b"bucket/a.csv#3", b' "S-1" ,Ana', "S-1"),
        ("files", b"bucket/a.csv#3", b"", None),
        ("files", b"bucket/a.csv", None, None),
        ("legacy", b" L-1 ", b"<Sale/>", "L-1"),
        ("legacy", None, b"<Sale/>", None),
        ("legacy", b"\xff", b"<Sale/>", "\ufffd"),
        ("postgres", b"17", b"17", None),
    ],
)
def test_a_letter_without_a_record_tells_its_sale(
    source: str, key: bytes | None, value: bytes | None, told: str | None
) -> None:
    """By the first column of a CSV row, or by the key of a legacy sale; a change of Postgres has another key."""
    assert told_by_bytes(source, key, value) == told


def test_instants_are_iso_8601_with_milliseconds() -> None:
    """A record without a time has a dash."""
    assert [instant(value) for value in (1_771_466_400_007, None, -1)] == ["2026-02-19T02:00:00.007Z", "-", "-"]
