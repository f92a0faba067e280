"""How the simulated providers deliver: everything arrives, in whatever order, as its provider signs it."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.webhooks import sign_hubspot, sign_shopify, sign_stripe
from tools.traffic.shop.delivery import LATEST, NEWEST, OLDER, Delivery, body, plan, signed
from tools.traffic.shop.history import history

START = datetime(2026, 2, 19, 7, 0, tzinfo=UTC)
NOW_MS = 1_771_496_103_120
SECRETS = ("new-secret", "old-secret")
URL = "https://hooks.example.com"
LARGE = history(3, people=150, orders=400, start=START)
PLAN = plan(LARGE.events, 5)


@settings(deadline=None)
@given(st.integers(0, 2**64), st.integers(0, 2**64), st.integers(0, 10))
def test_every_event_is_delivered_at_least_once(seed: int, plan_seed: int, orders: int) -> None:
    """Whatever the plan, each event arrives, after it happened, and none that did not happen."""
    events = history(seed, people=3, orders=orders, start=START).events
    deliveries = plan(events, plan_seed)
    assert deliveries == plan(events, plan_seed)
    assert {event.event_id for delivery in deliveries for event in delivery.events} == {e.event_id for e in events}
    assert [delivery.arrives for delivery in deliveries] == sorted(delivery.arrives for delivery in deliveries)
    for delivery in deliveries:
        assert delivery.events[-1].occurred_at <= delivery.arrives
        assert len(delivery.events) == 1 or delivery.provider == "hubspot"
        assert {event.provider for event in delivery.events} == {delivery.provider}


def test_deliveries_are_what_providers_do() -> None:
    """Some are repeated, some tried again, some days late, some overtake others; HubSpot sends several at once."""
    ids = [event.event_id for delivery in PLAN for event in delivery.events]
    assert len(ids) > 1.05 * len(set(ids))
    assert {delivery.attempt for delivery in PLAN} >= {0, 1, 2}
    late = [d for d in PLAN if d.attempt == 0 and d.arrives - d.events[-1].occurred_at > timedelta(hours=12)]
    assert late
    assert all(d.arrives - d.events[-1].occurred_at < LATEST + timedelta(hours=4) for d in PLAN)
    moments = [delivery.events[0].occurred_at for delivery in PLAN]
    assert moments != sorted(moments)
    assert max(len(delivery.events) for delivery in PLAN) > 3


def test_a_retry_has_the_original_payload() -> None:
    """Every delivery of an event has the same bytes, but for HubSpot's count of attempts within them."""
    for delivery in PLAN:
        if delivery.provider != "hubspot":
            assert body(delivery) == delivery.events[0].body
            continue
        first = Delivery(delivery.provider, delivery.events, delivery.arrives)
        counted = json.loads(body(delivery))
        assert {event.pop("attemptNumber") for event in counted} == {delivery.attempt}
        assert counted == [{k: v for k, v in e.items() if k != "attemptNumber"} for e in json.loads(body(first))]
        assert len(counted) == len(delivery.events)


def test_secrets_are_rolled_half_way() -> None:
    """First the older secret signs, in the end the newest; between them both do, on one request of Stripe."""
    third = len(PLAN) // 3
    assert {delivery.secrets for delivery in PLAN[:third]} == {(OLDER,)}
    assert {delivery.secrets for delivery in PLAN[-third:]} == {(NEWEST,)}
    between = {(delivery.provider, delivery.secrets) for delivery in PLAN[third + 1 : -third - 1]}
    assert ("stripe", (NEWEST, OLDER)) in between
    assert {("shopify", (NEWEST,)), ("shopify", (OLDER,))} <= between


def test_requests_are_signed_as_the_providers_document() -> None:
    """Shopify signs the body, Stripe the time and the body, HubSpot method, public address, body and time."""
    paths = set()
    for delivery in PLAN:
        request = signed(delivery, SECRETS, URL, NOW_MS)
        chosen = [SECRETS[index] for index in delivery.secrets]
        paths.add(request.path)
        if delivery.provider == "shopify":
            assert request.headers["X-Shopify-Hmac-Sha256"] == sign_shopify(chosen[0], request.body)
            assert request.headers["X-Shopify-Event-Id"] == delivery.events[0].event_id
        elif delivery.provider == "stripe":
            expected = [f"v1={sign_stripe(secret, NOW_MS // 1000, request.body)}" for secret in chosen]
            assert request.headers["Stripe-Signature"].split(",") == [f"t={NOW_MS // 1000}", *expected]
        else:
            assert request.headers["X-HubSpot-Request-Timestamp"] == str(NOW_MS)
            expected = [sign_hubspot(chosen[0], "POST", f"{URL}/webhooks/hubspot", request.body, NOW_MS)]
            assert [request.headers["X-HubSpot-Signature-v3"]] == expected
    assert paths == {
        "/webhooks/shopify/orders", "/webhooks/shopify/customers", "/webhooks/shopify/products",
        "/webhooks/shopify/privacy", "/webhooks/shopify/other", "/webhooks/stripe", "/webhooks/hubspot",
    }  # fmt: skip


def test_one_secret_signs_all() -> None:
    """Where only one secret is set, it signs whatever the plan says, and Stripe signs once."""
    for delivery in PLAN:
        request = signed(delivery, ("only",), URL, NOW_MS)
        if delivery.provider == "stripe":
            expected = sign_stripe("only", NOW_MS // 1000, request.body)
            assert request.headers["Stripe-Signature"] == f"t={NOW_MS // 1000},v1={expected}"
