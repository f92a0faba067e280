"""Sales of days before that arrive while others are sold now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from chassis.results import Context, Output
from streams.shopify.transform import transform as shopify
from streams.stripe.transform import transform as stripe
from tests import oracle
from tests.histories import HOUR, Change, plain_sale
from tests.rankings import Reader, Sales, assert_whole_and_growing, until_own_right
from tests.webhook_events import NOW, charge_event, order_event

pytestmark = pytest.mark.timeout(900)

DAYS = (1, 2, 30)
ROUNDS = 5


def _late(days: int, number: int, at: datetime, **fixed: object) -> Change:
    now = datetime.now(UTC)
    return plain_sale(number, at, sale_id=f"late-{days}-{number}", source="files", ingestion_time=now, **fixed)


async def test_no_sale_is_too_late(sales: Sales, reader: Reader) -> None:
    """While sales come at now, those of ended hours, up to 30 days old, correct their rankings; none is dropped."""
    now = datetime.now(UTC)
    hours = {days: oracle.hour_of(now) - timedelta(days=days) for days in DAYS}
    ended = {
        (f"rankings.{ranking}", f"{hour:%Y-%m-%dT%H:%M:%SZ}{country}")
        for hour in hours.values()
        for ranking, country in (("city", ""), ("salesman", "/BR"))
    }

    def statuses() -> set[str]:
        return {reader.newest[key]["status"] if key in reader.newest else "absent" for key in ended}

    await sales.publish([plain_sale(0, now, sale_id="late-now")])
    await sales.publish([_late(days, number, hour) for days, hour in hours.items() for number in range(5)])
    await until_own_right(reader, sales, "the first sales of each hour")
    await reader.until(lambda: "provisional" not in statuses(), "the hours of days before have ended")
    before = {key: reader.newest[key]["revision"] for key in ended}

    for turn in range(1, ROUNDS + 1):
        await sales.publish([plain_sale(0, datetime.now(UTC), sale_id=f"late-now-{turn}")])
        for days, hour in hours.items():
            known = _late(days, turn - 1, hour, version=2)
            await sales.publish(
                [
                    _late(days, turn + 4, hour),
                    replace(known, deleted=True) if turn == 1 else replace(known, amount=Decimal("0.01") * turn),
                ]
            )
    await until_own_right(reader, sales, "the hours of days before with what came late")
    await reader.until(lambda: statuses() == {"corrected"}, "the hours of days before are corrected")
    assert all(reader.newest[key]["revision"] > revision for key, revision in before.items())
    for days, hour in hours.items():
        entries = reader.served()[oracle.SetKey("city", "", hour)]
        assert sum(entry.count for entry in entries) == 5 + ROUNDS - 1, f"{days} days ago, a sale is missing: {entries}"
    assert_whole_and_growing(reader)


async def test_a_late_sale_can_leave_an_ended_hour(sales: Sales, reader: Reader) -> None:
    """The only sale of an ended hour turns out to be of the hour before: that one is corrected, its own is empty."""
    now = datetime.now(UTC)
    at = oracle.hour_of(now) - timedelta(days=3, hours=5)
    only = plain_sale(1, at, sale_id="late-leaves", country="UY")
    keys = [("rankings.salesman", f"{hour:%Y-%m-%dT%H:%M:%SZ}/UY") for hour in (at, at - HOUR)]

    def shown() -> list[tuple[str, int]]:
        return [(one["status"], len(one["entries"])) for key in keys if (one := reader.newest.get(key))]

    before = plain_sale(2, at - HOUR, sale_id="late-stays", country="UY")
    await sales.publish([plain_sale(0, now, sale_id="late-leaves-now"), before, only])
    await reader.until(lambda: shown() == [("final", 1), ("final", 1)], "both hours have ended with a sale")
    await sales.publish([replace(only, version=2, event_time=at - HOUR)])
    await reader.until(lambda: shown() == [("corrected", 0), ("corrected", 2)], "the sale has left for the hour before")
    await until_own_right(reader, sales, "both sales are of the earlier hour")


def _made(event: dict[str, Any]) -> list[Change]:
    """What the services make of an order's or a charge's event."""
    transform = {"shopify": shopify, "stripe": stripe}[event["provider"]]
    result = transform(event, Context(NOW, NOW), currency="BRL")
    assert isinstance(result, Output), result
    return [Change(**output.value) for output in (result, *result.also)]


async def test_of_an_order_and_its_charge_one_stays_ranked(sales: Sales, reader: Reader) -> None:
    """A charge leaves the ranking when an order names it, and one that comes after its order never enters it."""
    key = ("rankings.salesman", "2026-02-19T10:00:00Z/PY")

    def charge(intent: str, **fields: Any) -> list[Change]:
        where = {"address": {"city": "Asunción", "country": "PY"}}
        return _made(charge_event("charge.updated", payment_intent=intent, billing_details=where, **fields))

    def order(number: int, intent: str) -> list[Change]:
        named = [{"name": "stripe_payment_intent", "value": intent}]
        where = {"city": "Asunción", "country_code": "PY"}
        return _made(order_event(id=number, shipping_address=where, note_attributes=named))

    def shown() -> dict[str, tuple[Decimal, int]]:
        entries = reader.newest[key]["entries"] if key in reader.newest else []
        return {entry["name"]: (entry["total_sales"], entry["transaction_count"]) for entry in entries}

    one = (Decimal("184.50"), 1)
    await sales.publish(charge("pi_first"))
    await reader.until(lambda: shown() == {"Stripe": one}, "the charge is ranked")
    await sales.publish(order(9001, "pi_first"))
    await reader.until(lambda: shown() == {"web": one}, "the order is ranked instead of its charge")
    await sales.publish(order(9002, "pi_last"))
    # in one partition, so that what is behind is ranked after the two
    await sales.publish([*charge("pi_first", amount_refunded=1), *charge("pi_last"), *charge("pi_alone")], partition=0)
    both = {"web": (Decimal("369.00"), 2), "Stripe": one}
    await reader.until(lambda: shown() == both, "both orders are ranked, and the charge without one")
    await until_own_right(reader, sales, "both orders, and the charge without one")
