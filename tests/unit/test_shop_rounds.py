"""Rounds of the simulated shop: what is delivered next, what it amounts to, and what the providers list of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from chassis.errors import NotDoneError
from contracts.webhooks import TOPICS
from tools.traffic.shop.check import differences, report
from tools.traffic.shop.delivery import Delivery
from tools.traffic.shop.model import ExpectedSale, expected, outcome
from tools.traffic.shop.rounds import SPAN, Rounds, round_history
from tools.traffic.shop.settings import WebhooksSettings

NOW = datetime(2026, 2, 19, 10, 0, 0, 123, tzinfo=UTC)
START = NOW.replace(microsecond=0) - SPAN
ROUND = round_history(7 << 20, START)


@pytest.fixture
def opened() -> list[tuple[int, datetime]]:
    """Seed and start of each round that began."""
    return []


def rounds(opened: list[tuple[int, datetime]], *providers: str, remember: bool = True) -> Rounds:
    """Rounds of seed 7, at noon every day."""
    chosen = [provider for provider in TOPICS if provider in (providers or TOPICS)]
    days = iter(range(100))
    return Rounds(
        7,
        chosen,
        lambda: NOW + timedelta(days=next(days)),
        lambda seed, start: opened.append((seed, start)),
        remember=remember,
    )


def taken(source: Rounds, size: int) -> Iterator[list[Delivery]]:
    """All deliveries of the next round, so many at a time, each acknowledged."""
    while True:
        deliveries = source.take(size)
        source.acknowledged(deliveries)
        yield list(deliveries)
        if len(deliveries) < size:
            return


def test_a_round_is_delivered_whole(opened: list[tuple[int, datetime]]) -> None:
    """Every event of the round arrives; what must be ranked then is the round's truth; then the next one begins."""
    source = rounds(opened)
    deliveries = [delivery for some in taken(source, 100) for delivery in some]
    assert opened == [(7 << 20, START)]
    arrived = {event.event_id for delivery in deliveries for event in delivery.events}
    assert arrived == {event.event_id for event in ROUND.events}
    assert {k: v for k, v in source.outcome().items() if v is not None} == ROUND.truth.sales
    source.take(1)
    assert opened[1:] == [((7 << 20) + 1, START + timedelta(days=1))]


def test_what_did_not_arrive_is_not_expected(opened: list[tuple[int, datetime]]) -> None:
    """Of a round that is broken off, the outcome is that of the events which were acknowledged."""
    source = rounds(opened)
    arrived = source.take(300)
    source.acknowledged(arrived)
    source.take(200)
    ids = {event.event_id for delivery in arrived for event in delivery.events}
    assert source.outcome() == outcome(event for event in ROUND.events if event.event_id in ids)


@pytest.mark.parametrize("remember", [True, False])
def test_earlier_rounds_are_remembered_where_asked(opened: list[tuple[int, datetime]], remember: bool) -> None:
    """With `remember` the outcome is of all rounds, otherwise of the last."""
    source = rounds(opened, remember=remember)
    list(taken(source, 1000))
    first = source.outcome()
    list(taken(source, 1000))
    assert len(opened) == 2
    assert (first.items() <= source.outcome().items()) == remember


def test_one_provider_alone(opened: list[tuple[int, datetime]]) -> None:
    """Only what the chosen providers send is delivered, and is what the outcome knows of."""
    source = rounds(opened, "stripe")
    deliveries = [delivery for some in taken(source, 500) for delivery in some]
    assert {delivery.provider for delivery in deliveries} == {"stripe"}
    assert {key[0] for key in source.outcome()} == {"stripe"}


def test_what_is_ranked_has_the_reporting_currency() -> None:
    """Where another currency is ranked, the shop sells in that one."""
    source = Rounds(7, ["shopify"], lambda: NOW, lambda seed, start: None, remember=False, reporting="JPY")
    list(taken(source, 5000))
    sales = [sale for sale in source.outcome().values() if sale is not None]
    assert len(sales) > 100
    assert all(sale.amount == sale.amount.to_integral_value() for sale in sales)


SALE = ExpectedSale(Decimal("10.00"), "Recife", "BR", "web", "SSD", START)


def test_each_difference_is_named() -> None:
    """A sale that is missing, another, or should not be there is one line each; the last line counts."""
    due = {("shopify", "1"): SALE, ("shopify", "2"): SALE, ("stripe", "pi_3"): None, ("stripe", "pi_4"): None}
    stored = {("shopify", "2"): replace(SALE, amount=Decimal("9.99")), ("stripe", "pi_3"): SALE}
    missing, other, extra = differences(due, stored)
    assert missing.startswith("shopify:1 is no sale, must be ExpectedSale(amount=Decimal('10.00')")
    assert "Decimal('9.99')" in other
    assert "Decimal('10.00')" in other
    assert extra.endswith("must be no sale")
    assert list(report(due, [missing, other, extra]))[-1].endswith("2 must not: 3 of them differ")
    assert not list(differences(due, {("shopify", "1"): SALE, ("shopify", "2"): SALE}))
    assert list(report(due, []))[-1].endswith("all as it must be")


def test_a_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two secrets are read newest first; none at all ends with the setting's name and the remedy."""
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRETS", "new,old")
    monkeypatch.setenv("WEBHOOKS_PORT", "9999")
    monkeypatch.delenv("STRIPE_WEBHOOK_SECRETS", raising=False)
    settings = WebhooksSettings()
    assert settings.secrets("shopify") == ("new", "old")
    assert settings.url == settings.public_url == "http://127.0.0.1:9999"
    with pytest.raises(NotDoneError, match="STRIPE_WEBHOOK_SECRETS is not set"):
        settings.secrets("stripe")


def test_json_stays_readable() -> None:
    """Every body of a round is JSON, and each sale's events are in it."""
    assert all(json.loads(event.body) for event in ROUND.events)
    assert set(expected(ROUND.events)) <= {key for event in ROUND.events for key, _ in event.sales}
