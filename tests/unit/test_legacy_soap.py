"""The legacy system's book of sales, and what its service rejects before it reads it."""

import gzip
import random
from itertools import islice
from pathlib import Path

import pytest

from services.legacy_soap.book import Book, BookedSale
from services.legacy_soap.transform import RejectedError, has_dtd, made_up, message_of


def booked(sale_id: str | None, amount: str = "1.00") -> BookedSale:
    """A sale for the book."""
    return BookedSale(sale_id, "Ana", "Recife", "BR", amount, "SSD", 5)


class Clock:
    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        """Milliseconds since 1970, as the test sets them."""
        return self.now


def book(path: Path, clock: Clock, keep: int = 100) -> Book:
    """A book under `path`."""
    return Book(path / "data" / "sales.sqlite", keep, clock)


def test_gives_what_was_recorded_since(tmp_path: Path) -> None:
    """A sale recorded at that time or later is given, with its values as they were."""
    clock = Clock()
    sales = book(tmp_path, clock)
    sales.record([booked("a", "-1.500")])
    clock.now = 2000
    sales.record([booked("b")])
    assert sales.since(0) == [booked("a", "-1.500"), booked("b")]
    assert sales.since(2000) == [booked("b")]
    assert sales.since(2001) == []


@pytest.mark.parametrize("timestamp", [-1, -(10**30), 10**30])
def test_any_timestamp_is_answered(tmp_path: Path, timestamp: int) -> None:
    """A time beyond 64 bits is before or after everything."""
    sales = book(tmp_path, Clock())
    sales.record([booked("a")])
    assert len(sales.since(timestamp)) == (1 if timestamp < 0 else 0)


def test_a_known_sale_is_replaced_and_recorded_again(tmp_path: Path) -> None:
    """A sale of a known id is the newest version of it, recorded now; sales without an id are all kept."""
    clock = Clock()
    sales = book(tmp_path, clock)
    sales.record([booked("a"), booked(None), booked(None)])
    clock.now = 2000
    sales.record([booked("a", "2.00")])
    assert sales.since(2000) == [booked("a", "2.00")]
    assert sales.size() == 3


def test_a_clock_that_goes_back_hides_nothing(tmp_path: Path) -> None:
    """A sale recorded after the clock went back still comes after those recorded before, also after a restart."""
    clock = Clock()
    sales = book(tmp_path, clock)
    sales.record([booked("a")])
    sales.close()
    clock.now = 500
    sales = book(tmp_path, clock)
    sales.record([booked("b")])
    assert sales.since(1000) == [booked("a"), booked("b")]


def test_keeps_the_newest(tmp_path: Path) -> None:
    """The book is bounded: the oldest sales leave it."""
    sales = book(tmp_path, Clock(), keep=3)
    sales.record([booked(str(n)) for n in range(5)])
    assert [sale.sale_id for sale in sales.since(0)] == ["2", "3", "4"]


def test_the_same_seed_makes_up_the_same_sales() -> None:
    """Two generators of one seed make up equal sales; another seed makes up others."""
    first, second, other = (list(islice(made_up(random.Random(seed), "r"), 20)) for seed in (1, 1, 2))
    assert first == second
    assert first != other
    assert len({sale.sale_id for sale in first}) == 20


@pytest.mark.parametrize(
    ("body", "coding", "content_type", "status"),
    [
        (b"", "", "", 400),
        (b" \n", "", "text/xml", 400),
        (gzip.compress(b"<a/>", mtime=0), "gzip", "text/xml", 415),
        (gzip.compress(b"<a/>", mtime=0), "", "text/xml; charset=utf-8", 400),
        ("<a>é</a>".encode("latin-1"), "", "text/xml; charset=utf-8", 400),
        (b"<a/>", "", "text/xml; charset=klingon", 400),
        (b"<a/>", "", "text/xml; charset=rot13", 400),
        (b"<!DOCTYPE a><a/>", "", "text/xml", 400),
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><a/>'.encode("utf-16"), "", "text/xml", 400),
    ],
)
def test_requests_that_are_no_message(body: bytes, coding: str, content_type: str, status: int) -> None:
    """An empty, packed or wrongly declared request is rejected with a status and a reason."""
    with pytest.raises(RejectedError) as rejected:
        message_of(body, coding, content_type)
    assert rejected.value.status == status
    assert str(rejected.value)


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [("utf-8", ""), ("utf-16", "text/xml"), ("latin-1", "text/xml; charset=iso-8859-1"), ("utf-8-sig", "text/xml")],
)
def test_a_message_in_its_encoding(encoding: str, content_type: str) -> None:
    """A message reaches the SOAP layer in UTF-8, whatever its encoding was."""
    assert message_of("<a>é</a>".encode(encoding), "", content_type) == "<a>é</a>".encode()
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?><a>é</a>'.encode(encoding)
    assert message_of(declared, "identity", "text/xml") == "<a>é</a>".encode()


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b"<a/>", False),
        (b"", False),
        (b"<a>&lt;!DOCTYPE&gt;</a>", False),
        (b"<a", False),
        (b"<!DOCTYPE a><a/>", True),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', True),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', True),
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><a/>'.encode("utf-16"), True),
        (b"<!DOCTYPE a><a", True),
    ],
)
def test_document_types_are_rejected(body: bytes, rejected: bool) -> None:
    """A document type declaration is found in any encoding; a document without one passes."""
    assert has_dtd(body) is rejected
