"""The rules of `placar trace`: which records are a sale's, whether it is ranked, and in which window it is."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.sale import normalized
from contracts.windows import window_lengths
from tools.trace.search import matching, text_pattern
from tools.trace.transform import Entry, RawRecord, id_of_bytes, instant, made_from, ranked, window_of


def entries(*named: tuple[str, str]) -> list[Entry]:
    """A set of ten rows, blank beyond the names."""
    filled = [Entry(rank, name, Decimal(total), 3, 7, "final", 0) for rank, (name, total) in enumerate(named, 1)]
    blank = [Entry(rank, "", Decimal(0), 0, 7, "final", 0) for rank in range(len(named) + 1, 11)]
    return [*filled, *blank]


OWN = (Decimal("5"), 3)


@pytest.mark.parametrize(
    ("served", "deleted", "text"),
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
def test_a_rank_or_why_there_is_none(served: list[Entry], deleted: bool, text: str) -> None:
    """One sentence for each state of a ranking."""
    assert ranked("city", "Recife", OWN, served, deleted=deleted) == text


def test_the_window_is_that_of_the_lengths_own_clock() -> None:
    """An hour of UTC, and a day of São Paulo's, which begins at three in UTC."""
    hour, day = window_lengths("1h,1d@America/Sao_Paulo")
    at = 1_771_466_400_000  # 2026-02-19T02:00:00Z
    assert window_of(hour, at + 59 * 60_000) == (at, at + 3_600_000)
    assert window_of(day, at) == (at - 23 * 3_600_000, at + 3_600_000)


def raw(version: int, time: int) -> RawRecord:
    """A raw record, at a position of its own."""
    return RawRecord(f"sales.postgres-0@{time}", time, version, deleted=False, content={})


def test_a_version_of_postgres_is_found_by_its_log_position_under_any_epoch() -> None:
    """After a restore a log position comes again: each version is made from the record of its own time."""
    records = [raw(41, 100), raw(42, 110), raw(41, 200)]
    assert made_from("postgres", 1 << 56 | 41, 101, records) == records[0]
    assert made_from("postgres", 2 << 56 | 41, 201, records) == records[2]
    assert made_from("postgres", 1 << 56 | 41, 99, records) == records[0]  # clocks differ
    assert made_from("postgres", 1 << 56 | 43, 300, records) is None


def test_a_version_of_other_sources_is_the_records_own() -> None:
    """No part of it is left out."""
    assert made_from("files", 1 << 56 | 41, 101, [raw(1 << 56 | 41, 100)]) is not None
    assert made_from("legacy", 1 << 56 | 41, 101, [raw(41, 100)]) is None


@pytest.mark.parametrize(
    ("source", "key", "value", "name"),
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
def test_a_dead_letter_without_a_record_names_its_sale(
    source: str, key: bytes | None, value: bytes | None, name: str | None
) -> None:
    """By the first column of a CSV row, or by the key of a legacy sale; a change of Postgres has another key."""
    assert id_of_bytes(source, key, value) == name


def test_instants_are_iso_8601_with_milliseconds() -> None:
    """A record without a time has a dash."""
    assert [instant(value) for value in (1_771_466_400_007, None, -1)] == ["2026-02-19T02:00:00.007Z", "-", "-"]


@given(st.text(max_size=12), st.text(max_size=3), st.text(max_size=3))
def test_every_text_is_found_by_what_it_is_normalized_to(text: str, before: str, after: str) -> None:
    """Accents apart from what carries them, other white space and invisible characters hide no record."""
    name = normalized(text)
    if name and not {"\u212a", "\u037e", "\u1fef"} & set(text):  # signs whose normal form is ASCII
        assert text_pattern(name).search((before + text + after).encode())


@pytest.mark.parametrize("written", ["A\u200b-1 é", "A-1\u00a0\u2003e\u0301", " A-1   é "])
def test_ways_to_write_an_id(written: str) -> None:
    """Examples of such texts."""
    assert normalized(written) == "A-1 é"
    assert text_pattern("A-1 é").search(written.encode())
    assert not text_pattern("A-1 é").search(written.replace("1", "2").encode())


def batch(base: int, records: int, content: bytes, attributes: int = 0) -> bytes:
    """A record batch as the broker sends it; what stands for its records is `content`."""
    length = 49 - 12 + len(content)
    header = struct.pack(">qiibIhi", base, length, 0, 2, 0, attributes, records - 1)
    return header + b"\0" * (49 - len(header)) + content


def test_batches_are_searched_without_their_records() -> None:
    """Those that contain the bytes or are compressed are named by their offsets; a cut one is left for later."""
    batches = batch(10, 5, b"..S-1..") + batch(15, 1, b"..S-2..") + batch(20, 2, b"zip", attributes=3)
    assert matching(batches, text_pattern("S-1")) == ([(10, 15), (20, 22)], 22)
    assert matching(batches[:-1], text_pattern("S-1")) == ([(10, 15)], 16)
    assert matching(batches[:40], text_pattern("S-1")) == ([], None)
    assert matching(b"", text_pattern("S-1")) == ([], None)
