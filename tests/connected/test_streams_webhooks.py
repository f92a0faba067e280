"""Orders and charges through real topics: both services make one sale of them, and a dead letter can be replayed."""

import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contracts.json_avro import plain
from contracts.versions import MAX_VERSION
from streams.reporting import ReportingSettings
from streams.shopify.agents import agent as shopify
from streams.shopify.settings import Settings as ShopifySettings
from streams.stripe.agents import agent as stripe
from streams.stripe.settings import Settings as StripeSettings
from tests.connected.commands import placar
from tests.connected.streams import Published, Servers, unique, unit_in_process, until
from tests.connected.unit_process import unit_process
from tests.webhook_events import SOLD, charge_event, enveloped, order_event
from tools.traffic.shop.delivery import plan
from tools.traffic.shop.history import history

pytestmark = pytest.mark.timeout(600)

KILLS = 5

Read = Callable[[], Awaitable[None]]


async def fed(reached: Servers, *events: dict[str, Any]) -> None:
    """Write the events to their topics, as the receiver does."""
    for topic in dict.fromkeys(event["topic"] for event in events):
        mine = [plain(event) for event in events if event["topic"] == topic]
        await reached.feed(topic, await reached.encode(topic, mine))


async def until_sold(published: Published, read: Read, expected: Mapping[str, Decimal | None]) -> None:
    """Wait until these sales are as expected by their ids: their amount, or None for a deletion."""

    async def sold() -> bool:
        await read()
        sales = published.sales()
        now = {name: None if sales[name]["deleted"] else sales[name]["amount"] for name in expected if name in sales}
        return now == expected

    await until(sold, f"the sales are {expected}")


async def test_of_an_order_and_its_charge_one_sale_remains(servers: Mapping[str, str]) -> None:
    """The order deletes the sale of the charge that it names, whichever comes first, whatever the charge becomes."""
    reached, first, last = Servers(servers), unique("pi"), unique("pi")
    orders = [int(unique("")[1:], 16) for _ in range(2)]
    events = {
        intent: order_event(id=number, note_attributes=[{"name": "stripe_payment_intent", "value": intent}])
        for intent, number in zip((first, last), orders, strict=True)
    }
    async with AsyncExitStack() as stack:
        published, read = await stack.enter_async_context(reached.published())
        await stack.enter_async_context(unit_in_process(reached, shopify(ShopifySettings()), unique("shopify")))
        await stack.enter_async_context(unit_in_process(reached, stripe(StripeSettings()), unique("stripe")))
        await fed(reached, charge_event(payment_intent=first))
        await until_sold(published, read, {first: Decimal("184.50")})
        await fed(reached, events[last], events[first])
        await until_sold(published, read, {str(orders[0]): Decimal("184.50"), first: None, last: None})
        before = len(published.records)
        refunded = charge_event("charge.refunded", payment_intent=first, amount_refunded=1)
        await fed(reached, refunded, charge_event(payment_intent=last))

        async def both_read() -> bool:
            await read()
            made = [value for topic, _, value in published.records[before:] if topic == "sales.unified"]
            return {first, last} <= {value["sale_id"] for value in made if not value["deleted"]}

        await until(both_read, "the charges' later events are published")
    assert {name: published.sales()[name]["version"] for name in (first, last)} == dict.fromkeys(
        (first, last), MAX_VERSION
    )
    assert {published.sales()[name]["deleted"] for name in (first, last)} == {True}


async def test_a_sale_in_another_currency_counts_once_that_is_the_reporting_currency(
    servers: Mapping[str, str],
) -> None:
    """It is dead-lettered with its reason; after a restart with the other currency a replay makes the sale of it."""
    reached, unit, number = Servers(servers), unique("shopify"), int(unique("")[1:], 16)
    async with reached.published() as (published, read):
        async with unit_in_process(reached, shopify(ShopifySettings()), unit):
            await fed(reached, order_event(id=number, currency="USD"))

            async def dead() -> bool:
                await read()
                letters = published.dead_letters(unit).values()
                return any(b'"id": %d,' % number in letter["value"] for letter in letters)

            await until(dead, "the order is a dead letter")
        listed = await placar(
            servers, "dead-letters", "list", "--unit", unit, "--reason", "currency_not_ranked", "--json"
        )
        mine = [line["id"] for line in listed.lines if "'USD'" in line["detail"]]
        in_dollars = ShopifySettings(reporting=ReportingSettings(currency="USD"))
        async with unit_in_process(reached, shopify(in_dollars), unit):
            replayed = await placar(servers, "dead-letters", "replay", *mine, "--json")
            assert replayed.lines[-1]["replayed"] == len(mine), json.dumps(replayed.lines)
            await until_sold(published, read, {str(number): Decimal("184.50")})


async def test_the_simulated_shop_adds_up_over_kills(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Both services are killed again and again while a week of the shop comes late, repeated and mixed: it adds up."""
    reached = Servers(servers)
    made = history(random.SystemRandom().getrandbits(64), people=40, orders=250, start=SOLD)
    events = [
        enveloped(event)
        for delivery in plan(made.events, 7)
        for event in delivery.events
        if event.provider != "hubspot"
    ]
    mine = [event for event in events if event["topic"] in ("shopify.orders", "stripe.charges")]
    chunks = [mine[first : first + len(mine) // KILLS + 1] for first in range(0, len(mine), len(mine) // KILLS + 1)]
    async with AsyncExitStack() as stack:
        published, read = await stack.enter_async_context(reached.published("sales.unified"))
        workers = [
            await stack.enter_async_context(
                unit_process(f"streams.{name}", servers, tmp_path / f"{name}.log", wait=True)
            )
            for name in ("shopify", "stripe")
        ]
        for chunk in chunks:
            feeding = asyncio.create_task(fed(reached, *chunk))
            for worker in workers:
                await worker.end(signal.SIGKILL)
                await worker.start()
            await feeding
            for worker in workers:
                await until(worker.ready, "the killed service is ready again")

        async def all_read() -> bool:
            await read()
            return not any(
                [await reached.lag("shopify", "shopify.orders"), await reached.lag("stripe", "stripe.charges")]
            )

        await until(all_read, "everything is read", 180)
        await read()
    ids = {name for event in made.events for (_, name), _ in event.sales}
    ids |= {name for event in made.events for _, name in event.paid_with}
    sold = {
        (sale["source"], name): (
            sale["amount"],
            sale["city"],
            sale["salesman_name"],
            sale["product"],
            sale["event_time"],
        )
        for name, sale in published.sales().items()
        if name in ids and not sale["deleted"]
    }
    assert sold == {
        key: (sale.amount, sale.city, sale.salesperson, sale.product, sale.event_time)
        for key, sale in made.truth.sales.items()
    }
