"""The life of the simulated shop: who buys what, how it is paid, changed, refunded, cancelled and deleted."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from tools.traffic.retail import PRICES
from tools.traffic.shop import charges
from tools.traffic.shop.charges import DAY, HOUR, MINUTE, SECOND, Charge
from tools.traffic.shop.model import DECIMALS, Step, after, money, token
from tools.traffic.shop.orders import (
    DOMAIN,
    Line,
    Order,
    address_body,
    deletion,
    local,
    order_event,
    shopify_event,
)
from tools.traffic.shop.people import Person, city_as_typed, misspelt, phone_as_typed

CHANNELS, CHANNEL_WEIGHTS = ("web", "pos", "iphone", "android", "1424624"), (60, 15, 10, 10, 5)
TEST, FOREIGN, NOWHERE, ONLY_BILLED, PRESENT, DRAFT, ELSEWHERE = 0.04, 0.05, 0.03, 0.1, 0.05, 0.05, 0.05
WITH_CHARGE, METADATA, NAMED_TOO, CHARGE_FIRST = 0.7, 0.55, 0.4, 0.5
EDITED, REFUNDED, WHOLE, CANCELLED, DELETED = 0.15, 0.2, 0.3, 0.06, 0.03
MOMENT = timedelta(milliseconds=1)


@dataclass
class Shop:
    """The shop while it sells: its people, the ids that it gives, and which charge pays which order.

    `customers` are those people (by number) whom Stripe knows, with their ids there.
    """

    rng: random.Random
    people: list[Person]
    reporting: str
    first_id: int
    customers: dict[int, str] = field(default_factory=dict)
    payments: dict[str, str] = field(default_factory=dict)
    ids: Iterator[int] = field(init=False)
    products: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = count(self.first_id)
        self.products = {product: next(self.ids) for product in PRICES}

    def price(self, product: str, currency: str) -> int:
        """A price in minor units."""
        low, high = PRICES[product]
        return self.rng.randint(low * 10 ** DECIMALS[currency], high * 10 ** DECIMALS[currency])

    def line(self, currency: str) -> Line:
        """One more line item."""
        product = self.rng.choice(list(self.products))
        price, quantity = self.price(product, currency), self.rng.choice((1, 1, 1, 2, 3))
        discount = price * quantity * self.rng.randint(1, 3) // 10 if self.rng.random() < 0.2 else 0
        return Line(next(self.ids), product, self.products[product], price, quantity, discount)

    def charge(self, created: datetime, person: Person, amount: int, currency: str) -> Charge:
        """A charge to be paid by a person."""
        intent = token(self.rng, "pi_") if self.rng.random() < 0.85 else None
        customer = self.customers.get(person.number) if self.rng.random() < 0.8 else None
        email = misspelt(self.rng, person.email_at(created))
        city = city_as_typed(self.rng, person.home)
        return Charge(token(self.rng, "ch_"), intent, amount, currency, created, person, email, customer, city)

    def currency(self) -> str:
        """The reporting currency, now and then another."""
        others = [currency for currency in DECIMALS if currency != self.reporting]
        return self.rng.choice(others) if self.rng.random() < FOREIGN else self.reporting


def product_lives(shop: Shop, start: datetime) -> Iterator[Step]:
    """Every product is created, some change their price."""
    for product, product_id in shop.products.items():
        moment = after(shop.rng, start, MOMENT, MINUTE)
        for topic in ("products/create", "products/update")[: shop.rng.choice((1, 1, 2))]:
            variant = {"id": product_id * 10, "price": money(shop.price(product, shop.reporting), shop.reporting)}
            body = {
                "id": product_id,
                "title": product,
                "vendor": "Placar",
                "status": "active",
                "created_at": local(start, 0),
                "updated_at": local(moment, 0),
                "variants": [variant],
            }
            yield shopify_event(shop.rng, moment, topic, product_id, body)
            moment = after(shop.rng, moment, HOUR, DAY)


def customer_life(shop: Shop, person: Person, customer_id: int, created: datetime) -> Iterator[Step]:
    """A customer of the shop, who may change the e-mail, and seldom asks to be erased."""
    phone, first = phone_as_typed(shop.rng, person.phone), misspelt(shop.rng, person.first)
    owner = ("customer", person.number)

    def body(moment: datetime) -> dict[str, Any]:
        return {
            "id": customer_id,
            "email": person.email_at(moment),
            "first_name": first,
            "last_name": person.last,
            "phone": phone,
            "verified_email": True,
            "created_at": local(created, 0),
            "updated_at": local(moment, 0),
            "default_address": address_body(person, person.home.city),
        }

    yield shopify_event(shop.rng, created, "customers/create", customer_id, body(created), owner=owner)
    moment = created
    if person.moved_at is not None and person.moved_at > created:
        moment = after(shop.rng, person.moved_at, MOMENT, HOUR)
        yield shopify_event(shop.rng, moment, "customers/update", customer_id, body(moment), owner=owner)
    if shop.rng.random() < 0.01:
        moment = after(shop.rng, moment, HOUR, 3 * DAY)
        known = {"id": customer_id, "email": person.email_at(moment), "phone": phone}
        request = {"shop_id": 954889, "shop_domain": DOMAIN, "customer": known, "orders_to_redact": []}
        yield shopify_event(shop.rng, moment, "customers/redact", customer_id, request)


def _order(shop: Shop, number: int, person: Person, customer_id: int, created: datetime) -> Order:
    rng = shop.rng
    currency = shop.currency()
    billed_only, elsewhere = rng.random() < ONLY_BILLED, rng.random() < ELSEWHERE
    recipient = rng.choice(shop.people) if elsewhere else person
    order = Order(
        order_id=next(shop.ids),
        number=number,
        person=person,
        customer_id=customer_id,
        email=misspelt(rng, person.email_at(created)),
        created=created,
        currency=currency,
        source_name=rng.choices(CHANNELS, CHANNEL_WEIGHTS)[0],
        lines=[shop.line(currency) for _ in range(rng.choice((1, 1, 2, 3)))],
        recipient=recipient,
        shipped_to=None if billed_only else city_as_typed(rng, recipient.home),
        billed_to=city_as_typed(rng, person.home),
        shipping=rng.choice((0, 0, 15, 30)) * 10 ** DECIMALS[currency],
        presentment="USD" if currency == "BRL" and rng.random() < PRESENT else None,
        test=rng.random() < TEST,
    )
    if rng.random() < NOWHERE:
        order.shipped_to = order.billed_to = None
    return order


def _draft(shop: Shop, order: Order) -> Iterator[Step]:
    """A draft order, which becomes the order when it is completed; as a draft it is none."""
    draft_id = next(shop.ids)
    body = {"id": draft_id, "name": f"#D{order.number}", "status": "open", "order_id": None, "currency": order.currency}
    body["total_price"] = money(order.total, order.currency)
    yield shopify_event(shop.rng, order.created - 5 * MINUTE, "draft_orders/create", draft_id, body)
    done = {**body, "status": "completed", "order_id": order.order_id}
    yield shopify_event(shop.rng, order.created + MOMENT, "draft_orders/update", draft_id, done)


def _paid_with(shop: Shop, order: Order) -> Iterator[Step]:
    """The charge of an order, before it or after; it names the order, or the order names it, or both."""
    rng = shop.rng
    first = rng.random() < CHARGE_FIRST
    created = order.created - timedelta(seconds=rng.randint(1, 300))
    charge = shop.charge(
        created if first else after(rng, order.created, SECOND, DAY), order.person, order.total, order.currency
    )
    # what is no ranked sale names no charge: whether such an order makes it a payment is not this shop's to say
    ranked = not order.test and order.currency == shop.reporting and order.billed_to is not None
    if rng.random() < METADATA or not ranked:
        charge.order_id = str(order.order_id)
    charge.description = rng.choice((order.lines[0].product, f"Pedido {order.number}"))
    yield from charges.pay(rng, charge, shop.reporting)
    order.charge = charge
    order.names_charge = ranked and (charge.order_id is None or rng.random() < NAMED_TOO)
    if charge.kept:
        shop.payments[charge.charge_id] = str(order.order_id)


def order_life(shop: Shop, number: int, person: Person, customer_id: int, created: datetime) -> Iterator[Step]:
    """An order from its creation on, with the charge that pays it."""
    rng, reporting = shop.rng, shop.reporting
    order = _order(shop, number, person, customer_id, created)
    if rng.random() < DRAFT:
        order.source_name = "shopify_draft_order"
        yield from _draft(shop, order)
    paid_at: datetime | None = after(rng, created, 2 * MOMENT, 2 * DAY) if rng.random() < 0.8 else None
    if rng.random() < WITH_CHARGE and not order.test:
        steps = list(_paid_with(shop, order))
        yield from steps
        paid_at = max(created, steps[-1][0]) if order.charge and order.charge.kept else None
    named = order.names_charge
    order.names_charge = named and order.charge is not None and order.charge.created < created
    moment = created + 2 * MOMENT
    yield order_event(rng, moment, "orders/create", order, reporting)
    if paid_at is not None or named:
        order.paid, order.names_charge = paid_at is not None, named
        moment = max(paid_at or moment, moment) + timedelta(microseconds=rng.randint(1, 900_000))
        yield order_event(rng, moment, "orders/paid" if order.paid else "orders/updated", order, reporting)
    yield from changes(shop, order, moment)


def changes(shop: Shop, order: Order, moment: datetime) -> Iterator[Step]:
    """What may happen to an order later: edits, refunds, a cancellation, its deletion."""
    rng, reporting = shop.rng, shop.reporting
    if rng.random() < EDITED:
        moment = after(rng, moment, MOMENT, DAY)
        fewer = [line for line in order.lines if line.discount == 0]
        if len(order.lines) > 1 and fewer and rng.random() < 0.5:
            rng.choice(fewer).removed += 1
        else:
            order.lines.append(shop.line(order.currency))
        # what says that it was edited is no order; the order's new state follows
        edit_id = next(shop.ids)
        edit = {"id": edit_id, "order_id": order.order_id, "committed_at": local(moment, 0)}
        yield shopify_event(rng, moment, "orders/edited", edit_id, {"order_edit": edit})
        yield order_event(rng, moment + MOMENT, "orders/updated", order, reporting)
        moment += MOMENT
    while order.paid and order.total > 0 and rng.random() < REFUNDED:
        moment = after(rng, moment, MOMENT, 2 * DAY)
        yield from _refund(shop, order, moment, whole=rng.random() < WHOLE)
    draw = rng.random()
    if draw < CANCELLED:
        moment = order.cancelled = after(rng, moment, MOMENT, DAY)
        if order.paid and order.total > 0 and rng.random() < 0.7:
            yield from _refund(shop, order, moment, whole=True)
            moment += MOMENT
        yield order_event(rng, moment, "orders/cancelled", order, reporting)
    elif draw < CANCELLED + DELETED:
        moment = after(rng, moment, MOMENT, DAY)
        yield deletion(rng, moment, order)


def _refund(shop: Shop, order: Order, moment: datetime, *, whole: bool) -> Iterator[Step]:
    """Money goes back: all of it, that of one unit of a line, or some amount."""
    rng, items = shop.rng, []
    amount = order.total
    if not whole:
        units = [
            line
            for line in order.lines
            if line.discount == 0 and line.quantity > line.removed + line.returned and line.price < order.total
        ]
        if units and rng.random() < 0.6:
            line = rng.choice(units)
            line.returned, amount = line.returned + 1, line.price
            items = [{"line_item_id": line.line_id, "quantity": 1, "subtotal": money(amount, order.currency)}]
        else:
            amount = rng.randint(1, order.total)
    order.refunded += amount
    paid = money(amount, order.currency)
    transaction = {"id": next(shop.ids), "kind": "refund", "status": "success", "amount": paid}
    refund_id = next(shop.ids)
    order.refunds = [
        *order.refunds,
        {
            "id": refund_id,
            "order_id": order.order_id,
            "created_at": local(moment, order.order_id),
            "refund_line_items": items,
            "transactions": [{**transaction, "currency": order.currency}],
        },
    ]
    yield order_event(rng, moment, "orders/updated", order, shop.reporting)
    charge = order.charge
    if charge is not None and (back := min(amount, charge.kept)) > 0:
        yield from charges.refund(rng, moment + SECOND, charge, back, shop.reporting)


def charge_life(shop: Shop, person: Person, created: datetime) -> Iterator[Step]:
    """A charge that pays no order: somebody pays by a link."""
    currency = shop.currency()
    product = shop.rng.choice(list(shop.products))
    charge = shop.charge(created, person, shop.price(product, currency), currency)
    charge.description = product
    if shop.rng.random() < NOWHERE:
        charge.city = None
    yield from charges.lone(shop.rng, charge, shop.reporting)
