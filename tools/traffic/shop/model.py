"""What the simulated shop consists of: the events its providers send, and the truth that they add up to."""

import json
import random
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from contracts.webhooks import Provider

Key = tuple[str, str]
"""A sale's source and id: ("shopify", order id), ("stripe", payment intent or charge)."""

CENT = Decimal("0.01")
DECIMALS = MappingProxyType({"BRL": 2, "USD": 2, "EUR": 2, "JPY": 0})
"""Decimal places of each currency that the shop takes (ISO 4217)."""

_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ExpectedSale:
    """A sale as it must be ranked: `amount` in the reporting currency, `event_time` in whole seconds."""

    amount: Decimal
    city: str
    country: str
    salesperson: str
    product: str
    event_time: datetime


@dataclass(frozen=True)
class Event:
    """One event of a provider, its body byte for byte; HubSpot's is one element of the array that it sends.

    `occurred_at` is as fine as the provider tells it: Shopify microseconds, Stripe seconds, HubSpot milliseconds.
    `headers` are the provider's own, without the signature. `sales` is what is true of the sales that the event is
    about, once it has happened (None: no sale), and `paid_with` are those that turn out to be payments of an order.
    `owner` is the kind of object and the number of the person that it is or belongs to.
    """

    provider: Provider
    event_type: str
    event_id: str
    object_id: str
    occurred_at: datetime
    body: bytes
    api_version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sales: tuple[tuple[Key, ExpectedSale | None], ...] = ()
    paid_with: tuple[Key, ...] = ()
    owner: tuple[str, int] | None = None


Step = tuple[datetime, Event]
"""An event and when it happened, to the microsecond also where the provider tells less."""


def outcome(events: Iterable[Event]) -> dict[Key, ExpectedSale | None]:
    """Every sale that these events, given in true order, are about, as it must be ranked; None where it must not be."""
    sales: dict[Key, ExpectedSale | None] = {}
    payments: set[Key] = set()
    for event in events:
        sales.update(event.sales)
        payments.update(event.paid_with)
    return sales | dict.fromkeys(payments)


def expected(events: Iterable[Event]) -> dict[Key, ExpectedSale]:
    """The sales that must be ranked when these events, given in true order, have been delivered."""
    return {key: sale for key, sale in outcome(events).items() if sale is not None}


def token(rng: random.Random, prefix: str, length: int = 24) -> str:
    """An id as Stripe gives them."""
    return prefix + "".join(rng.choices(_ALPHANUMERIC, k=length))


def uuid(rng: random.Random) -> str:
    """A random UUID of version 4."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def money(minor: int, currency: str) -> str:
    """An amount of minor units as Shopify and HubSpot write it: "184.50", and "1200" of a currency without cents."""
    places = DECIMALS[currency]
    return format(Decimal(minor).scaleb(-places), f".{places}f")


def sale_amount(minor: int, currency: str) -> Decimal:
    """An amount of minor units as a sale carries it."""
    return Decimal(minor).scaleb(-DECIMALS[currency]).quantize(CENT)


def after(rng: random.Random, moment: datetime, shortest: timedelta, longest: timedelta) -> datetime:
    """A later moment; short delays are the common ones."""
    return moment + shortest + (longest - shortest) * rng.random() ** 3


def compact(value: Any) -> bytes:
    """JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
