"""Rules of the file poller: versions, what is read again, and what is rejected with which reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.results import Rejected
from services.file_poller.splitter import Raw
from services.file_poller.transform import (
    HEADER,
    Found,
    Reading,
    etag_value,
    next_reading,
    parse,
    pending,
    reading,
    rejected_header,
    rejected_start,
)

FOUND = Found("a.csv", '"e1"', 1_700_000_000_500, 10)


def test_a_new_file_has_the_second_of_its_upload_as_version() -> None:
    """A file that was never read starts at its beginning with last_modified in seconds as its version."""
    assert next_reading(FOUND, None) == Reading('"e1"', 1_700_000_000_500, 1_700_000_000)


def test_a_read_file_is_not_read_again() -> None:
    """The same upload is read once."""
    assert next_reading(FOUND, Reading('"e1"', FOUND.last_modified, 1, 10, 1, done=True)) is None


def test_a_half_read_file_goes_on_where_it_stopped() -> None:
    """The same upload continues at its offset and row, under the same version."""
    half = Reading('"e1"', FOUND.last_modified, 7, offset=5, rows=2)
    assert next_reading(FOUND, half) == half


@given(uploads=st.lists(st.tuples(st.integers(-(10**12), 10**13), st.text("ab", max_size=2)), min_size=2, max_size=8))
def test_versions_of_uploads_only_grow(uploads: list[tuple[int, str]]) -> None:
    """Each upload that differs from the one before has a higher version, whatever the store's clock says."""
    known: Reading | None = None
    for last_modified, etag in uploads:
        before = known
        known = next_reading(Found("a.csv", etag, last_modified, 1), before) or before
        assert known is not None
        if before is not None and (before.etag, before.last_modified) != (etag, last_modified):
            assert known.object_version > before.object_version
            assert (known.offset, known.rows, known.done) == (0, 0, False)


def test_only_csv_files_oldest_first() -> None:
    """What is no CSV file is left alone; of the others the oldest upload comes first."""
    objects = [
        Found("new.CSV", "1", 300, 1),
        Found("notes.txt", "2", 100, 1),
        Found("old.csv", "3", 200, 1),
        Found("read.csv", "4", 50, 1),
    ]
    known = {"read.csv": Reading("4", 50, 0, done=True)}
    assert [found.key for found, _ in pending(objects, known)] == ["old.csv", "new.CSV"]


@given(st.builds(Reading, st.text(), *[st.integers(0, 2**60)] * 4, st.booleans()))
def test_a_reading_survives_the_progress_topic(before: Reading) -> None:
    """What is written as a position is read back as it was."""
    assert reading(before.position()) == before


@pytest.mark.parametrize("position", [{}, {"etag": 1}, {**Reading("e", 1, 1).position(), "offset": -1}])
def test_a_strange_position_is_no_reading(position: dict[str, object]) -> None:
    """A position of another shape is as none: the file is read from its beginning."""
    assert reading(position) is None


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "file_empty"),
        (b"\xef\xbb\xbfsale_id", "file_bom"),
        ("sale_id".encode("utf-16"), "file_encoding"),
        (b"sale_id", None),
    ],
)
def test_files_rejected_by_their_first_bytes(head: bytes, reason: str | None) -> None:
    """An empty file and a byte order mark are rejected as files."""
    rejection = rejected_start(head)
    assert (rejection.reason if rejection else None) == reason


@pytest.mark.parametrize(
    ("line", "reason", "said"),
    [
        (HEADER.encode(), None, ""),
        (b'"sale_id",salesman_name,city,country,amount,product,sale_date', None, ""),
        (HEADER.replace(",", ";").encode(), "file_header", "separator is ';'"),
        (HEADER.replace(",", "\t").encode(), "file_header", "separator is '\\t'"),
        (b"id,name", "file_header", f"found 'id,name', expected {HEADER}"),
        (HEADER.upper().encode(), "file_header", "SALE_ID"),
        (b"sale_id,\xff", "file_encoding", "byte 8"),
    ],
)
def test_headers(line: bytes, reason: str | None, said: str) -> None:
    """The agreed header passes; another is rejected with what was found, what was expected and a wrong separator."""
    rejection = rejected_header(Raw(line, len(line)))
    assert (rejection.reason if rejection else None) == reason
    assert said in (rejection.detail if rejection else "")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (Raw(b"1,2,3,4,5,6", 0), "row_ragged"),
        (Raw(b"1,2,3,4,5,6,7,8", 0), "row_ragged"),
        (Raw(b"1,2,3,4,5,6,a\rb", 0), "row_ragged"),
        (Raw(b'1,"2', 0, "unclosed"), "row_ragged"),
        (Raw(b"1,Jos\xe9,3,4,5,6,7", 0), "file_encoding"),
        (Raw(b"x", 0, "long"), "row_too_long"),
    ],
)
def test_rejected_rows(raw: Raw, reason: str) -> None:
    """A row that is no row of seven UTF-8 columns is rejected with its reason."""
    rejection = parse(raw)
    assert isinstance(rejection, Rejected)
    assert rejection.reason == reason


def test_columns_pass_as_they_are() -> None:
    """The poller judges no value: blanks and words where a number belongs pass as they were written."""
    assert parse(Raw(b'S1," A ",,BR,abc,"x,""y""",', 0)) == ["S1", " A ", "", "BR", "abc", 'x,"y"', ""]


def test_long_columns_pass() -> None:
    """A quoted column longer than the csv module's own limit passes."""
    wide = "x" * 500_000
    assert parse(Raw(f'1,"{wide}",3,4,5,6,7'.encode(), 0)) == ["1", wide, "3", "4", "5", "6", "7"]


@pytest.mark.parametrize(("etag", "value"), [("abc", '"abc"'), ('"abc"', '"abc"'), ('W/"abc"', 'W/"abc"')])
def test_entity_tags_are_quoted(etag: str, value: str) -> None:
    """If-Match gets a quoted entity tag, whether or not the store quotes it in its listing."""
    assert etag_value(etag) == value
