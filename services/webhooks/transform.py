"""Pure rules of the receiver: the events of a signed request, and the topic of each."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NoReturn

from chassis.results import Output
from contracts.text import quoted
from contracts.time import EPOCH, parse_instant
from contracts.webhooks import OTHER, PARTIAL, PRIVACY, PRIVATE, TOPICS, Provider

MAX_TEXT = 255  # characters of an identity or a type
MAX_HEADERS = 24
MAX_HEADER_NAME = 64
MAX_HEADER_VALUE = 256
MAX_ATTEMPT = 1_000_000
MAX_EVENTS = 1000  # of one request; HubSpot sends up to 100
LATEST_S = 253_402_300_799  # the last second of the year 9999

PREFIXES: Mapping[Provider, str] = {"shopify": "x-shopify-", "stripe": "stripe-", "hubspot": "x-hubspot-"}
"""How the names of a provider's own headers begin."""
SIGNATURES = ("x-shopify-hmac-", "stripe-signature", "x-hubspot-signature")
"""How the names of headers begin that are not kept: with them anybody could send the request again."""

_BLANK = re.compile(r"[ \t\n\r]*")


class MalformedError(Exception):
    """The signed request holds no event; the message says what is wrong with it."""


@dataclass(frozen=True)
class Delivery:
    """A signed request: the provider's own headers by names in lower case, the body, and when all of it was here."""

    provider: Provider
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


def _no_number(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON")


# of a key that an object has twice the last value counts; the body is kept as it is
_JSON = json.JSONDecoder(parse_constant=_no_number)


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"byte {error.start} is not UTF-8") from error


def _parsed(text: str, begin: int) -> tuple[dict[str, Any], int]:
    """The JSON object that begins at a character, and the first character after it and its white space."""
    try:
        value, end = _JSON.raw_decode(text, begin)
    except RecursionError as error:
        raise MalformedError("it is nested too deeply") from error
    except ValueError as error:  # also an integer of more digits than Python reads
        raise MalformedError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError(f"a JSON {type(value).__name__} where an object should be")
    return value, end


def _after_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _object(body: bytes) -> dict[str, Any]:
    text = _decoded(body)
    value, end = _parsed(text, _after_blank(text, 0))
    if _after_blank(text, end) != len(text):
        raise MalformedError(f"not JSON: more follows after character {end}")
    return value


def elements(body: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The objects of a JSON array, each with its own bytes.

    Raises:
        MalformedError: the body is not an array of one object or more; some may have been given before.
    """
    text = _decoded(body)
    at, expected = _after_blank(text, 0), "["
    while text.startswith(expected, at):
        begin = _after_blank(text, at + 1)
        value, end = _parsed(text, begin)
        yield value, text[begin:end].encode()
        at, expected = _after_blank(text, end), ","
    if expected == "[" or not text.startswith("]", at) or _after_blank(text, at + 1) != len(text):
        raise MalformedError(f"no JSON array: character {at} should not be there")


def _identity(value: object) -> str | None:
    """An identity or a type: a text, or the digits of an integer; None where it is none."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and 0 < len(text) <= MAX_TEXT and text.isprintable() else None


def _text(value: object, what: str) -> str:
    text = _identity(value)
    if text is None:
        shown = type(value).__name__ if isinstance(value, dict | list) else quoted(value)
        raise MalformedError(f"{what} is {shown}, not 1 to {MAX_TEXT} printable characters")
    return text


def _optional(value: object) -> str | None:
    return _identity(value) if isinstance(value, str) else None


def _instant(value: object, per_s: int) -> datetime | None:
    """The time that an integer is, counted from 1970 in so many parts of a second; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LATEST_S * per_s:
        return None
    return EPOCH + timedelta(microseconds=value * (1_000_000 // per_s))


def _attempt(retries: object) -> int | None:
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries < MAX_ATTEMPT:
        return None
    return retries + 1


def _triggered(text: str | None) -> datetime | None:
    """The time of a header with nanoseconds, which are cut; None where it is none."""
    try:
        return None if text is None else parse_instant(text)
    except (ValueError, OverflowError):
        return None


def destination(provider: Provider, kind: str, event_type: str) -> str:
    """The topic of an event about an object of this kind."""
    if event_type in PRIVATE:
        return PRIVACY
    return OTHER if event_type in PARTIAL else TOPICS[provider].get(kind, OTHER)


def _object_id(topic: str, about: object, event_id: str) -> str:
    """The identity of the object: a topic of one kind needs it, in others the event's own may stand for it."""
    return (topic in (OTHER, PRIVACY) and (_identity(about) or event_id)) or _text(about, "the object's id")


def _within(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def kept_headers(delivery: Delivery) -> list[dict[str, str]]:
    """The provider's own headers as the envelope has them: without its signature, bounded in number and length."""
    kept = [
        {"name": name, "value": value[:MAX_HEADER_VALUE]}
        for name, value in delivery.headers.items()
        if len(name) <= MAX_HEADER_NAME and not name.startswith(SIGNATURES)
    ]
    return kept[:MAX_HEADERS]


def _event(delivery: Delivery, topic: str, object_id: str, body: bytes, **fields: Any) -> Output:
    value = {
        "provider": delivery.provider,
        "topic": topic,
        "object_id": object_id,
        "received_at": delivery.received_at,
        "headers": kept_headers(delivery),
        "body": body,
        "api_version": None,
        "occurred_at": None,
        "attempt": None,
        **fields,
    }
    return Output(object_id.encode(), value)


def meant_for(provider: Provider, headers: Mapping[str, str]) -> str:
    """The topic of a request whose body cannot be read, as far as its headers tell."""
    event_type = headers.get("x-shopify-topic", "")
    return destination(provider, event_type.partition("/")[0], event_type)


def _shopify(delivery: Delivery) -> list[Output]:
    headers = delivery.headers
    event_type = _text(headers.get("x-shopify-topic"), "X-Shopify-Topic")
    event_id = headers.get("x-shopify-event-id") or headers.get("x-shopify-webhook-id")
    event_id = _text(event_id, "X-Shopify-Event-Id")
    payload = _object(delivery.body)
    topic = destination("shopify", event_type.partition("/")[0], event_type)
    about = payload.get("id")
    if topic == PRIVACY:
        about = payload.get("shop_id") if event_type == "shop/redact" else _within(payload.get("customer"), "id")
    return [
        _event(
            delivery,
            topic,
            _object_id(topic, about, event_id),
            delivery.body,
            event_id=event_id,
            event_type=event_type,
            api_version=_optional(headers.get("x-shopify-api-version")),
            occurred_at=_triggered(headers.get("x-shopify-triggered-at")),
        )
    ]


def _stripe(delivery: Delivery) -> list[Output]:
    payload = _object(delivery.body)
    event_id = _text(payload.get("id"), "the event's id")
    event_type = _text(payload.get("type"), "the event's type")
    about = _within(payload.get("data"), "object")
    kind = _within(about, "object")
    topic = destination("stripe", kind if isinstance(kind, str) else "", event_type)
    return [
        _event(
            delivery,
            topic,
            _object_id(topic, _within(about, "id"), event_id),
            delivery.body,
            event_id=event_id,
            event_type=event_type,
            api_version=_optional(payload.get("api_version")),
            occurred_at=_instant(payload.get("created"), 1),
        )
    ]


def _hubspot(delivery: Delivery) -> list[Output]:
    found = [_hubspot_event(delivery, event, body) for event, body in islice(elements(delivery.body), MAX_EVENTS + 1)]
    if len(found) > MAX_EVENTS:
        raise MalformedError(f"more than {MAX_EVENTS} events")
    return found


def _hubspot_event(delivery: Delivery, event: Mapping[str, Any], body: bytes) -> Output:
    event_type = _text(event.get("subscriptionType"), "subscriptionType")
    topic = destination("hubspot", event_type.partition(".")[0], event_type)
    portal, number, occurred = (_text(event.get(name), name) for name in ("portalId", "eventId", "occurredAt"))
    about, of_property = event.get("objectId"), event.get("propertyName")
    about = "" if about is None else _text(about, "objectId")
    of_property = "" if of_property is None else _text(of_property, "propertyName")
    event_id = ":".join((portal, number, about, of_property, occurred))
    return _event(
        delivery,
        topic,
        _object_id(topic, about or event.get("fromObjectId"), event_id),
        body,
        event_id=event_id,
        event_type=event_type,
        occurred_at=_instant(event.get("occurredAt"), 1000),
        attempt=_attempt(event.get("attemptNumber")),
    )


READERS: Mapping[Provider, Callable[[Delivery], Sequence[Output]]] = {
    "shopify": _shopify,
    "stripe": _stripe,
    "hubspot": _hubspot,
}


def events(delivery: Delivery) -> Sequence[Output]:
    """The events of a signed request, each with its key and envelope; a topic is the envelope's own.

    Raises:
        MalformedError: it holds none, or one of them cannot be read: then none is given.
    """
    return READERS[delivery.provider](delivery)
