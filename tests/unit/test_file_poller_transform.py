"""Rules of the file poller: versions, what is read again, and what is rejected with which reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.results import Rejected
from chassis.s3_protocol import Object
from services.file_poller.splitter import Raw
from services.file_poller.transform import (
    HEADER,
    Reading,
    next_reading,
    packed_ids,
    parse,
    pending,
    reading,
    rejected_header,
    rejected_start,
    unpacked_ids,
)

LISTED = Object("a.csv", '"e1"', 1_700_000_000_500, 10)


def test_a_new_file_has_the_second_of_its_upload_as_version() -> None:
    """A file that was never read starts at its beginning with last_modified in seconds as its version."""
    assert next_reading(LISTED, None) == Reading('"e1"', 1_700_000_000_500, 1_700_000_000)


def test_a_read_file_is_not_read_again() -> None:
    """The same upload is read once."""
    assert next_reading(LISTED, Reading('"e1"', LISTED.last_modified, 1, 10, 1, done=True)) is None


def test_a_half_read_file_goes_on_where_it_stopped() -> None:
    """The same upload continues at its offset and row, under the same version."""
    half = Reading('"e1"', LISTED.last_modified, 7, offset=5, rows=2)
    assert next_reading(LISTED, half) == half


@given(uploads=st.lists(st.tuples(st.integers(-(10**12), 10**13), st.text("ab", max_size=2)), min_size=2, max_size=8))
def test_versions_of_uploads_only_grow(uploads: list[tuple[int, str]]) -> None:
    """Each upload that differs from the one before has a higher version, whatever the store's clock says."""
    known: Reading | None = None
    for last_modified, etag in uploads:
        before = known
        known = next_reading(Object("a.csv", etag, last_modified, 1), before) or before
        assert known is not None
        if before is not None and (before.etag, before.last_modified if not etag else 0) != (
            etag,
            last_modified if not etag else 0,
        ):
            assert known.object_version > before.object_version
            assert (known.offset, known.rows, known.done) == (0, 0, False)


def test_the_same_bytes_uploaded_again_are_not_read_again() -> None:
    """An upload with the entity tag that was read changes nothing; one that was half read goes on under its version."""
    later = Object("a.csv", LISTED.etag, LISTED.last_modified + 86_400_000, 10)
    assert next_reading(later, Reading(LISTED.etag, LISTED.last_modified, 7, 10, 1, done=True)) is None
    half = Reading(LISTED.etag, LISTED.last_modified, 7, offset=5, rows=2)
    assert next_reading(later, half) == half
    unnamed = Object("a.csv", "", LISTED.last_modified + 1000, 10)  # a store without entity tags
    again = next_reading(unnamed, Reading("", LISTED.last_modified, 7, 10, 1, done=True))
    assert again is not None
    assert again.object_version > 7


def test_only_csv_files_oldest_first() -> None:
    """What is no CSV file is left alone; of the others the oldest upload comes first."""
    objects = [
        Object("new.CSV", "1", 300, 1),
        Object("notes.txt", "2", 100, 1),
        Object("packed.csv.GZ", "5", 250, 1),
        Object("other.csv.zst", "6", 260, 1),
        Object("old.csv", "3", 200, 1),
        Object("read.csv", "4", 50, 1),
    ]
    known = {"read.csv": Reading("4", 50, 0, done=True)}
    assert [listed.key for listed, _ in pending(objects, known)] == ["old.csv", "packed.csv.GZ", "new.CSV"]


@given(st.builds(Reading, st.text(), *[st.integers(0, 2**60)] * 4, st.booleans(), st.text()))
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
    ("line", "reason", "hint"),
    [
        (HEADER.encode(), None, ""),
        (b'"sale_id",salesman_name,city,country,amount,product,sale_date', None, ""),
        (HEADER.replace(",", ";").encode(), "file_header", "separator is ';'"),
        (HEADER.replace(",", "\t").encode(), "file_header", "separator is '\\t'"),
        (b"id,name", "file_header", f"found 'id,name', expected {HEADER}"),
        (HEADER.upper().encode(), "file_header", "SALE_ID"),
        (b"sale_id,\xff", "file_encoding", "byte 8"),
        (b"sale_id,\xc3", "file_encoding", "byte 8"),
        (HEADER.encode() + b"\rx-1,A,B,BR,1.00,P,2026-11-14T07:10:00Z\r", "file_header", "carriage return alone"),
        (b'"sale_id"x,' + HEADER.encode(), "file_header", "expected"),
    ],
)
def test_headers(line: bytes, reason: str | None, hint: str) -> None:
    """The agreed header passes; another is rejected with what was found, what was expected and a wrong separator."""
    rejection = rejected_header(Raw(line, len(line)))
    assert (rejection.reason if rejection else None) == reason
    assert hint in (rejection.detail if rejection else "")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (Raw(b"1,2,3,4,5,6", 0), "row_ragged"),
        (Raw(b"1,2,3,4,5,6,7,8", 0), "row_ragged"),
        (Raw(b"1,2,3,4,5,6,a\rb", 0), "row_ragged"),
        (Raw(b'1,"2', 0, "unclosed"), "row_ragged"),
        (Raw(b'1,2,3,4,5,"TV 32" LED",7', 0), "row_ragged"),
        (Raw(b"1,Jos\xe9,3,4,5,6,7", 0), "file_encoding"),
        (Raw(b"x", 0, "long"), "row_too_long"),
    ],
)
def test_rejected_rows(raw: Raw, reason: str) -> None:
    """A row that is no row of seven UTF-8 columns is rejected with its reason."""
    rejection = parse(raw)
    assert isinstance(rejection, Rejected)
    assert rejection.reason == reason


@given(content=st.binary(max_size=80) | st.text(st.sampled_from('a",\r\n\0é'), max_size=40).map(str.encode))
def test_no_content_is_an_error(content: bytes) -> None:
    """Whatever bytes a header or a row holds, it is read or rejected."""
    for fault in ("", "unclosed", "long"):
        raw = Raw(content, len(content), fault)
        assert isinstance(parse(raw), list | Rejected)
        assert rejected_header(raw) is not None
    assert rejected_start(content[:4]) is None or isinstance(rejected_start(content[:4]), Rejected)


@given(ids=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1)))
def test_ids_survive_the_progress_topic(ids: set[str]) -> None:
    """The sale ids of an upload are read back as they were."""
    assert unpacked_ids(packed_ids(ids)) == ids


def test_too_many_ids_are_not_kept() -> None:
    """Ids that would not fit into a record of the progress topic are left out as a whole."""
    assert packed_ids(f"{hash((n, 'x')):x}" for n in range(100_000)) == ""


def test_columns_pass_as_they_are() -> None:
    """The poller judges no value: blanks and words where a number belongs pass as they were written."""
    assert parse(Raw(b'S1," A ",,BR,abc,"x,""y""",', 0)) == ["S1", " A ", "", "BR", "abc", 'x,"y"', ""]


def test_long_columns_pass() -> None:
    """A quoted column longer than the csv module's own limit passes."""
    wide = "x" * 500_000
    assert parse(Raw(f'1,"{wide}",3,4,5,6,7'.encode(), 0)) == ["1", wide, "3", "4", "5", "6", "7"]
