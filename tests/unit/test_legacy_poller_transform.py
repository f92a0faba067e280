"""Rules of the legacy poller: from when it reads, what is new, and sales as records."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from chassis.results import Rejected
from services.legacy_poller.transform import (
    MAX_SEEN,
    Cursor,
    Item,
    after,
    cursor,
    fetch_time,
    item,
    news,
    since,
)

NS = "urn:placar:sales"
MINUTE = 60_000


def element(**values: str) -> etree._Element:
    """A Sale element with these children."""
    sale = etree.Element(f"{{{NS}}}Sale")
    for name, text in values.items():
        etree.SubElement(sale, f"{{{NS}}}{name}").text = text
    return sale


def sale(sale_id: str, amount: str = "1.00") -> Item:
    """An item with an id and an amount."""
    return item(element(saleId=sale_id, amount=amount), 7)


def test_values_pass_as_they_are() -> None:
    """Texts, a negative amount and trailing zeros travel exactly; what is absent is null."""
    one = item(element(saleId="L1", salesmanName=" José ", amount=" -10.500 ", saleDate="5"), 99)
    assert one.outcome == {
        "sale_id": "L1",
        "salesman_name": " José ",
        "city": None,
        "country": None,
        "amount": "-10.500",
        "product": None,
        "sale_date": 5,
        "fetched_at": 99,
    }


@pytest.mark.parametrize("amount", ["abc", "NaN", "1e5", "9" * 60])
def test_an_amount_that_is_no_decimal_passes_as_its_text(amount: str) -> None:
    """The poller does not judge amounts: the stream says what is wrong with one."""
    one = sale("L1", amount)
    assert not isinstance(one.outcome, Rejected)
    assert one.outcome["amount"] == amount


@pytest.mark.parametrize("date", ["", "yesterday", "1.5", "9" * 19, "٣"])
def test_a_date_that_the_contract_cannot_carry_is_rejected(date: str) -> None:
    """A saleDate that is no 64-bit number is a dead letter with the sale's own XML."""
    one = item(element(saleId="L1", saleDate=date or " "), 1)
    assert isinstance(one.outcome, Rejected)
    assert one.outcome.reason == "legacy_malformed"
    assert b"saleDate" in one.content


def test_a_sale_that_is_not_well_formed_is_rejected_once() -> None:
    """The bytes of a malformed sale are a dead letter, and no news when the next answer repeats them."""
    bad = b"<Sale><saleId>A & B</saleId></Sale>"
    one = item(bad, 1)
    assert (one.sale_id, one.content) == (None, bad)
    assert isinstance(one.outcome, Rejected)
    assert one.outcome.reason == "legacy_malformed"
    assert news([item(bad, 2)], after(Cursor(), [one], 1, 1).seen) == []
    assert len(item(b"<Sale>" + b"x" * 500_000, 1).content) <= 64 * 1024


def test_an_oversized_sale_is_rejected() -> None:
    """A sale that would not fit into a record is a dead letter of bounded size."""
    one = item(element(saleId="L1", product="x" * 500_000), 1)
    assert isinstance(one.outcome, Rejected)
    assert len(one.content) <= 64 * 1024


def test_asks_from_the_last_call_less_the_overlap() -> None:
    """The first call asks for everything, later ones from the last success less the overlap."""
    assert since(Cursor(), 100 * MINUTE, 5 * MINUTE) == 0
    assert since(Cursor(called_at=90 * MINUTE), 100 * MINUTE, 5 * MINUTE) == 85 * MINUTE


def test_a_clock_that_went_back_asks_from_now() -> None:
    """When the last call was later than now, the clock went back: the overlap counts from now."""
    assert since(Cursor(called_at=500 * MINUTE), 100 * MINUTE, 5 * MINUTE) == 95 * MINUTE


@given(st.lists(st.integers(0, 10**13), min_size=2))
def test_versions_only_grow(clock: list[int]) -> None:
    """Each call's version is above that of the call before, whatever the clock does."""
    last = Cursor()
    for now in clock:
        version = fetch_time(last, now)
        assert version > last.fetched_at
        last = after(last, [], now, version)


def test_what_was_published_is_not_news() -> None:
    """A sale that an answer repeats unchanged is not published again; a changed one is."""
    first = [sale("L1"), sale("L2")]
    known = after(Cursor(), first, 1, 1)
    again = [sale("L1"), sale("L2", "2.00"), sale("L3")]
    assert [item.sale_id for item in news(again, known.seen)] == ["L2", "L3"]


def test_a_sale_changed_back_is_news() -> None:
    """A sale that is changed and then changed back is published both times."""
    known = after(Cursor(), [sale("L1", "1.00")], 1, 1)
    known = after(known, [sale("L1", "2.00")], 2, 2)
    assert [item.sale_id for item in news([sale("L1", "1.00")], known.seen)] == ["L1"]


def test_the_last_of_one_sale_in_an_answer_counts() -> None:
    """An answer that holds an old and a new state of a sale means the later one, also when that was published."""
    answer = [sale("L1", "1.00"), sale("L1", "2.00")]
    assert [item.outcome["amount"] for item in news(answer, {}) if not isinstance(item.outcome, Rejected)] == ["2.00"]
    assert news(answer, after(Cursor(), answer, 1, 1).seen) == []


def test_sales_without_an_id_stand_for_themselves() -> None:
    """Different sales without an id are all published, each once."""
    answer = [item(element(amount="1"), 1), item(element(amount="2"), 1)]
    assert len(news(answer, {})) == 2
    assert news(answer, after(Cursor(), answer, 1, 1).seen) == []


answers = st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("12")), max_size=5), max_size=6)


@given(answers)
def test_published_in_order_gives_what_the_service_said_last(calls: list[list[tuple[str, str]]]) -> None:
    """Whatever is repeated, changed or changed back: the last published state of a sale is the last one answered."""
    state: dict[str, str] = {}
    published: dict[str, str] = {}
    known = Cursor()
    for number, answer in enumerate(calls):
        items = [sale(sale_id, amount) for sale_id, amount in answer]
        for new in news(items, known.seen):
            assert not isinstance(new.outcome, Rejected)
            published[new.outcome["sale_id"]] = new.outcome["amount"]
        known = after(known, items, number, number)
        state.update(answer)
    assert published == state


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.dictionaries(*[st.binary(min_size=8, max_size=8)] * 2))
def test_a_cursor_survives_the_progress_topic(called_at: int, fetched_at: int, seen: dict[bytes, bytes]) -> None:
    """What is written as a position is read back as it was."""
    before = Cursor(called_at, fetched_at, seen)
    assert cursor(before.position()) == before


@pytest.mark.parametrize(
    "position",
    [
        None,
        {},
        {"called_at": "x", "fetched_at": 1, "seen": ""},
        {"called_at": 1, "fetched_at": 1, "seen": "!"},
        {"called_at": 1, "fetched_at": 1, "seen": base64.b64encode(b"12345678").decode()},
    ],
)
def test_a_strange_position_is_the_beginning(position: dict[str, object] | None) -> None:
    """A position that cannot be read means asking for everything again."""
    assert cursor(position) == Cursor()


def test_the_position_fits_into_a_record() -> None:
    """However many sales an answer holds, the newest of them are remembered in less than a record may hold."""
    many = [Item(None, n.to_bytes(8, "big"), {}, n.to_bytes(8, "big"), b"") for n in range(MAX_SEEN + 10)]
    known = after(Cursor(), many, 1, 1)
    assert len(str(known.position()["seen"])) < 1_000_000
    assert news(many[10:], known.seen) == []
