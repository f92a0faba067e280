"""Charges of Stripe as unified sales."""

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pycountry
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.results import Context, Ignored, Output, Rejected
from contracts.currencies import STRIPE_MINOR_UNITS
from contracts.versions import MAX_VERSION, pack_stripe
from streams.stripe.transform import transform
from tests.unit.test_shopify import JSON
from tests.webhook_events import CHARGE, NOW, SOLD, charge_event

SECOND = timedelta(seconds=1)
NAMES_ORDER: dict[str, Any] = {"metadata": {"order_id": "1001"}}


def made(record: dict[str, Any], currency: str = "BRL") -> Output | Rejected | Ignored:
    """What the service makes of the record."""
    return transform(record, Context(NOW, NOW), currency=currency)


def sale(record: dict[str, Any], currency: str = "BRL") -> dict[str, Any]:
    """The sale that the record becomes."""
    result = made(record, currency)
    assert isinstance(result, Output), result
    assert result.also == ()
    return dict(result.value)


def rejected(record: dict[str, Any]) -> tuple[str, str]:
    """Reason and detail."""
    result = made(record)
    assert isinstance(result, Rejected), result
    return result.reason, result.detail


def test_a_charge_that_names_no_order_is_a_sale() -> None:
    """Every field of the sale comes from the charge: what is kept of it, the billing address, the description."""
    value = sale(charge_event(at=SOLD + SECOND))
    assert value == {
        "sale_id": "pi_1",
        "source": "stripe",
        "salesman_name": "Stripe",
        "city": "Recife",
        "country": "BR",
        "amount": Decimal("184.50"),
        "product": "Headset",
        "event_time": SOLD,
        "ingestion_time": NOW - SECOND,
        "version": value["version"],
        "deleted": False,
    }
    assert value["version"] >> 31 == 1771496101


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"status": "pending", "captured": False, "amount_captured": 0}, "not captured"),
        ({"status": "failed"}, "not captured"),
        ({"captured": False, "amount_captured": 0}, "not captured"),
        ({"captured": False, "amount_captured": 0, "amount_refunded": 18450}, "not captured"),
        ({"livemode": False}, "test mode"),
        (NAMES_ORDER, "payment of an order"),
        ({"payment_intent": {"id": "pi_1", **NAMES_ORDER}}, "payment of an order"),
    ],
    ids=str,
)
def test_what_never_was_a_sale_is_ignored(fields: dict[str, Any], why: str) -> None:
    """A charge that is not captured, of test mode, or of an order from the beginning changes nothing."""
    assert made(charge_event(**fields)) == Ignored(why)


def test_an_event_of_test_mode_is_ignored() -> None:
    """Test mode is said of the event, too."""
    assert made(charge_event(live=False)) == Ignored("test mode")


def test_a_declined_card_does_not_delete_what_a_second_one_paid() -> None:
    """A payment intent may need several charges: a failed one says nothing of the sale, also when it comes last."""
    assert made(charge_event("charge.updated", at=SOLD + SECOND, id="ch_0", status="failed")) == Ignored("not captured")


def test_a_charge_that_names_an_order_later_is_deleted() -> None:
    """What was a sale until the order was noted is none any more, in the same second, too."""
    before, after = sale(charge_event()), sale(charge_event("charge.updated", **NAMES_ORDER))
    assert (after["sale_id"], after["deleted"]) == ("pi_1", True)
    assert before["version"] < after["version"]


@pytest.mark.parametrize("noted", [None, "", "  "])
def test_a_blank_order_is_none(noted: str | None) -> None:
    """Metadata with a blank order id names no order."""
    assert not sale(charge_event(metadata={"order_id": noted}))["deleted"]


@pytest.mark.parametrize(
    ("intent", "name"), [("pi_1", "pi_1"), ({"id": "pi_1"}, "pi_1"), (None, "ch_1"), ("", "ch_1")], ids=str
)
def test_the_sale_is_that_of_the_payment_intent(intent: Any, name: str) -> None:
    """A charge of a payment intent, expanded or not, is its sale; one without is its own."""
    assert sale(charge_event(payment_intent=intent))["sale_id"] == name


@pytest.mark.parametrize(
    ("captured", "refunded", "kept"),
    [
        (18450, 0, "184.50"),
        (18450, 8450, "100.00"),
        (10000, 8450, "100.00"),
        (10000, 8451, "99.99"),
        (10000, 0, "100.00"),
        (18450, 18450, None),
        (18450, 99999, None),
        (0, 0, None),
    ],
)
def test_what_is_kept_is_captured_less_refunded(captured: int, refunded: int, kept: str | None) -> None:
    """What was released instead of captured is not refunded once more; nothing kept is a deletion."""
    value = sale(charge_event("charge.refunded", amount_captured=captured, amount_refunded=refunded))
    assert (None if value["deleted"] else str(value["amount"])) == kept


@pytest.mark.parametrize(
    ("currency", "amount"),
    [
        ("JPY", "18450.00"),
        ("BRL", "184.50"),
        ("KWD", "18.45"),
        ("ISK", "184.50"),
        ("UGX", "184.50"),
        ("MGA", "18450.00"),
    ],
)
def test_amounts_are_in_minor_units(currency: str, amount: str) -> None:
    """ISO 4217 says how many decimal places a currency has, but for those that Stripe counts otherwise."""
    assert str(sale(charge_event(currency=currency.lower()), currency)["amount"]) == amount


def test_the_currencies_with_other_minor_units_exist() -> None:
    """Each exception is a code of ISO 4217."""
    assert [code for code in STRIPE_MINOR_UNITS if pycountry.currencies.get(alpha_3=code) is None] == []


def test_another_currency_is_not_ranked() -> None:
    """A charge in another currency is rejected; of a payment or a refunded charge the currency does not matter."""
    reason, detail = rejected(charge_event(currency="usd"))
    assert (reason, detail) == ("currency_not_ranked", "data.object.currency is 'usd', sales are ranked in BRL")
    assert made(charge_event(currency="usd", **NAMES_ORDER)) == Ignored("payment of an order")
    assert sale(charge_event("charge.refunded", currency="usd", amount_refunded=18450))["deleted"]


def test_the_address_is_the_first_that_is_complete() -> None:
    """The billing address counts where it has city and country, else the shipping address."""
    shipping = {"address": {"city": "Natal", "country": "BR"}}
    for billing in (None, {}, {"address": None}, {"address": {"city": None, "country": "BR"}}):
        assert sale(charge_event(billing_details=billing, shipping=shipping))["city"] == "Natal"
        reason, detail = rejected(charge_event(billing_details=billing))
        assert (reason, detail) == ("field_missing", "data.object.billing_details.address.city is None")
    assert sale(charge_event(shipping=shipping))["city"] == "Recife"


def test_the_product_is_the_description() -> None:
    """Without a description it is what the customer reads on the statement."""
    assert sale(charge_event(description=None, calculated_statement_descriptor="PLACAR"))["product"] == "PLACAR"
    assert rejected(charge_event(description=None))[1] == "data.object.description is None"


OPTIONAL = {"object", "description", "calculated_statement_descriptor", "shipping", "billing_details"}


@pytest.mark.parametrize("name", sorted(set(CHARGE) - OPTIONAL))
def test_no_field_that_counts_may_vanish(name: str) -> None:
    """A charge without a field that decides on its sale is a dead letter that names it."""
    record = charge_event()
    text = record["body"].replace(f'"{name}": '.encode(), b'"renamed": ')
    if name in ("created", "livemode"):  # the event has them, too
        text = record["body"][::-1].replace(f'"{name}": '.encode()[::-1], b'"renamed": '[::-1], 1)[::-1]
    reason, detail = rejected({**record, "body": text})
    assert (reason, detail) == ("field_missing", f"data.object.{name} is missing")


def states(amount: int) -> list[dict[str, Any]]:
    """What a charge goes through, the earliest first."""
    refunds = sorted({1, amount // 3, amount // 2, amount - 1})
    of_charge = [(False, 0, 0), (False, amount, 0), *((False, amount, refund) for refund in refunds)]
    return [
        {"payment": payment, "amount": amount, "captured": captured, "refunded": refunded}
        for payment, captured, refunded in [*of_charge, (False, amount, amount), (True, 0, 0), (True, amount, amount)]
    ]


@given(st.integers(6, 2**23), st.integers(0, 2**32 - 2), st.binary(), st.binary())
def test_in_one_second_the_state_decides(amount: int, created: int, one: bytes, other: bytes) -> None:
    """Whatever the bodies, of one second each further state has a higher version, and a later second tops them all."""
    progress = states(amount)
    for earlier, later in pairwise(progress):
        assert pack_stripe(created, one, **earlier) < pack_stripe(created, other, **later)
    assert pack_stripe(created, one, **progress[-1]) < pack_stripe(created + 1, other, **progress[0]) <= MAX_VERSION


@given(st.integers(1, 10**15), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_greater_refund_is_never_below(amount: int, less: int, more: int) -> None:
    """Also of amounts that the version holds rounded, a greater refund has no lower version."""
    low, high = sorted((less % (amount + 1), more % (amount + 1)))
    given_state: dict[str, Any] = {"payment": False, "amount": amount, "captured": amount}
    assert pack_stripe(7, b"", refunded=low, **given_state) <= pack_stripe(7, b"", refunded=high, **given_state)


@given(st.sampled_from(sorted(CHARGE)), JSON, st.sampled_from(["charge.updated", ""]))
def test_any_value_of_a_field_is_handled(name: str, value: Any, event_type: str) -> None:
    """Whatever JSON a field holds, the charge is a sale, a deletion, ignored or a dead letter of bounded length."""
    result = made(charge_event(event_type, **{name: value}))
    if isinstance(result, Rejected):
        assert len(result.detail) < 300
