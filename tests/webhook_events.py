"""Envelopes of webhooks as the streams services get them, for tests: an order's and a charge's, with chosen fields."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.time import EPOCH
from services.webhooks.transform import Delivery
from services.webhooks.transform import events as received
from tools.traffic.shop.model import Event

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOLD = datetime(2026, 2, 19, 10, 15, tzinfo=UTC)

ORDER: Mapping[str, Any] = {
    "id": 1001,
    "test": False,
    "currency": "BRL",
    "current_total_price": "184.50",
    "financial_status": "paid",
    "cancelled_at": None,
    "created_at": "2026-02-19T07:15:00-03:00",
    "source_name": "web",
    "note_attributes": [],
    "billing_address": None,
    "shipping_address": {"city": "Recife", "country_code": "BR"},
    "line_items": [{"title": "Headset", "quantity": 1, "price": "184.50"}],
}
CHARGE: Mapping[str, Any] = {
    "id": "ch_1",
    "object": "charge",
    "amount": 18450,
    "amount_captured": 18450,
    "amount_refunded": 0,
    "captured": True,
    "currency": "brl",
    "created": int(SOLD.timestamp()),
    "livemode": True,
    "status": "succeeded",
    "payment_intent": "pi_1",
    "description": "Headset",
    "calculated_statement_descriptor": None,
    "metadata": {},
    "billing_details": {"address": {"city": "Recife", "country": "BR"}},
    "shipping": None,
}


def envelope(provider: str, topic: str, event_type: str, body: Any, occurred_at: datetime | None) -> dict[str, Any]:
    """What the receiver makes of a request with this body, bytes or what becomes JSON."""
    return {
        "provider": provider,
        "topic": topic,
        "event_id": "an event",
        "object_id": "an object",
        "event_type": event_type,
        "api_version": None,
        "occurred_at": occurred_at,
        "received_at": NOW - timedelta(seconds=1),
        "attempt": None,
        "headers": [],
        "body": body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode(),
    }


def order_event(event_type: str = "orders/updated", at: datetime | None = SOLD, **fields: Any) -> dict[str, Any]:
    """An event with the order as it is, with these fields instead of the usual ones."""
    return envelope("shopify", "shopify.orders", event_type, {**ORDER, **fields}, at)


def charge_event(
    event_type: str = "charge.succeeded", at: datetime = SOLD, live: bool = True, **fields: Any
) -> dict[str, Any]:
    """An event with the charge as it is, with these fields instead of the usual ones."""
    created = (at - EPOCH) // timedelta(seconds=1)
    event = {"type": event_type, "created": created, "livemode": live, "data": {"object": {**CHARGE, **fields}}}
    return envelope("stripe", "stripe.charges", event_type, event, at)


def enveloped(event: Event) -> dict[str, Any]:
    """What the receiver makes of an event of the simulated shop."""
    headers = {name.lower(): value for name, value in event.headers.items()}
    (output,) = received(Delivery(event.provider, headers, event.body, NOW - timedelta(seconds=1)))
    return dict(output.value)
