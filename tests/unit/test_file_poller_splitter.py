"""Cutting bytes into CSV records: right for every file and every chunking, in bounded memory."""

import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.file_poller.splitter import KEPT_BYTES, MAX_ROW_BYTES, Raw, Splitter
from services.file_poller.transform import columns

LIMIT = 200


def cut(data: bytes, chunk: int, limit: int = MAX_ROW_BYTES, offset: int = 0) -> list[Raw]:
    """The records of `data`, fed in chunks."""
    splitter = Splitter(offset, limit)
    records: list[Raw] = []
    for at in range(0, len(data), chunk):
        records += splitter.feed(data[at : at + chunk])
    return records + list(splitter.finish())


rows = st.lists(
    st.lists(st.text(st.sampled_from('ab",;\né '), max_size=8), min_size=2, max_size=4), min_size=1, max_size=12
)
chunks = st.integers(1, 40)


def written(table: list[list[str]], ending: str) -> bytes:
    """What a CSV writer makes of the table."""
    text = io.StringIO()
    csv.writer(text, lineterminator=ending).writerows(table)
    return text.getvalue().encode()


@given(table=rows, chunk=chunks, ending=st.sampled_from(["\n", "\r\n"]), cut_last=st.booleans())
def test_reads_what_a_csv_writer_wrote(table: list[list[str]], chunk: int, ending: str, cut_last: bool) -> None:
    """Whatever fields a CSV writer quotes, and however the bytes arrive, the same rows come out."""
    data = written(table, ending)
    data = data.removesuffix(ending.encode()) if cut_last else data
    records = cut(data, chunk)
    assert [record.fault for record in records] == [""] * len(table)
    assert [columns(record.content.decode()) for record in records] == table


anything = st.binary(max_size=300) | st.text(st.sampled_from('a",\n\r'), max_size=300).map(str.encode)


@given(data=anything, chunk=chunks, other=chunks)
def test_chunks_do_not_matter(data: bytes, chunk: int, other: int) -> None:
    """The same bytes give the same records however they are cut into chunks, also malformed ones."""
    assert cut(data, chunk) == cut(data, other)


@given(data=anything, chunk=chunks)
def test_nothing_is_dropped(data: bytes, chunk: int) -> None:
    """Every byte that is no line ending is in exactly one record, in order."""
    content = b"".join(record.content for record in cut(data, chunk))
    assert content.replace(b"\n", b"").replace(b"\r", b"") == data.replace(b"\n", b"").replace(b"\r", b"")


@given(table=rows, chunk=chunks, data=st.data())
def test_resumes_at_the_end_of_any_record(table: list[list[str]], chunk: int, data: st.DataObject) -> None:
    """Reading from the end of a record gives exactly the records after it."""
    file = written(table, "\n")
    records = cut(file, chunk)
    at = data.draw(st.integers(0, len(records) - 1))
    end = records[at].end
    assert cut(file[end:], chunk, offset=end) == records[at + 1 :]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_an_overlong_line_is_one_record(chunk: int) -> None:
    """A line above the limit is rejected once with its head, and the lines after it are read."""
    records = cut(b"a\n" + b"x" * 1000 + b"\nb\n", chunk, LIMIT)
    assert [(record.fault, record.end) for record in records] == [("", 2), ("long", 1003), ("", 1005)]
    assert set(records[1].content) == {ord("x")}
    assert len(records[1].content) <= KEPT_BYTES


def test_an_unclosed_quote_costs_one_line() -> None:
    """A quote that is never closed rejects the line that opens it; the rows after it are read."""
    records = cut(b'a,b\nc,"d\ne,f\ng,h\n', 5)
    assert [(r.content, r.fault) for r in records] == [(b"a,b", ""), (b'c,"d', "unclosed"), (b"e,f", ""), (b"g,h", "")]


def test_an_unclosed_quote_in_a_long_file_costs_one_line() -> None:
    """Likewise where the end of the file is further away than a row may be long."""
    records = cut(b'c,"d\n' + b"e,f\n" * 500, 64, LIMIT)
    assert [record.fault for record in records] == ["unclosed", *[""] * 500]


def test_a_hostile_file_takes_bounded_time() -> None:
    """Lines that each close one quote and open another do not make the work grow with the square of the file."""
    begun = time.process_time()
    assert cut(b'x","\n' * 50_000, 65_536, 20_000)
    assert time.process_time() - begun < 20


def test_blank_lines_are_no_records() -> None:
    """Blank lines are passed over."""
    assert [record.content for record in cut(b"\n\r\na\n\n\nb\n\n", 3)] == [b"a", b"b"]
