"""From a signed body to events: topics, identities, times, HubSpot's elements, and what is no event."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.catalogue import catalogue
from contracts.codec import encode_body, parse
from contracts.webhooks import OTHER, PARTIAL, PRIVACY, PRIVATE, TOPICS, Provider
from services.webhooks.settings import MAX_REQUEST_BYTES
from services.webhooks.transform import (
    MAX_EVENTS,
    MAX_HEADERS,
    MAX_TEXT,
    Delivery,
    MalformedError,
    elements,
    events,
    kept_headers,
    meant_for,
)

AT = datetime(2026, 2, 19, 10, 15, 3, 120_000, tzinfo=UTC)
EVENT_ID = "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
SHOPIFY = {"x-shopify-topic": "orders/create", "x-shopify-event-id": EVENT_ID}
HUBSPOT = {
    "eventId": 100,
    "portalId": 62515,
    "occurredAt": 1771496102877,
    "subscriptionType": "contact.propertyChange",
    "attemptNumber": 2,
    "objectId": 1246965,
    "propertyName": "city",
    "propertyValue": "São Paulo",
}
LARGEST_RECORD = 1_048_588  # the broker's default message.max.bytes
LONG_ID = "ß" * MAX_TEXT


def as_json(value: Any) -> bytes:
    """JSON as providers write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def delivery(provider: Provider, body: Any, headers: Mapping[str, str] | None = None) -> Delivery:
    """A signed request; a body that is no bytes is written as JSON."""
    given_headers = SHOPIFY if provider == "shopify" and headers is None else headers or {}
    return Delivery(provider, given_headers, body if isinstance(body, bytes) else as_json(body), AT)


def event(provider: Provider, body: Any, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """The envelope of the only event of a request; its key is the object's id."""
    (output,) = events(delivery(provider, body, headers))
    assert output.key == output.value["object_id"].encode()
    return output.value


def stripe(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of Stripe about an object of this kind."""
    about = {"id": "obj_1", "object": kind, **fields}
    return {
        "id": "evt_1",
        "object": "event",
        "created": 1771496102,
        "type": f"{kind}.updated",
        "data": {"object": about},
    }


def test_shopifys_envelope() -> None:
    """Everything that its headers tell, nanoseconds cut, and the body untouched."""
    body = b' {"id" : 5678901234567,\t"note":"S\xc3\xa3o Paulo" }\n'
    headers = {
        **SHOPIFY,
        "x-shopify-api-version": "2026-01",
        "x-shopify-triggered-at": "2026-02-19T10:15:02.877041999Z",
        "x-shopify-hmac-sha256": "secret",
    }
    assert event("shopify", body, headers) == {
        "provider": "shopify",
        "topic": "shopify.orders",
        "event_id": EVENT_ID,
        "object_id": "5678901234567",
        "event_type": "orders/create",
        "api_version": "2026-01",
        "occurred_at": datetime(2026, 2, 19, 10, 15, 2, 877041, tzinfo=UTC),
        "received_at": AT,
        "attempt": None,
        "headers": [{"name": name, "value": value} for name, value in headers.items() if "hmac" not in name],
        "body": body,
    }


def test_stripes_envelope() -> None:
    """Everything that the event tells; what Stripe does not tell is null."""
    body = {**stripe("charge"), "api_version": "2026-01-28", "type": "charge.refunded"}
    headers = {"stripe-signature": "t=1,v1=2"}
    assert event("stripe", body, headers) == {
        "provider": "stripe",
        "topic": "stripe.charges",
        "event_id": "evt_1",
        "object_id": "obj_1",
        "event_type": "charge.refunded",
        "api_version": "2026-01-28",
        "occurred_at": datetime(2026, 2, 19, 10, 15, 2, tzinfo=UTC),
        "received_at": AT,
        "attempt": None,
        "headers": [],
        "body": as_json(body),
    }


def test_hubspots_envelope() -> None:
    """The identity is made of the five parts that tell two events apart; attempts count from 1."""
    headers = {"x-hubspot-signature-v3": "secret", "x-hubspot-request-timestamp": "1771496103000"}
    assert event("hubspot", [HUBSPOT], headers) == {
        "provider": "hubspot",
        "topic": "hubspot.contacts",
        "event_id": "62515:100:1246965:city:1771496102877",
        "object_id": "1246965",
        "event_type": "contact.propertyChange",
        "api_version": None,
        "occurred_at": datetime(2026, 2, 19, 10, 15, 2, 877_000, tzinfo=UTC),
        "received_at": AT,
        "attempt": 3,
        "headers": [{"name": "x-hubspot-request-timestamp", "value": "1771496103000"}],
        "body": as_json(HUBSPOT),
    }


@pytest.mark.parametrize(
    ("event_type", "topic"),
    [
        ("orders/create", "shopify.orders"),
        ("orders/paid", "shopify.orders"),
        ("orders/delete", "shopify.orders"),
        ("customers/update", "shopify.customers"),
        ("products/delete", "shopify.products"),
        ("customers/redact", PRIVACY),
        ("customers/data_request", PRIVACY),
        ("shop/redact", PRIVACY),
        ("orders/edited", OTHER),
        ("customers/merge", OTHER),
        ("order_transactions/create", OTHER),
        ("customers_marketing_consent/update", OTHER),
        ("app/uninstalled", OTHER),
        ("orders", "shopify.orders"),
        ("ORDERS/create", OTHER),
    ],
)
def test_shopifys_topics(event_type: str, topic: str) -> None:
    """The first part of X-Shopify-Topic decides, but for what a person asks and for bodies that are no such object."""
    headers = {**SHOPIFY, "x-shopify-topic": event_type}
    assert event("shopify", {"id": 1}, headers)["topic"] == topic == meant_for("shopify", headers)


@pytest.mark.parametrize("kind", [*TOPICS["stripe"], "subscription", "v2.core.event", 7, None])
def test_stripes_topics(kind: Any) -> None:
    """The kind of the object decides, not the name of the event: refunds and disputes are events of charges too."""
    body = {**stripe("x"), "type": "charge.dispute.created"}
    body["data"]["object"]["object"] = kind
    assert event("stripe", body)["topic"] == TOPICS["stripe"].get(kind, OTHER)


@pytest.mark.parametrize(
    ("event_type", "topic"),
    [
        ("contact.creation", "hubspot.contacts"),
        ("company.propertyChange", "hubspot.companies"),
        ("deal.deletion", "hubspot.deals"),
        ("contact.privacyDeletion", PRIVACY),
        ("contact.associationChange", OTHER),
        ("ticket.creation", OTHER),
        ("conversation.newMessage", OTHER),
    ],
)
def test_hubspots_topics(event_type: str, topic: str) -> None:
    """The first part of the subscription type decides, with the same two exceptions."""
    assert event("hubspot", [{**HUBSPOT, "subscriptionType": event_type}])["topic"] == topic


def test_exceptions_are_of_known_kinds() -> None:
    """Each event type with a place of its own is in one of the two lists only."""
    assert not PRIVATE & PARTIAL
    kinds = {kind for provider in TOPICS.values() for kind in provider} | {"shop"}
    assert {event_type.replace("/", ".").partition(".")[0] for event_type in PRIVATE | PARTIAL} <= kinds


@pytest.mark.parametrize(
    ("event_type", "body", "object_id"),
    [
        ("customers/redact", {"shop_id": 1, "customer": {"id": 7001}}, "7001"),
        ("customers/redact", {"shop_id": 1, "customer": {"email": "ana@example.com"}}, EVENT_ID),
        ("customers/data_request", {"customer": {"id": 7001}, "data_request": {"id": 9}}, "7001"),
        ("shop/redact", {"shop_id": 954889, "shop_domain": "placar.example"}, "954889"),
        ("orders/edited", {"order_edit": {"id": 1}}, EVENT_ID),
        ("inventory_levels/update", {"inventory_item_id": 1}, EVENT_ID),
        ("bulk_operations/finish", {"id": {"not": "an id"}}, EVENT_ID),
        ("orders/create", {"id": "gid://shopify/Order/1"}, "gid://shopify/Order/1"),
        ("orders/create", {"id": 2**70}, str(2**70)),
    ],
)
def test_shopifys_object_ids(event_type: str, body: Any, object_id: str) -> None:
    """What the event is about; where that has neither an id nor a topic of its own, the event's id stands for it."""
    assert event("shopify", body, {**SHOPIFY, "x-shopify-topic": event_type})["object_id"] == object_id


def test_objects_without_id_of_other_providers() -> None:
    """A balance of Stripe has no id, an association of HubSpot two: neither has a topic of its own."""
    body = stripe("balance")
    del body["data"]["object"]["id"]
    assert event("stripe", body)["object_id"] == "evt_1"
    assert event("stripe", {"id": "evt_2", "type": "v2.core.account.updated"})["object_id"] == "evt_2"
    association = {name: value for name, value in HUBSPOT.items() if name not in ("objectId", "propertyName")}
    association |= {"subscriptionType": "contact.associationChange", "fromObjectId": 5, "toObjectId": 6}
    value = event("hubspot", [association])
    assert (value["object_id"], value["event_id"]) == ("5", "62515:100:::1771496102877")


def test_the_id_of_the_subscription_stands_for_that_of_the_event() -> None:
    """Shopify did not always send X-Shopify-Event-Id; X-Shopify-Webhook-Id is the delivery's, and repeats repeat it."""
    headers = {"x-shopify-topic": "orders/create", "x-shopify-webhook-id": "w-1"}
    assert event("shopify", {"id": 1}, headers)["event_id"] == "w-1"
    assert event("shopify", {"id": 1}, headers | {"x-shopify-event-id": "e-1"})["event_id"] == "e-1"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-19", "2026-02-19T10:15:02", "9999-99-99T00:00:00Z"])
def test_a_time_that_is_none_is_null(text: str) -> None:
    """The header is no part of what was signed: without a time the event is as good, and the header is kept."""
    headers = {**SHOPIFY, "x-shopify-triggered-at": text}
    assert event("shopify", {"id": 1}, headers)["occurred_at"] is None


@pytest.mark.parametrize("value", ["null", "true", "-1", "9" * 30, "1.5", "1e400", '"1771496102"', "[]"])
def test_times_and_attempts_of_other_kinds_are_null(value: str) -> None:
    """Nothing that stands where a time or a count should be stops an event."""
    timed = as_json({**stripe("charge"), "created": "here"}).replace(b'"here"', value.encode())
    assert event("stripe", timed)["occurred_at"] is None
    counted = as_json([{**HUBSPOT, "attemptNumber": "here"}]).replace(b'"here"', value.encode())
    assert event("hubspot", counted)["attempt"] is None


MALFORMED = {
    "empty": b"",
    "blank": b" \n",
    "text": b"orders",
    "truncated": b'{"id":1,"name":"#10',
    "array": b'[{"id":1}]',
    "number": b"1",
    "null": b"null",
    "two": b'{"id":1}{"id":1}',
    "comma": b'{"id":1,}',
    "single quotes": b"{'id':1}",
    "NaN": b'{"id":1,"price":NaN}',
    "-Infinity": b'{"id":1,"price":-Infinity}',
    "Latin-1": '{"id":1,"note":"São Paulo"}'.encode("latin-1"),
    "UTF-16": '{"id":1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"id":1}',
    "surrogates in UTF-8": b'{"id":1,"note":"\xed\xa0\x80"}',
    "control character": b'{"id":1,"note":"a\x01b"}',
    "nested too deeply": b'{"id":1,"x":' + b"[" * 200_000,
    "nested too deeply, complete": b'{"id":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "integer of 5000 digits": b'{"id":' + b"9" * 5000 + b"}",
    "form": b"id=1&name=x",
    "no id": b'{"name":"x"}',
    "id null": b'{"id":null}',
    "id empty": b'{"id":""}',
    "id boolean": b'{"id":true}',
    "id fraction": b'{"id":1.0}',
    "id list": b'{"id":[1]}',
    "id too long": b'{"id":"' + b"x" * 256 + b'"}',
    "id of 300 digits": b'{"id":' + b"9" * 300 + b"}",
    "id with control character": b'{"id":"a\\u0000b"}',
    "id of half a character": b'{"id":"\\ud800"}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=list(MALFORMED))
def test_what_holds_no_event_of_shopify(body: bytes) -> None:
    """Each is malformed, with a message that is short enough for a dead letter."""
    with pytest.raises(MalformedError) as error:
        events(delivery("shopify", body))
    assert 0 < len(str(error.value)) < 200


@pytest.mark.parametrize("body", [body for name, body in MALFORMED.items() if "id" not in name.split()])
def test_what_holds_no_event_of_anybody(body: bytes) -> None:
    """What is no JSON object is no event of Stripe, and neither that nor what is in no array one of HubSpot."""
    for provider in ("stripe", "hubspot"):
        with pytest.raises(MalformedError):
            events(delivery(provider, body))
    whole = as_json(HUBSPOT)
    for array in (b"[" + body + b"]", b"[" + whole + b"," + body + b"]", b"[" + whole + b"]" + body):
        if array != b"[" + whole + b"]" + body or body.strip():
            with pytest.raises(MalformedError):
                events(delivery("hubspot", array))


@pytest.mark.parametrize("field", ["id", "type"])
@pytest.mark.parametrize("value", [None, "", 1.5, [], {}, True, "\x00", "x" * 256])
def test_stripes_events_have_id_and_type(field: str, value: Any) -> None:
    """Neither can be missing, nor be something else than a short text."""
    with pytest.raises(MalformedError, match=field):
        events(delivery("stripe", {**stripe("charge"), field: value}))


@pytest.mark.parametrize("field", ["eventId", "portalId", "occurredAt", "subscriptionType", "objectId", "propertyName"])
def test_hubspots_events_are_whole(field: str) -> None:
    """The parts of the identity are there and sane, and one event that is not takes its whole request with it."""
    broken = {**HUBSPOT, field: {"deep": [1]}}
    for body in ([broken], [HUBSPOT, broken], [broken, HUBSPOT]):
        with pytest.raises(MalformedError, match=field):
            events(delivery("hubspot", body))
    missing = {name: value for name, value in HUBSPOT.items() if name != field}
    if field == "propertyName":
        assert event("hubspot", [missing])["event_id"] == "62515:100:1246965::1771496102877"
    else:
        with pytest.raises(MalformedError):
            events(delivery("hubspot", [missing]))


@pytest.mark.parametrize("headers", [{}, {"x-shopify-topic": "orders/create"}, {"x-shopify-event-id": "e-1"}])
def test_shopifys_headers_are_whole(headers: Mapping[str, str]) -> None:
    """Without topic or identity a body cannot be an event; where it was meant to go is told as far as it is known."""
    with pytest.raises(MalformedError, match="X-Shopify"):
        events(delivery("shopify", {"id": 1}, headers))
    assert meant_for("shopify", headers) == ("shopify.orders" if "x-shopify-topic" in headers else OTHER)


def test_the_last_of_equal_keys_counts() -> None:
    """As in Python's json and in JavaScript; the body is kept with both."""
    body = b'{"id":1,"id":2}'
    value = event("shopify", body)
    assert (value["object_id"], value["body"]) == ("2", body)


def test_numbers_that_are_not_ours_may_be_huge() -> None:
    """Only the identity is read: any other number stays the text that it is."""
    body = b'{"id":1,"a":1e999999,"b":' + b"9" * 4000 + b',"c":-0.0000000000000000000000000001}'
    assert event("shopify", body)["body"] == body


def test_headers_are_bounded() -> None:
    """A bounded number of headers with bounded names and values, none of them a signature."""
    headers = {
        **SHOPIFY,
        "x-shopify-hmac-sha256": "secret",
        f"x-shopify-{'n' * 100}": "long name",
        "x-shopify-long": "v" * 1000,
        **{f"x-shopify-{number}": "v" for number in range(100)},
    }
    kept = kept_headers(delivery("shopify", {}, headers))
    assert len(kept) == MAX_HEADERS
    assert {"name": "x-shopify-long", "value": "v" * 256} in kept
    assert not [each for each in kept if "hmac" in each["name"] or len(each["name"]) > 64]
    signed = {"stripe-signature": "s", "x-hubspot-signature": "s", "x-hubspot-signature-v3": "s"}
    assert kept_headers(delivery("hubspot", {}, signed)) == []


@pytest.mark.parametrize("topic", ["shopify.orders"])
def test_the_largest_request_fits_into_a_record(topic: str) -> None:
    """The longest body with the longest headers and identities is no longer than a broker takes by default."""
    frame = b'{"id":"' + LONG_ID.encode() + b'","x":"'
    body = frame + b"y" * (MAX_REQUEST_BYTES - len(frame) - 2) + b'"}'
    headers = {
        "x-shopify-topic": "orders/" + "ß" * (MAX_TEXT - 7),
        "x-shopify-event-id": LONG_ID,
        "x-shopify-api-version": LONG_ID,
        **{f"x-shopify-{number}-{'n' * 40}": "ß" * 5000 for number in range(100)},
    }
    value = event("shopify", body, headers)
    payload = encode_body(1, parse(catalogue()[topic].avro), value)
    overhead = 200  # of a record batch and its only record
    assert MAX_REQUEST_BYTES < len(payload) + len(value["object_id"].encode()) + overhead < LARGEST_RECORD


def test_a_request_holds_a_bounded_number_of_events() -> None:
    """HubSpot sends a hundred; what is far beyond that is not taken apart into records."""
    assert len(events(delivery("hubspot", [HUBSPOT] * MAX_EVENTS))) == MAX_EVENTS
    with pytest.raises(MalformedError, match="more than"):
        events(delivery("hubspot", [HUBSPOT] * (MAX_EVENTS + 1)))


BLANKS = st.text(" \t\r\n", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[list[Any], list[bytes], bytes]:
    """Objects, the text of each in some spelling, and an array of these texts with white space between them."""
    objects = draw(st.lists(OBJECTS, min_size=1, max_size=5))
    texts = [
        json.dumps(
            each,
            ensure_ascii=draw(st.booleans()),
            indent=draw(st.none() | st.integers(0, 3)),
            separators=draw(st.sampled_from([(",", ":"), (" , ", " : ")])),
        )
        for each in objects
    ]
    texts = [text if is_text(text) else json.dumps(each) for text, each in zip(texts, objects, strict=True)]
    joined = ",".join(draw(BLANKS) + text + draw(BLANKS) for text in texts)
    return objects, [text.encode() for text in texts], f"{draw(BLANKS)}[{joined}]{draw(BLANKS)}".encode()


def is_text(text: str) -> bool:
    """Whether it can be written in UTF-8: Hypothesis also draws halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(arrays())
def test_each_element_has_its_own_bytes(drawn: tuple[list[Any], list[bytes], bytes]) -> None:
    """Each element is found with exactly the bytes that it had, whatever their spelling and the white space between."""
    objects, texts, body = drawn
    found = list(elements(body))
    assert [value for value, _ in found] == objects
    assert [text for _, text in found] == texts


@given(arrays(), st.data())
def test_a_part_of_an_array_is_malformed(drawn: tuple[list[Any], list[bytes], bytes], data: st.DataObject) -> None:
    """An array that was cut, or that something follows, gives no event, whatever it holds."""
    body = drawn[2].rstrip()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for broken in (cut, body + b"x", body + body, body[:-1] + b",]"):
        with pytest.raises(MalformedError):
            list(elements(broken))


@given(st.binary(max_size=60))
def test_any_bytes_are_answered(body: bytes) -> None:
    """Nothing but an event or a malformed request comes of any bytes."""
    for provider in TOPICS:
        with suppress(MalformedError):
            assert events(delivery(provider, body))
