"""What clients of the live stream may say, and who may connect."""

import json
from dataclasses import replace
from typing import Any

import pytest

from services.api.limits import ConnectionLimiter, FixedWindowLimiter
from services.api.live_rankings import Subscription
from services.api.protocol import (
    ProtocolError,
    from_message,
    from_query,
    hello,
    origin_allowed,
    token_offered,
    token_right,
)

LABELS = ["1h", "1d"]
EVERY = ("city", "salesman", "product")
DEFAULT = Subscription(EVERY, "1h", "latest", ("BR",))
TEN, ELEVEN = 1771495200000, 1771498800000
SEQ = "0123abcd.5.7"


def test_defaults() -> None:
    """Without parameters the newest windows of all rankings are meant, of the main length, in Brazil."""
    assert from_query([], LABELS) == from_message('{"type":"subscribe"}', LABELS) == DEFAULT


@pytest.mark.parametrize(
    ("query", "message", "wanted"),
    [
        ({"rankings": "city"}, {"rankings": ["city"]}, Subscription(("city",), "1h", "latest", ("BR",))),
        ({"length": "1d"}, {"length": "1d"}, Subscription(EVERY, "1d", "latest", ("BR",))),
        ({"windows": "all"}, {"windows": "all"}, Subscription(EVERY, "1h", "all", ("BR",))),
        (
            {"windows": "2026-02-19T10:00:00Z,2026-02-19T08:00:00-03:00", "countries": "BR,PT,BR"},
            {"windows": ["2026-02-19T10:00:00Z", "2026-02-19T08:00:00-03:00"], "countries": ["BR", "PT", "BR"]},
            Subscription(EVERY, "1h", (TEN, ELEVEN), ("BR", "PT")),
        ),
    ],
)
def test_address_and_message_mean_the_same(
    query: dict[str, str], message: dict[str, Any], wanted: Subscription
) -> None:
    """What the address can ask for, a message can."""
    assert from_query([*query.items(), ("since", SEQ)], LABELS) == replace(wanted, since=SEQ)
    text = json.dumps({"type": "subscribe", **message, "since": SEQ})
    assert from_message(text, LABELS) == replace(wanted, since=SEQ)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rankings", ""),
        ("rankings", "city,region"),
        ("length", "2h"),
        ("length", ""),
        ("windows", "newest"),
        ("windows", "latest,2026-02-19T10:00:00Z"),
        ("windows", "2026-02-19T10:00:00"),
        ("windows", ",".join(["2026-02-19T10:00:00Z"] * 25)),
        ("countries", "br"),
        ("countries", "BR,"),
        ("since", "yesterday"),
        ("country", "PT"),
        ("x" * 99, "red"),
    ],
)
def test_wrong_parameter(field: str, value: str) -> None:
    """A wrong parameter is named with its value, shortened, and the remedy."""
    with pytest.raises(ProtocolError) as caught:
        from_query([(field, value)], LABELS)
    assert caught.value.code == "invalid_subscription"
    (error,) = caught.value.errors
    assert error["field"] == field[:60]
    assert len(error["value"]) <= 60
    assert field[:60] in caught.value.detail


def test_repeated_parameter() -> None:
    """A parameter that is there twice is wrong: one of the two would be ignored."""
    with pytest.raises(ProtocolError) as caught:
        from_query([("countries", "BR"), ("countries", "PT")], LABELS)
    assert caught.value.errors == [{"field": "countries", "value": "PT", "detail": "must be given once"}]


def test_every_wrong_field_is_named() -> None:
    """All that is wrong is named at once, also fields that there are not."""
    with pytest.raises(ProtocolError) as caught:
        from_message('{"type":"subscribe","length":7,"countries":"BR","windows":[],"colour":"red"}', LABELS)
    assert {item["field"] for item in caught.value.errors} == {"length", "countries", "windows", "colour"}
    frame = json.loads(caught.value.frame().text)
    assert frame["type"] == "error"
    assert frame["errors"] == caught.value.errors


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed"),
        ("hello", "malformed"),
        ("[]", "malformed"),
        ('"ping"', "malformed"),
        ("[" * 4000, "malformed"),
        ('{"type":"subscribe","since":"\\ud800"}', "malformed"),
        ("{}", "unknown_type"),
        ('{"type":"unsubscribe"}', "unknown_type"),
        ('{"type":["ping"]}', "unknown_type"),
    ],
)
def test_message_that_is_not_understood(text: str, code: str) -> None:
    """What is no message says why."""
    with pytest.raises(ProtocolError) as caught:
        from_message(text, LABELS)
    assert caught.value.code == code
    assert caught.value.detail


def test_ping() -> None:
    """A ping is a ping."""
    assert from_message('{"type":"ping"}', LABELS) == "ping"


def test_hello_says_what_is_subscribed() -> None:
    """The first frame names protocol, heartbeat and subscription in the words of the protocol."""
    frame = json.loads(hello(15.0, Subscription(("city",), "1h", (TEN,), ("BR",))).text)
    assert frame == {
        "type": "hello",
        "protocol": 1,
        "heartbeatSeconds": 15,
        "subscription": {
            "rankings": ["city"],
            "length": "1h",
            "windows": ["2026-02-19T10:00:00Z"],
            "countries": ["BR"],
        },
    }


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "right"),
    [
        (None, "placar:8080", [], True),
        ("http://placar:8080", "placar:8080", [], True),
        ("https://placar", "placar:443", [], True),
        ("http://PLACAR", "placar", [], True),
        ("http://placar:8081", "placar:8080", [], False),
        ("http://evil.example", "placar:8080", [], False),
        ("http://placar:8080.evil.example", "placar:8080", [], False),
        ("null", "null", [], False),
        ("file://", "", [], False),
        ("http://placar", None, [], False),
        ("http://board.example", "placar:8080", ["http://board.example"], True),
        ("https://board.example", "placar:8080", ["http://board.example"], False),
    ],
)
def test_origin(origin: str | None, host: str | None, allowed: list[str], right: bool) -> None:
    """A page may connect from the API's own origin and from those that are listed, exactly."""
    assert origin_allowed(origin, host, allowed) is right


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "right"),
    [
        ("Bearer s3cret", [], True),
        ("bearer s3cret", [], True),
        (None, ["placar.v1", "bearer.s3cret"], True),
        (None, [], False),
        ("Bearer s3cre", [], False),
        ("Basic s3cret", [], False),
        ("Bearer ", ["placar.v1"], False),
        (None, ["bearer."], False),
        ("Bearer s3crét", [], False),
    ],
)
def test_token(authorization: str | None, subprotocols: list[str], right: bool) -> None:
    """The token comes as a header or as a subprotocol; where none is wanted everybody may connect."""
    offered = token_offered(authorization, subprotocols)
    assert token_right(offered, "s3cret") is right
    assert token_right(offered, "")


def test_fixed_window() -> None:
    """So many messages a minute, and then again so many."""
    limiter = FixedWindowLimiter(2, 60)
    assert [limiter.take(now) for now in (0.0, 1.0, 2.0, 59.0, 60.0, 61.0, 62.0)] == [
        *(True, True, False, False),
        *(True, True, False),
    ]


def test_connections() -> None:
    """No more connections than allowed, in all and from one address; one that is closed makes room."""
    limiter = ConnectionLimiter(3, 2)
    assert [limiter.acquire(address) for address in ("a", "a")] == ["", ""]
    assert "API_LIVE_CONNECTIONS_PER_ADDRESS" in limiter.acquire("a")
    assert limiter.acquire("b") == ""
    assert "(API_LIVE_CONNECTIONS)" in limiter.acquire("c")
    limiter.release("a")
    assert limiter.acquire("c") == ""
