"""A history of the simulated shop: every event that its providers send, in true order, and what is true in the end."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tools.traffic.shop.charges import customer_steps
from tools.traffic.shop.crm import crm_lives
from tools.traffic.shop.model import Event, ExpectedSale, Key, Step, expected, token
from tools.traffic.shop.people import Person
from tools.traffic.shop.people import people as make_people
from tools.traffic.shop.storefront import Shop, charge_life, customer_life, order_life, product_lives

MARGIN = timedelta(minutes=15)  # for what precedes an order: its customer, its draft, its payment intent


@dataclass(frozen=True)
class Truth:
    """What the events add up to, from the shop's own state.

    `sales` are those that must be ranked, by source and id. `payments` tells which charge pays which order. `owners`
    tells which of `people` (by number) each (provider, kind, id) is: customers, contacts, orders and charges.
    """

    sales: Mapping[Key, ExpectedSale]
    payments: Mapping[str, str]
    people: Mapping[int, Person]
    owners: Mapping[tuple[str, str, str], int]


@dataclass(frozen=True)
class History:
    """The events in true order, and their truth."""

    events: tuple[Event, ...]
    truth: Truth


def history(
    seed: int,
    *,
    people: int,
    orders: int,
    start: datetime,
    span: timedelta = timedelta(days=7),
    charges: int | None = None,
    reporting: str = "BRL",
) -> History:
    """What happens in `span` from `start` on: `orders`, `charges` without an order (default: a third as many).

    The same arguments give the same bytes. Sales in other currencies than `reporting` happen, but are none of `sales`.

    Raises:
        ValueError: no people, or a span of a quarter of an hour or less.
    """
    if people < 1 or span <= MARGIN:
        raise ValueError(f"a shop has people, and more than {MARGIN} of time: {people} and {span} are not enough")
    rng = random.Random(seed)
    start = start.astimezone(UTC)
    end = start + span
    shop = Shop(rng, make_people(rng, people, start, span), reporting, first_id=rng.randrange(10**8) * 100_000)
    steps = sorted(_steps(shop, orders, orders // 3 if charges is None else charges, start, span), key=_moment)
    events = tuple(event for moment, event in steps if moment < end)
    ids = {event.object_id for event in events}
    truth = Truth(
        sales=expected(events),
        payments={charge: order for charge, order in shop.payments.items() if charge in ids},
        people={person.number: person for person in shop.people},
        owners={(e.provider, e.owner[0], e.object_id): e.owner[1] for e in events if e.owner is not None},
    )
    return History(events, truth)


def _moment(step: Step) -> datetime:
    return step[0]


def _steps(shop: Shop, orders: int, charges: int, start: datetime, span: timedelta) -> Iterator[Step]:
    """Everything that happens, life by life; also what happens after the end, which is cut off."""
    rng = shop.rng
    moments = sorted(start + MARGIN + (span - MARGIN) * rng.random() for _ in range(orders + charges))
    purchases = [(moment, rng.choice(shop.people)) for moment in moments]
    without_order = set(rng.sample(range(len(purchases)), charges))
    firsts: dict[int, datetime] = {}
    for moment, person in purchases:
        firsts.setdefault(person.number, moment - timedelta(minutes=rng.uniform(6, 14)))
    yield from product_lives(shop, start)
    customer_ids = {}
    for number, first in firsts.items():
        customer_ids[number] = next(shop.ids)
        yield from customer_life(shop, shop.people[number], customer_ids[number], first)
        if rng.random() < 0.6:
            customer = shop.customers[number] = token(rng, "cus_", 14)
            yield from customer_steps(rng, customer, shop.people[number], first)
    for index, (moment, person) in enumerate(purchases):
        if index in without_order:
            yield from charge_life(shop, person, moment)
        else:
            yield from order_life(shop, 1001 + index, person, customer_ids[person.number], moment)
    yield from crm_lives(shop, firsts, next(shop.ids))
