"""How the providers deliver events: late, repeated, in another order, tried again, and signed. Pure."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from contracts.webhooks import PRIVATE, TOPICS, Provider, sign_hubspot, sign_shopify, sign_stripe
from tools.traffic.shop.model import Event

LATEST = timedelta(days=3)
LATE, RETRIED, REPEATED = 0.04, 0.08, 0.05
RETRY_AFTER = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120))
ARRAY_OF = timedelta(seconds=1)  # HubSpot's events within one second travel together
ARRAY_MAX = 100
NEWEST, OLDER = 0, 1  # of the settings' secrets, the newest first


@dataclass(frozen=True)
class Delivery:
    """One request: the events that it carries (several only of HubSpot) and when it arrives, in simulated time.

    `attempt` is 0 for the first; a retry has the original payload. `secrets` are those that it is signed with: the
    newest of the settings, the one before it, or both while Stripe rolls them.
    """

    provider: Provider
    events: tuple[Event, ...]
    arrives: datetime
    attempt: int = 0
    secrets: tuple[int, ...] = (NEWEST,)


@dataclass(frozen=True)
class Request:
    """What is posted to the receiver."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def plan(events: Iterable[Event], seed: int) -> list[Delivery]:
    """Every request that brings the events, as it arrives; the same arguments give the same plan.

    Each event arrives at least once: most within seconds, some up to three days late. Some deliveries have failed for
    the provider, which tries again though they did arrive, and some are simply repeated. In the middle of the time
    the secrets are rolled: the older signs first, both are valid for a while, then only the newest signs.
    """
    rng = random.Random(seed)
    found = [delivery for provider, together in _requests(events) for delivery in _arrivals(rng, provider, together)]
    found.sort(key=lambda delivery: delivery.arrives)
    return [
        replace(delivery, secrets=_secrets(rng, delivery.provider, index / len(found)))
        for index, delivery in enumerate(found)
    ]


def _requests(events: Iterable[Event]) -> Iterator[tuple[Provider, tuple[Event, ...]]]:
    """The events as they share a request."""
    waiting: list[Event] = []
    for event in events:
        if event.provider != "hubspot":
            yield event.provider, (event,)
            continue
        if waiting and (event.occurred_at - waiting[0].occurred_at > ARRAY_OF or len(waiting) == ARRAY_MAX):
            yield "hubspot", tuple(waiting)
            waiting = []
        waiting.append(event)
    if waiting:
        yield "hubspot", tuple(waiting)


def _arrivals(rng: random.Random, provider: Provider, events: tuple[Event, ...]) -> Iterator[Delivery]:
    arrives = events[-1].occurred_at + timedelta(seconds=rng.expovariate(0.5))
    if rng.random() < LATE:
        arrives += LATEST * rng.random()
    yield Delivery(provider, events, arrives)
    if rng.random() < REPEATED:
        yield Delivery(provider, events, arrives + timedelta(seconds=rng.expovariate(0.1)))
    for attempt, delay in enumerate(RETRY_AFTER, 1):
        if rng.random() >= RETRIED:
            return
        arrives += delay
        yield Delivery(provider, events, arrives, attempt)


def _secrets(rng: random.Random, provider: Provider, share: float) -> tuple[int, ...]:
    """The secrets that sign a delivery after this share of all: the middle third belongs to both."""
    if share < 1 / 3:
        return (OLDER,)
    if share >= 2 / 3:
        return (NEWEST,)
    return (NEWEST, OLDER) if provider == "stripe" else (rng.choice((NEWEST, OLDER)),)


def body(delivery: Delivery) -> bytes:
    """The bytes that are posted; HubSpot counts its attempts within them."""
    if delivery.provider != "hubspot":
        return delivery.events[0].body
    counted = b'"attemptNumber":%d' % delivery.attempt
    return b"[%b]" % b",".join(event.body.replace(b'"attemptNumber":0', counted) for event in delivery.events)


def _registered(topic: str) -> str:
    """The last part of the path at which the shop's app has registered a topic."""
    kind = topic.partition("/")[0]
    return "privacy" if topic in PRIVATE else kind if kind in TOPICS["shopify"] else "other"


def signed(delivery: Delivery, secrets: Sequence[str], public_url: str, now_ms: int) -> Request:
    """The request as its provider signs it now; where there is only one secret, that one signs all."""
    content, event = body(delivery), delivery.events[0]
    chosen = [secrets[min(index, len(secrets) - 1)] for index in delivery.secrets]
    headers = {"Content-Type": "application/json", **event.headers}
    if delivery.provider == "shopify":
        path = f"/webhooks/shopify/{_registered(event.event_type)}"
        headers["X-Shopify-Hmac-Sha256"] = sign_shopify(chosen[0], content)
    elif delivery.provider == "stripe":
        path, now_s = "/webhooks/stripe", now_ms // 1000
        signatures = [f"v1={sign_stripe(secret, now_s, content)}" for secret, _ in groupby(chosen)]
        headers["Stripe-Signature"] = ",".join((f"t={now_s}", *signatures))
    else:
        path = "/webhooks/hubspot"
        headers["X-HubSpot-Request-Timestamp"] = str(now_ms)
        uri = public_url.rstrip("/") + path
        headers["X-HubSpot-Signature-v3"] = sign_hubspot(chosen[0], "POST", uri, content, now_ms)
    return Request(path, headers, content)
