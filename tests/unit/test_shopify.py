"""Orders of Shopify as unified sales."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.results import Context, Ignored, Output, Rejected
from contracts.versions import MAX_VERSION
from streams.shopify.transform import transform
from tests.webhook_events import NOW, ORDER, SOLD, envelope, order_event

MICROSECOND = timedelta(microseconds=1)


def made(record: dict[str, Any], currency: str = "BRL") -> Output | Rejected | Ignored:
    """What the service makes of the record."""
    return transform(record, Context(NOW, NOW), currency=currency)


def sale(record: dict[str, Any], currency: str = "BRL") -> dict[str, Any]:
    """The sale that the record becomes."""
    result = made(record, currency)
    assert isinstance(result, Output), result
    return dict(result.value)


def rejected(record: dict[str, Any]) -> tuple[str, str]:
    """Reason and detail."""
    result = made(record)
    assert isinstance(result, Rejected), result
    return result.reason, result.detail


def test_an_order_is_a_sale() -> None:
    """Every field of the sale comes from the order: the total as it is now, the channel, the shipping address."""
    value = sale(order_event(at=SOLD + MICROSECOND))
    assert value == {
        "sale_id": "1001",
        "source": "shopify",
        "salesman_name": "web",
        "city": "Recife",
        "country": "BR",
        "amount": Decimal("184.50"),
        "product": "Headset",
        "event_time": SOLD,
        "ingestion_time": NOW - timedelta(seconds=1),
        "version": value["version"],
        "deleted": False,
    }
    assert value["version"] >> 11 == 1771496100000001


@pytest.mark.parametrize(
    "fields",
    [
        {"test": True},
        {"cancelled_at": "2026-02-20T00:00:00Z"},
        {"financial_status": "refunded"},
        {"current_total_price": "0.00"},
        {"current_total_price": "0"},
    ],
    ids=str,
)
def test_what_is_no_sale_any_more_is_a_deletion(fields: dict[str, Any]) -> None:
    """A test order, a cancelled one, one refunded in full and one of no value are deleted, with what is known."""
    value = sale(order_event(**fields))
    assert (value["sale_id"], value["deleted"], value["city"]) == ("1001", True, "Recife")


@pytest.mark.parametrize("status", ["pending", "authorized", "partially_refunded", "voided", "new_status", None])
def test_other_states_of_payment_change_nothing(status: str | None) -> None:
    """An order is a sale whether it is paid or not; what is refunded in part is in its total."""
    assert not sale(order_event(financial_status=status))["deleted"]


@pytest.mark.parametrize(
    ("event_type", "body"),
    [
        ("orders/delete", {"id": 1001}),
        ("orders/cancelled", {"id": 1001, "cancelled_at": "2026-02-20T00:00:00Z"}),
        ("orders/updated", {"id": 1001, "test": True}),
        ("orders/cancelled", {**ORDER, "cancelled_at": "x", "line_items": None, "currency": "XXX"}),
        ("orders/delete", {**ORDER, "shipping_address": {"city": "\x07"}, "created_at": "yesterday"}),
    ],
)
def test_a_deletion_needs_nothing_but_the_id(event_type: str, body: dict[str, Any]) -> None:
    """Whatever else of a deleted, cancelled or test order is missing or wrong, it is deleted."""
    value = sale(envelope("shopify", "shopify.orders", event_type, body, SOLD))
    assert (value["sale_id"], value["deleted"]) == ("1001", True)


def test_of_one_microsecond_the_deletion_wins() -> None:
    """Two events of one moment end the same in either order: gone is above not gone, and a later moment above both."""
    there, gone = sale(order_event()), sale(order_event(cancelled_at="2026-02-20T00:00:00Z"))
    later = sale(order_event(at=SOLD + MICROSECOND))
    assert there["version"] < gone["version"] < later["version"] < MAX_VERSION


def test_a_retry_has_the_version_of_the_first_delivery() -> None:
    """A repeated event has the same version, whenever it is received."""
    again = order_event() | {"received_at": NOW - timedelta(microseconds=1)}
    assert sale(again)["version"] == sale(order_event())["version"]


def test_the_address_is_the_first_that_is_complete() -> None:
    """The shipping address counts where it has city and country, else the billing address."""
    billing = {"city": "Campinas", "country_code": "BR"}
    for shipping in (None, {}, {"city": None, "country_code": "SG"}, {"city": "Natal", "country_code": ""}):
        assert sale(order_event(shipping_address=shipping, billing_address=billing))["city"] == "Campinas"
    assert sale(order_event(billing_address=billing))["city"] == "Recife"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"shipping_address": None}, "shipping_address.city"),
        ({"shipping_address": None, "billing_address": {"city": None}}, "billing_address.city"),
        ({"shipping_address": {"city": "Natal"}}, "shipping_address.country_code"),
        ({"source_name": None}, "source_name"),
        ({"line_items": []}, "line_items[].title"),
        ({"created_at": None}, "created_at"),
        ({"currency": None}, "currency"),
        ({"line_items": [{"title": "a", "price": "1"}]}, "line_items[0].quantity"),
    ],
    ids=str,
)
def test_a_missing_field_is_named_by_its_path(fields: dict[str, Any], field: str) -> None:
    """The dead letter says which field of the order is missing."""
    reason, detail = rejected(order_event(**fields))
    assert reason == "field_missing"
    assert detail.startswith(f"{field} is ")


@pytest.mark.parametrize("name", sorted(set(ORDER) - {"billing_address", "shipping_address", "financial_status"}))
def test_no_field_that_counts_may_vanish(name: str) -> None:
    """An order without a field that decides on its sale is a dead letter that names it."""
    body = {field: value for field, value in ORDER.items() if field != name}
    reason, detail = rejected(envelope("shopify", "shopify.orders", "orders/updated", body, SOLD))
    assert (reason, detail) == ("field_missing", f"{name} is missing")


def test_without_the_time_of_its_trigger_an_event_has_no_version() -> None:
    """Without X-Shopify-Triggered-At the order of events is unknown: a dead letter, also for a deletion."""
    for event in (order_event(at=None), order_event("orders/delete", at=None)):
        reason, detail = rejected(event)
        assert (reason, "X-Shopify-Triggered-At" in detail) == ("field_missing", True)
    assert rejected(order_event(at=NOW + timedelta(hours=1)))[0] == "time_in_future"


@pytest.mark.parametrize(
    ("lines", "product"),
    [
        ([("a", "10.00", 1, None), ("b", "9.00", 2, None)], "b"),
        ([("a", "10.00", 1, None), ("b", "5.00", 2, None)], "a"),
        ([("a", "5000.00", 1, 0), ("b", "5.00", 2, 1)], "b"),
        ([("a", "0.00", 1, 0), ("b", "0.00", 2, 0)], "a"),
    ],
)
def test_the_product_is_that_of_the_greatest_value_left(lines: list[tuple[Any, ...]], product: str) -> None:
    """Price by the quantity that edits and refunds have left decides; of equal line items the first."""
    fields = ("title", "price", "quantity", "current_quantity")
    items = [dict(zip(fields, line, strict=True)) for line in lines]
    assert sale(order_event(line_items=items))["product"] == product


def test_the_offset_of_the_time_counts() -> None:
    """One instant in several notations is one time; a text without offset is rejected."""
    for written in ("2026-02-19T10:15:00Z", "2026-02-19T12:15:00+02:00", "2026-02-19T06:15:00-04:00"):
        assert sale(order_event(created_at=written))["event_time"] == datetime(2026, 2, 19, 10, 15, tzinfo=UTC)
    assert rejected(order_event(created_at="2026-02-19T10:15:00"))[0] == "time_malformed"


def test_another_currency_is_not_ranked() -> None:
    """An order in another currency is rejected until that is the reporting currency; then it is a sale."""
    order = order_event(currency="USD")
    assert rejected(order) == ("currency_not_ranked", "currency is 'USD', sales are ranked in BRL")
    assert sale(order, currency="USD")["amount"] == Decimal("184.50")


def test_trailing_zeros_of_an_amount_are_exact() -> None:
    """A currency of three decimal places is written with three: 5.120 is 5.12, and 5.125 does not fit."""
    assert sale(order_event(current_total_price="5.120"))["amount"] == Decimal("5.12")
    assert rejected(order_event(current_total_price="5.125"))[0] == "amount_scale"


def noted(*attributes: tuple[str, Any]) -> dict[str, Any]:
    """An order with these note attributes."""
    return order_event(note_attributes=[{"name": name, "value": value} for name, value in attributes])


def also(record: dict[str, Any]) -> list[tuple[bytes, int, bool]]:
    """Key, version and deletion of what is published besides the order."""
    result = made(record)
    assert isinstance(result, Output), result
    return [(output.key, output.value["version"], output.value["deleted"]) for output in result.also]


def test_an_order_deletes_the_sale_of_the_charge_that_it_names() -> None:
    """A named charge or payment intent is a payment: its sale is deleted with a version that nothing is above."""
    record = noted(("gift", 7), ("stripe_charge", " ch_1 "), ("stripe_payment_intent", "pi_1"))
    assert also(record) == [(b"stripe:ch_1", MAX_VERSION, True), (b"stripe:pi_1", MAX_VERSION, True)]
    assert also(noted(("stripe_charge", None), ("stripe_payment_intent", ""))) == []


def test_the_charge_of_a_cancelled_order_stays_a_payment() -> None:
    """A cancelled order names its charge as before; a test order names none, as no money was paid for it."""
    named: dict[str, Any] = {"note_attributes": [{"name": "stripe_charge", "value": "ch_1"}]}
    cancelled = order_event(cancelled_at="2026-02-20T00:00:00Z", **named)
    assert also(cancelled) == [(b"stripe:ch_1", MAX_VERSION, True)]
    assert also(order_event(test=True, **named)) == []


def test_a_rejected_order_says_nothing_of_its_charge() -> None:
    """Of an order that is a dead letter nothing is published: the charge stays the sale until the order is replayed."""
    assert rejected(order_event(currency="USD", note_attributes=[{"name": "stripe_charge", "value": "ch_1"}]))
    assert rejected(noted(("stripe_charge", 7))) == ("field_malformed", "note_attributes[0].value is 7")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(ORDER)), JSON, st.sampled_from(["orders/updated", "orders/delete", ""]))
def test_any_value_of_a_field_is_handled(name: str, value: Any, event_type: str) -> None:
    """Whatever JSON a field holds, the order is a sale, a deletion or a dead letter with a detail of bounded length."""
    result = made(order_event(event_type, **{name: value}))
    assert not isinstance(result, Ignored)
    if isinstance(result, Rejected):
        assert len(result.detail) < 300
