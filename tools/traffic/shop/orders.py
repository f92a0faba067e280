"""What Shopify sends of an order, and what the order is worth: its state is the simulated shop's own."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from contracts.webhooks import Provider
from tools.traffic.shop.charges import Charge
from tools.traffic.shop.model import Event, ExpectedSale, Key, Step, compact, money, sale_amount, uuid
from tools.traffic.shop.people import COUNTRIES, Person

API_VERSION = "2026-01"
DOMAIN = "placar-demo.myshopify.com"
SHOPIFY: Provider = "shopify"
ZONES = (timezone(timedelta(hours=-3)), timezone(timedelta(hours=-2)), timezone(timedelta(0)))


@dataclass
class Line:
    """A line item: prices and discounts in minor units, the discount of the whole line.

    `quantity` is what was ordered; an edit has removed `removed` of it, and `returned` were refunded.
    """

    line_id: int
    product: str
    product_id: int
    price: int
    quantity: int
    discount: int = 0
    removed: int = 0
    returned: int = 0

    @property
    def value(self) -> int:
        """What it was worth when it was ordered."""
        return self.price * self.quantity - self.discount

    @property
    def left(self) -> int:
        """The price of what is left of it."""
        return self.price * (self.quantity - self.removed - self.returned)


@dataclass
class Order:
    """An order as the shop holds it; amounts in minor units of its currency.

    `shipped_to` is the city of the recipient's address as it was typed, `billed_to` that of the person's; None where
    there is no such address, as over the counter. `charge` pays it; with `names_charge` its note attributes say so.
    """

    order_id: int
    number: int
    person: Person
    customer_id: int
    email: str
    created: datetime
    currency: str
    source_name: str
    lines: list[Line]
    recipient: Person
    shipped_to: str | None
    billed_to: str | None
    shipping: int = 0
    presentment: str | None = None
    test: bool = False
    paid: bool = False
    cancelled: datetime | None = None
    refunds: list[dict[str, Any]] = field(default_factory=list)
    refunded: int = 0
    charge: Charge | None = None
    names_charge: bool = False

    @property
    def key(self) -> Key:
        """Of its sale."""
        return "shopify", str(self.order_id)

    @property
    def gross(self) -> int:
        """What was ordered, edits added, with shipping."""
        return sum(line.value for line in self.lines) + self.shipping

    @property
    def total(self) -> int:
        """What it is worth now: less what edits removed and what was refunded."""
        return self.gross - sum(line.price * line.removed for line in self.lines) - self.refunded


def sale_of(order: Order, reporting: str) -> ExpectedSale | None:
    """The sale that an order is, if it is one."""
    nowhere = order.shipped_to is None and order.billed_to is None
    if order.test or order.cancelled or order.total <= 0 or order.currency != reporting or nowhere:
        return None
    home = order.person.home if order.shipped_to is None else order.recipient.home
    return ExpectedSale(
        amount=sale_amount(order.total, order.currency),
        city=home.city,
        country=home.country,
        salesperson=order.source_name,
        product=max(order.lines, key=lambda line: line.left).product,
        event_time=order.created.replace(microsecond=0),
    )


def shopify_event(rng: random.Random, moment: datetime, topic: str, object_id: int, body: Any, **truth: Any) -> Step:
    """A webhook of a topic with its headers; what the version of an order is taken from is finer than its body."""
    event_id = uuid(rng)
    headers = {
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": DOMAIN,
        "X-Shopify-API-Version": API_VERSION,
        "X-Shopify-Event-Id": event_id,
        "X-Shopify-Webhook-Id": uuid(rng),
        "X-Shopify-Triggered-At": f"{moment:%Y-%m-%dT%H:%M:%S.%f}{rng.randrange(1000):03}Z",
    }
    content = compact(body)
    return moment, Event(SHOPIFY, topic, event_id, str(object_id), moment, content, API_VERSION, headers, **truth)


def local(moment: datetime, order_id: int) -> str:
    """An instant as Shopify writes it: whole seconds, with the offset of the shop or of where the order was made."""
    return moment.astimezone(ZONES[order_id % 7 % len(ZONES)]).isoformat(timespec="seconds")


def address_body(person: Person, city: str | None) -> dict[str, Any] | None:
    """An address as Shopify writes it."""
    if city is None:
        return None
    home = person.home
    return {
        "first_name": person.first,
        "last_name": person.last,
        "name": f"{person.first} {person.last}",
        "address1": person.street,
        "address2": None,
        "city": city,
        "zip": person.postcode,
        "province": None,
        "province_code": home.state,
        "country": COUNTRIES[home.country][0],
        "country_code": home.country,
        "phone": person.phone,
    }


def _money_set(minor: int, order: Order) -> dict[str, Any]:
    # what the customer sees in another currency is worth five times less there, and must not be taken for the amount
    shown = minor if order.presentment is None else minor // 5
    return {
        "shop_money": {"amount": money(minor, order.currency), "currency_code": order.currency},
        "presentment_money": {
            "amount": money(shown, order.presentment or order.currency),
            "currency_code": order.presentment or order.currency,
        },
    }


def _line_body(line: Line, order: Order) -> dict[str, Any]:
    discounted = [{"amount": money(line.discount, order.currency), "discount_application_index": 0}]
    return {
        "id": line.line_id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.line_id}",
        "product_id": line.product_id,
        "variant_id": line.product_id * 10,
        "title": line.product,
        "name": line.product,
        "sku": line.product.upper()[:8],
        "vendor": "Placar",
        "quantity": line.quantity,
        "current_quantity": line.quantity - line.removed - line.returned,
        "price": money(line.price, order.currency),
        "price_set": _money_set(line.price, order),
        "total_discount": money(0, order.currency),
        "discount_allocations": discounted if line.discount else [],
        "gift_card": False,
        "taxable": True,
        "fulfillment_status": None,
    }


def _financial_status(order: Order) -> str:
    if not order.paid:
        return "voided" if order.cancelled else "pending"
    if order.refunded:
        return "refunded" if order.total <= 0 else "partially_refunded"
    return "paid"


def _note_attributes(order: Order) -> list[dict[str, str]]:
    charge = order.charge
    if charge is None or not order.names_charge:
        return []
    named = {"stripe_payment_intent": charge.intent, "stripe_charge": charge.charge_id}
    return [{"name": name, "value": value} for name, value in named.items() if value is not None]


def order_body(order: Order, moment: datetime) -> dict[str, Any]:
    """The order as Shopify holds it at a moment."""
    amounts = {
        "total_price": order.gross,
        "subtotal_price": order.gross - order.shipping,
        "total_line_items_price": sum(line.price * line.quantity for line in order.lines),
        "total_discounts": sum(line.discount for line in order.lines),
        "current_total_price": order.total,
        "total_outstanding": 0 if order.paid else order.total,
        "total_tax": 0,
    }
    return {
        "id": order.order_id,
        "admin_graphql_api_id": f"gid://shopify/Order/{order.order_id}",
        "app_id": 580111,
        "name": f"#{order.number}",
        "order_number": order.number,
        "confirmed": True,
        "test": order.test,
        "currency": order.currency,
        "presentment_currency": order.presentment or order.currency,
        **{name: money(minor, order.currency) for name, minor in amounts.items()},
        "current_total_price_set": _money_set(order.total, order),
        "total_shipping_price_set": _money_set(order.shipping, order),
        "taxes_included": True,
        "financial_status": _financial_status(order),
        "fulfillment_status": None,
        "cancel_reason": "customer" if order.cancelled else None,
        "cancelled_at": local(order.cancelled, order.order_id) if order.cancelled else None,
        "closed_at": None,
        "created_at": local(order.created, order.order_id),
        "processed_at": local(order.created, order.order_id),
        "updated_at": local(moment, order.order_id),
        "source_name": order.source_name,
        "email": order.email,
        "contact_email": order.email,
        "phone": None,
        "note": None,
        "note_attributes": _note_attributes(order),
        "tags": "",
        "payment_gateway_names": ["manual"] if order.charge is None else ["stripe"],
        "customer": {
            "id": order.customer_id,
            "email": order.email,
            "first_name": order.person.first,
            "last_name": order.person.last,
            "phone": order.person.phone,
        },
        "billing_address": address_body(order.person, order.billed_to),
        "shipping_address": address_body(order.recipient, order.shipped_to),
        "line_items": [_line_body(line, order) for line in order.lines],
        "shipping_lines": [{"title": "PAC", "price": money(order.shipping, order.currency)}] if order.shipping else [],
        "refunds": order.refunds,
    }


def order_event(rng: random.Random, moment: datetime, topic: str, order: Order, reporting: str) -> Step:
    """A webhook with the order as it is then, and what is true: of its sale, and of the payment that it names."""
    charge = order.charge
    named = (charge.key,) if charge is not None and order.names_charge and charge.order_id is None else ()
    sales, owner = ((order.key, sale_of(order, reporting)),), ("order", order.person.number)
    body = order_body(order, moment)
    return shopify_event(rng, moment, topic, order.order_id, body, sales=sales, paid_with=named, owner=owner)


def deletion(rng: random.Random, moment: datetime, order: Order) -> Step:
    """An order is deleted: the webhook has nothing but its id."""
    body = {"id": order.order_id}
    return shopify_event(rng, moment, "orders/delete", order.order_id, body, sales=((order.key, None),))
