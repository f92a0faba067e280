"""What Stripe sends: customers, payment intents, charges, refunds and disputes.

A charge counts what it has released as refunded: authorised at 200.00 and captured at 150.00 it has an
`amount_captured` of 15000 and an `amount_refunded` of 5000; of a cancelled authorisation `amount_refunded` is the whole
amount, and `captured` is false. So the shop keeps amount - amount_refunded once it is captured, and nothing before.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tools.traffic.shop.model import Event, ExpectedSale, Key, Step, after, sale_amount, token
from tools.traffic.shop.people import Person, misspelt

API_VERSION = "2026-01-28.clover"
SALESPERSON = "Stripe"
FAILS_FIRST, CAPTURED_LATER, CAPTURED_IN_PART, NEVER_CAPTURED = 0.1, 0.2, 0.3, 0.1
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass
class Charge:
    """A charge as Stripe holds it; amounts in the currency's minor units. `order_id` is what its metadata names.

    `amount_refunded` counts what was released, too, as the module says. `city` is None where it has no address.
    """

    charge_id: str
    intent: str | None
    amount: int
    currency: str
    created: datetime
    person: Person
    email: str
    customer: str | None
    city: str | None
    description: str | None = None
    order_id: str | None = None
    status: str = "pending"
    captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    disputed: bool = False

    @property
    def kept(self) -> int:
        """What the shop keeps of it, in minor units."""
        return self.amount - self.amount_refunded if self.captured else 0

    @property
    def key(self) -> Key:
        """Of its sale, where it pays no order."""
        return "stripe", self.intent or self.charge_id


def stripe_event(rng: random.Random, moment: datetime, kind: str, thing: dict[str, Any], **truth: Any) -> Step:
    """An event about an object, with the object as it is then."""
    event_id = token(rng, "evt_")
    occurred_at = moment.replace(microsecond=0)
    body = {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": int(occurred_at.timestamp()),
        "data": {"object": thing},
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": token(rng, "req_", 14), "idempotency_key": None},
        "type": kind,
    }
    content = json.dumps(body, ensure_ascii=False, indent=2).encode()
    return moment, Event("stripe", kind, event_id, thing["id"], occurred_at, content, API_VERSION, **truth)


def customer_body(customer: str, person: Person, name: str, created: datetime, moment: datetime) -> dict[str, Any]:
    """A customer as Stripe holds it at a moment."""
    return {
        "id": customer,
        "object": "customer",
        "created": int(created.timestamp()),
        "email": person.email_at(moment),
        "livemode": True,
        "metadata": {},
        "name": name,
        "phone": person.phone,
    }


def customer_steps(rng: random.Random, customer: str, person: Person, created: datetime) -> Iterator[Step]:
    """A customer is created, and updated when the person changes the e-mail."""
    name = misspelt(rng, f"{person.first} {person.last}")
    body, owner = customer_body(customer, person, name, created, created), ("customer", person.number)
    yield stripe_event(rng, created, "customer.created", body, owner=owner)
    if person.moved_at is not None and person.moved_at > created:
        later = after(rng, person.moved_at, SECOND, DAY)
        body = customer_body(customer, person, name, created, later)
        yield stripe_event(rng, later, "customer.updated", body, owner=owner)


def _address(charge: Charge) -> dict[str, Any]:
    home = charge.person.home
    if charge.city is None:
        return dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    return {
        "city": charge.city,
        "country": home.country,
        "line1": charge.person.street,
        "line2": None,
        "postal_code": charge.person.postcode,
        "state": home.state,
    }


def _charge_body(charge: Charge) -> dict[str, Any]:
    name = f"{charge.person.first} {charge.person.last}"
    failed = charge.status == "failed"
    return {
        "id": charge.charge_id,
        "object": "charge",
        "amount": charge.amount,
        "amount_captured": charge.amount_captured,
        "amount_refunded": charge.amount_refunded,
        "billing_details": {
            "address": _address(charge),
            "email": charge.email,
            "name": name,
            "phone": charge.person.phone,
        },
        "captured": charge.captured,
        "created": int(charge.created.timestamp()),
        "currency": charge.currency.lower(),
        "customer": charge.customer,
        "description": charge.description,
        "disputed": charge.disputed,
        "failure_code": "card_declined" if failed else None,
        "failure_message": "Your card was declined." if failed else None,
        "livemode": True,
        "metadata": {} if charge.order_id is None else {"order_id": charge.order_id},
        "paid": charge.status == "succeeded",
        "payment_intent": charge.intent,
        "receipt_email": charge.email,
        "refunded": charge.amount_refunded == charge.amount,
        "shipping": None,
        "status": charge.status,
    }


def charge_event(rng: random.Random, moment: datetime, kind: str, charge: Charge, reporting: str) -> Step:
    """An event with the charge as it is then, and what is true of its sale: none where its metadata name an order."""
    sale = None
    if charge.kept > 0 and charge.currency == reporting and charge.city is not None:
        sale = ExpectedSale(
            amount=sale_amount(charge.kept, charge.currency),
            city=charge.person.home.city,
            country=charge.person.home.country,
            salesperson=SALESPERSON,
            product=str(charge.description),
            event_time=charge.created.replace(microsecond=0),
        )
    truth = () if charge.order_id is not None else ((charge.key, sale),)
    return stripe_event(rng, moment, kind, _charge_body(charge), sales=truth, owner=("charge", charge.person.number))


def _intent_event(rng: random.Random, moment: datetime, kind: str, charge: Charge, status: str) -> Iterator[Step]:
    if charge.intent is None:
        return
    thing = {
        "id": charge.intent,
        "object": "payment_intent",
        "amount": charge.amount,
        "amount_received": charge.amount_captured,
        "currency": charge.currency.lower(),
        "customer": charge.customer,
        "latest_charge": None if status == "requires_payment_method" else charge.charge_id,
        "livemode": True,
        "metadata": {} if charge.order_id is None else {"order_id": charge.order_id},
        "status": status,
    }
    yield stripe_event(rng, moment, kind, thing)


def pay(rng: random.Random, charge: Charge, reporting: str) -> Iterator[Step]:
    """From the payment intent to the money: perhaps a declined card first, perhaps captured days later, or never."""
    moment = charge.created - MINUTE
    yield from _intent_event(rng, moment, "payment_intent.created", charge, "requires_payment_method")
    moment = charge.created
    if rng.random() < FAILS_FIRST:
        charge.status = "failed"
        yield charge_event(rng, moment, "charge.failed", charge, reporting)
        moment = charge.created = moment + timedelta(seconds=rng.randint(5, 200))
        charge.charge_id, charge.status = token(rng, "ch_"), "pending"
    elif rng.random() < 0.3:
        yield charge_event(rng, moment, "charge.pending", charge, reporting)
        moment = after(rng, moment, SECOND, HOUR)
    charge.status = "succeeded"
    if rng.random() >= CAPTURED_LATER:
        charge.captured, charge.amount_captured = True, charge.amount
        yield charge_event(rng, moment, "charge.succeeded", charge, reporting)
    else:
        yield charge_event(rng, moment, "charge.succeeded", charge, reporting)
        moment = after(rng, moment, SECOND, DAY)
        if charge.order_id is None and rng.random() < NEVER_CAPTURED:
            charge.amount_refunded = charge.amount
            yield charge_event(rng, moment, "charge.refunded", charge, reporting)
            return
        released = rng.randint(1, charge.amount // 2) if rng.random() < CAPTURED_IN_PART and charge.amount > 1 else 0
        charge.captured, charge.amount_captured, charge.amount_refunded = True, charge.amount - released, released
        yield charge_event(rng, moment, "charge.captured", charge, reporting)
    yield from _intent_event(rng, moment, "payment_intent.succeeded", charge, "succeeded")


def refund(rng: random.Random, moment: datetime, charge: Charge, amount: int, reporting: str) -> Iterator[Step]:
    """Some of what was kept goes back: the refund, and the charge's new state."""
    thing = {
        "id": token(rng, "re_"),
        "object": "refund",
        "amount": amount,
        "charge": charge.charge_id,
        "created": int(moment.timestamp()),
        "currency": charge.currency.lower(),
        "metadata": {},
        "payment_intent": charge.intent,
        "reason": "requested_by_customer",
        "status": "succeeded",
    }
    charge.amount_refunded += amount
    yield stripe_event(rng, moment, "refund.created", thing)
    yield charge_event(rng, moment, "charge.refunded", charge, reporting)


def dispute(rng: random.Random, moment: datetime, charge: Charge, reporting: str) -> Iterator[Step]:
    """The customer's bank asks for the money back; who wins is the payments' business, the sale stays."""
    thing = {
        "id": token(rng, "dp_"),
        "object": "dispute",
        "amount": charge.kept,
        "charge": charge.charge_id,
        "created": int(moment.timestamp()),
        "currency": charge.currency.lower(),
        "payment_intent": charge.intent,
        "reason": "fraudulent",
        "status": "needs_response",
    }
    charge.disputed = True
    yield stripe_event(rng, moment, "charge.dispute.created", thing)
    yield charge_event(rng, moment, "charge.updated", charge, reporting)
    closed = {**thing, "status": rng.choice(("won", "lost"))}
    yield stripe_event(rng, after(rng, moment, DAY, 3 * DAY), "charge.dispute.closed", closed)


def lone(rng: random.Random, charge: Charge, reporting: str) -> list[Step]:
    """The life of a charge that pays no order: a sale of its own."""
    steps = list(pay(rng, charge, reporting))
    if charge.kept and rng.random() < 0.1:
        steps += dispute(rng, after(rng, steps[-1][0], HOUR, DAY), charge, reporting)
    while charge.kept and rng.random() < 0.25:
        # now and then two refunds in one second, which only the charge's state tells apart
        moment = after(rng, steps[-1][0], timedelta(milliseconds=1), 2 * DAY)
        whole = rng.random() < 0.4
        steps += refund(rng, moment, charge, charge.kept if whole else rng.randint(1, charge.kept), reporting)
    return steps
