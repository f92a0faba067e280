"""The simulated shop: its events are what the providers document, and its truth adds up."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.webhooks import PRIVATE, TOPICS
from tools.traffic.shop.history import History, history
from tools.traffic.shop.model import Event, expected

START = datetime(2026, 2, 19, 7, 0, tzinfo=UTC)
SPAN = timedelta(days=7)
CURRENCIES = ("BRL", "JPY")
FEW = settings(deadline=None, max_examples=50)  # a history has many orders

# of the objects that others are made from, the fields that the providers document and that are always there
DOCUMENTED = {
    "order": {
        "id", "name", "test", "currency", "presentment_currency", "current_total_price", "total_price", "created_at",
        "updated_at", "cancelled_at", "financial_status", "source_name", "email", "customer", "line_items", "refunds",
        "shipping_address", "billing_address", "note_attributes",
    },
    "charge": {
        "id", "object", "amount", "amount_captured", "amount_refunded", "billing_details", "captured", "created",
        "currency", "customer", "description", "disputed", "livemode", "metadata", "paid", "payment_intent", "refunded",
        "shipping", "status",
    },
    "payment_intent": {"id", "amount", "amount_received", "currency", "latest_charge", "metadata", "status"},
    "refund": {"id", "amount", "charge", "created", "currency", "payment_intent", "reason", "status"},
    "dispute": {"id", "amount", "charge", "created", "currency", "payment_intent", "reason", "status"},
    "customer": {"id", "created", "email", "name", "phone", "metadata"},
}  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A small history of any seed, in a currency with cents or without."""
    return history(
        draw(st.integers(0, 2**64)),
        people=draw(st.integers(1, 8)),
        orders=draw(st.integers(0, 12)),
        charges=draw(st.integers(0, 6)),
        start=START,
        span=SPAN,
        reporting=draw(st.sampled_from(CURRENCIES)),
    )


@pytest.fixture(scope="module")
def large() -> History:
    """Enough of everything."""
    return history(7, people=120, orders=800, start=START, span=SPAN)


def bodies(events: Iterable[Event], provider: str) -> list[tuple[Event, dict[str, Any]]]:
    """The events of a provider with their JSON, amounts exact."""
    return [(event, json.loads(event.body, parse_float=Decimal)) for event in events if event.provider == provider]


def orders_of(events: Iterable[Event]) -> list[tuple[Event, dict[str, Any]]]:
    """The events that hold a whole order."""
    whole = ("orders/create", "orders/paid", "orders/updated", "orders/cancelled")
    return [(event, body) for event, body in bodies(events, "shopify") if event.event_type in whole]


def charges_of(events: Iterable[Event]) -> list[tuple[Event, dict[str, Any]]]:
    """The events about a charge, with the charge."""
    found = [(event, body["data"]["object"]) for event, body in bodies(events, "stripe")]
    return [(event, thing) for event, thing in found if thing["object"] == "charge"]


@FEW
@given(st.integers(0, 2**64), st.integers(1, 5), st.integers(0, 8))
def test_the_same_seed_gives_the_same_bytes(seed: int, people: int, orders: int) -> None:
    """Two histories of the same arguments are equal, and in the order in which things happen."""
    first, second = (history(seed, people=people, orders=orders, start=START) for _ in range(2))
    assert first == second
    for provider in TOPICS:
        moments = [event.occurred_at for event in first.events if event.provider == provider]
        assert moments == sorted(moments)
        assert all(START <= moment < START + SPAN for moment in moments)


def test_another_seed_gives_other_ids() -> None:
    """No two seeds share an event or an object."""
    events = [history(seed, people=5, orders=20, start=START).events for seed in (1, 2)]
    assert not {e.event_id for e in events[0]} & {e.event_id for e in events[1]}
    assert not {(e.provider, e.object_id) for e in events[0]} & {(e.provider, e.object_id) for e in events[1]}


def test_a_shop_needs_people_and_time() -> None:
    """Without people, or in no time, nothing can happen."""
    with pytest.raises(ValueError, match="0 and 7 days"):
        history(1, people=0, orders=1, start=START)
    with pytest.raises(ValueError, match="0:10:00"):
        history(1, people=1, orders=1, start=START, span=timedelta(minutes=10))


@FEW
@given(histories())
def test_events_are_told_apart(simulated: History) -> None:
    """No event id comes twice at a provider, and an order's events differ by the microsecond."""
    ids = Counter((event.provider, event.event_id) for event in simulated.events)
    assert not [event_id for event_id, number in ids.items() if number > 1]
    moments = Counter(
        (event.object_id, event.occurred_at) for event in simulated.events if event.event_type.startswith("orders/")
    )
    assert not [moment for moment, number in moments.items() if number > 1]


@FEW
@given(histories())
def test_bodies_tell_what_the_events_say(simulated: History) -> None:
    """Each body is JSON with the identity, type and time of its event, in the fields where the provider has them."""
    for event, body in bodies(simulated.events, "stripe"):
        assert (body["object"], body["id"], body["type"]) == ("event", event.event_id, event.event_type)
        assert (body["api_version"], body["data"]["object"]["id"]) == (event.api_version, event.object_id)
        assert datetime.fromtimestamp(body["created"], UTC) == event.occurred_at
        assert body["data"]["object"]["object"] in TOPICS["stripe"]
    for event, body in bodies(simulated.events, "hubspot"):
        name = body.get("propertyName", "")
        parts = (body["portalId"], body["eventId"], body["objectId"], name, body["occurredAt"])
        assert event.event_id == ":".join(map(str, parts))
        assert (body["subscriptionType"], str(body["objectId"])) == (event.event_type, event.object_id)
        assert body["attemptNumber"] == 0
        assert datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=body["occurredAt"]) == event.occurred_at
        assert bool(name) == event.event_type.endswith("propertyChange")
    for event, body in bodies(simulated.events, "shopify"):
        assert event.headers["X-Shopify-Topic"] == event.event_type
        assert event.headers["X-Shopify-Event-Id"] == event.event_id
        assert event.headers["X-Shopify-API-Version"] == event.api_version
        triggered = event.headers["X-Shopify-Triggered-At"]
        assert len(triggered) == len("2026-02-19T10:15:02.877041743Z")
        assert datetime.fromisoformat(f"{triggered[:26]}+00:00") == event.occurred_at
        if event.event_type in PRIVATE:
            assert str(body["customer"]["id"]) == event.object_id
        elif event.event_type != "orders/edited":
            assert str(body["id"]) == event.object_id


@FEW
@given(histories())
def test_objects_have_the_documented_fields(simulated: History) -> None:
    """Every object has the fields that whoever reads it may count on; instants of Shopify have an offset."""
    things = [body["data"]["object"] for _, body in bodies(simulated.events, "stripe")]
    assert all(DOCUMENTED[thing["object"]] <= set(thing) for thing in things)
    for _, order in orders_of(simulated.events):
        assert DOCUMENTED["order"] <= set(order)
        assert datetime.fromisoformat(order["updated_at"]) >= datetime.fromisoformat(order["created_at"])
        assert all(line["title"] and Decimal(line["price"]) > 0 for line in order["line_items"])


@FEW
@given(histories())
def test_an_order_is_worth_its_lines_less_refunds(simulated: History) -> None:
    """Of every order: lines at their quantities less discounts, edits and refunds, with shipping; in exact decimals."""
    for _, order in orders_of(simulated.events):
        refunded = sum(Decimal(t["amount"]) for refund in order["refunds"] for t in refund["transactions"])
        returned: Counter[int] = Counter()
        for refund in order["refunds"]:
            returned.update({item["line_item_id"]: item["quantity"] for item in refund["refund_line_items"]})
        worth = Decimal(order["total_shipping_price_set"]["shop_money"]["amount"]) - refunded
        for line in order["line_items"]:
            discounts = sum(Decimal(each["amount"]) for each in line["discount_allocations"])
            worth += Decimal(line["price"]) * (line["current_quantity"] + returned[line["id"]]) - discounts
        assert Decimal(order["current_total_price"]) == worth >= 0
        assert Decimal(order["current_total_price_set"]["shop_money"]["amount"]) == worth
        assert Decimal(order["total_price"]) >= worth
        assert ("." in order["current_total_price"]) == (order["currency"] != "JPY")


@FEW
@given(histories())
def test_a_charge_keeps_what_was_captured_less_refunds(simulated: History) -> None:
    """No charge gives back more than it has; what is kept follows from the refunds that were made of it."""
    refunds: Counter[str] = Counter()
    for event, body in bodies(simulated.events, "stripe"):
        thing = body["data"]["object"]
        if event.event_type == "refund.created":
            refunds[thing["charge"]] += thing["amount"]
        if thing["object"] != "charge":
            continue
        released = thing["amount"] - thing["amount_captured"] if thing["captured"] else 0
        assert 0 <= thing["amount_captured"] <= thing["amount"]
        if thing["captured"]:
            assert thing["amount_refunded"] == released + refunds[thing["id"]] <= thing["amount"]
        else:
            assert thing["amount_refunded"] in (0, thing["amount"])
        assert thing["refunded"] == (thing["amount_refunded"] == thing["amount"])


@FEW
@given(histories())
def test_every_sale_is_what_its_last_body_says(simulated: History) -> None:
    """A ranked order has the total of its last webhook; a ranked charge names no order and no order names it."""
    last = {("shopify", event.object_id): body for event, body in orders_of(simulated.events)}
    deleted = {event.object_id for event in simulated.events if event.event_type == "orders/delete"}
    named = {attribute["value"] for body in last.values() for attribute in body["note_attributes"]}
    for _, charge in charges_of(simulated.events):
        last["stripe", charge["payment_intent"] or charge["id"]] = charge
    for (source, sale_id), sale in simulated.truth.sales.items():
        body = last[source, sale_id]
        if source == "shopify":
            assert Decimal(body["current_total_price"]) == sale.amount > 0
            assert datetime.fromisoformat(body["created_at"]) == sale.event_time
            assert (body["test"], body["cancelled_at"], sale_id in deleted) == (False, None, False)
            assert body["source_name"] == sale.salesperson
        else:
            assert "order_id" not in body["metadata"]
            assert sale_id not in named
            assert body["description"] == sale.product
            assert body["captured"]
            places = {"brl": 2, "jpy": 0}[body["currency"]]
            assert Decimal(body["amount"] - body["amount_refunded"]).scaleb(-places) == sale.amount > 0
            assert body["created"] == sale.event_time.timestamp()
            assert sale.salesperson == "Stripe"


@FEW
@given(histories())
def test_payments_are_no_sales(simulated: History) -> None:
    """A charge that pays an order is not ranked once order and charge are known; each pays an order of the shop."""
    orders = {event.object_id for event in simulated.events if event.event_type == "orders/create"}
    keys: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for event, charge in charges_of(simulated.events):
        keys[event.object_id].add(("stripe", charge["payment_intent"] or charge["id"]))
    named = {key for event in simulated.events for key in event.paid_with}
    with_metadata = {event.object_id for event, charge in charges_of(simulated.events) if charge["metadata"]}
    for charge_id, order_id in simulated.truth.payments.items():
        if charge_id in with_metadata or keys[charge_id] <= named:
            assert not keys[charge_id] & set(simulated.truth.sales)
        if order_id in orders and charge_id not in with_metadata:
            assert all(key[0] == "stripe" for key in keys[charge_id])


@FEW
@given(histories())
def test_everybody_is_somebody(simulated: History) -> None:
    """Every customer, order, charge and contact belongs to a person of the shop."""
    truth = simulated.truth
    assert set(truth.owners.values()) <= set(truth.people)
    objects = {(provider, kind) for provider, kind, _ in truth.owners}
    assert objects <= {
        ("shopify", "customer"), ("shopify", "order"), ("stripe", "customer"), ("stripe", "charge"),
        ("hubspot", "contact"),
    }  # fmt: skip
    for _, order in orders_of(simulated.events):
        person = truth.owners["shopify", "order", str(order["id"])]
        assert truth.owners["shopify", "customer", str(order["customer"]["id"])] == person


def test_there_is_enough_of_everything(large: History) -> None:
    """A larger history has every topic, both kinds of payment, all that happens to orders, and what never counts."""
    kinds = Counter(event.event_type for event in large.events)
    assert {
        "orders/create", "orders/paid", "orders/updated", "orders/edited", "orders/cancelled", "orders/delete",
        "draft_orders/create", "customers/create", "customers/update", "products/create", "charge.succeeded",
        "charge.pending", "charge.failed", "charge.captured", "charge.refunded", "charge.dispute.created",
        "charge.dispute.closed", "refund.created", "payment_intent.succeeded", "customer.created", "contact.creation",
        "contact.propertyChange", "company.creation", "deal.propertyChange",
    } <= set(kinds)  # fmt: skip
    last = {event.object_id: body for event, body in orders_of(large.events)}
    states = Counter(body["financial_status"] for body in last.values())
    assert min(states[state] for state in ("pending", "paid", "partially_refunded", "refunded")) > 3
    assert {body["currency"] for body in last.values()} == {"BRL", "USD", "EUR", "JPY"}
    assert any(body["test"] for body in last.values())
    assert {body["created_at"][-6:] for body in last.values()} == {"-03:00", "-02:00", "+00:00"}
    assert 0.5 * len(last) < sum(source == "shopify" for source, _ in large.truth.sales) < 0.9 * len(last)
    assert sum(source == "stripe" for source, _ in large.truth.sales) > 100
    named = {key for event in large.events for key in event.paid_with}
    assert len(named) > 50
    assert 300 < len(large.truth.payments) < 800


def test_systems_know_people_differently(large: History) -> None:
    """Among the people are namesakes, shared phones and changed e-mails; typed texts differ between systems."""
    people = large.truth.people.values()
    assert len({(person.first, person.last) for person in people}) < len(people)
    assert len({person.phone for person in people}) < len(people)
    assert len({person.email for person in people}) == len(people)
    assert any(person.new_email for person in people)
    emails: dict[int, set[str]] = defaultdict(set)
    for event, body in bodies(large.events, "hubspot"):
        if body.get("propertyName") == "email":
            emails[large.truth.owners["hubspot", "contact", event.object_id]].add(body["propertyValue"])
    known = {person.number: {person.email, person.new_email} for person in people}
    assert any(seen - known[number] for number, seen in emails.items())


def test_what_has_not_happened_yet_is_not_true(large: History) -> None:
    """The truth of the first events of a history is that of the shop at that moment."""
    assert expected(()) == {}
    half = expected(large.events[: len(large.events) // 2])
    assert expected(large.events) == large.truth.sales
    assert half != large.truth.sales
    assert 0 < len(half) < len(large.truth.sales)
