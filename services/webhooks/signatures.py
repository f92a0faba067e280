"""Whether a request was signed with one of a provider's secrets. Pure; every comparison takes constant time."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from contracts.webhooks import (
    HUBSPOT_TOLERANCE_S,
    STRIPE_TOLERANCE_S,
    Provider,
    sign_hubspot,
    sign_shopify,
    sign_stripe,
)

SIGNED_BY: Mapping[Provider, tuple[str, ...]] = {
    "shopify": ("x-shopify-hmac-sha256",),
    "stripe": ("stripe-signature",),
    "hubspot": ("x-hubspot-signature-v3", "x-hubspot-request-timestamp"),
}
"""The headers that sign a request of each provider."""

MAX_DIGITS = 15
_HUBSPOT_DECODED = {
    "%3A": ":",
    "%2F": "/",
    "%3F": "?",
    "%40": "@",
    "%21": "!",
    "%24": "$",
    "%27": "'",
    "%28": "(",
    "%29": ")",
    "%2A": "*",
    "%2C": ",",
    "%3B": ";",
}
_ENCODED = re.compile("|".join(_HUBSPOT_DECODED), re.IGNORECASE)


class UnauthorizedError(Exception):
    """The request is not signed as it must be; the message says why, and repeats nothing of the signature."""


@dataclass(frozen=True)
class Signed:
    """What is signed: method, public address, body, and the headers of SIGNED_BY that are there."""

    method: str
    uri: str
    body: bytes
    headers: Mapping[str, str]


def hubspot_uri(uri: str) -> str:
    """The address as HubSpot signs it: twelve of the characters that may be percent-encoded are not."""
    return _ENCODED.sub(lambda encoded: _HUBSPOT_DECODED[encoded[0].upper()], uri)


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise UnauthorizedError(f"{what} is not a number")
    return int(text)


def _check_age(age_s: float, tolerance_s: int) -> None:
    if abs(age_s) > tolerance_s:
        side = "old" if age_s > 0 else "ahead of now"
        raise UnauthorizedError(f"its timestamp is {abs(age_s):.0f} s {side}; at most {tolerance_s} s are accepted")


def _any_equal(expected: Sequence[str], given: Sequence[str]) -> bool:
    # no early end: how long it takes tells nothing
    return sum(compare_digest(ours.encode(), theirs.encode()) for ours in expected for theirs in given) > 0


def _shopify(request: Signed, secrets: Sequence[str], _: float) -> bool:
    return _any_equal([sign_shopify(s, request.body) for s in secrets], [request.headers["x-shopify-hmac-sha256"]])


def _stripe(request: Signed, secrets: Sequence[str], now_s: float) -> bool:
    parts = [part.strip().partition("=") for part in request.headers["stripe-signature"].split(",")]
    timestamps = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(timestamps) != 1 or not given:
        raise UnauthorizedError("Stripe-Signature is not t=…,v1=…")
    timestamp = _number(timestamps[0], "the t of Stripe-Signature")
    _check_age(now_s - timestamp, STRIPE_TOLERANCE_S)
    return _any_equal([sign_stripe(s, timestamp, request.body) for s in secrets], given)


def _hubspot(request: Signed, secrets: Sequence[str], now_s: float) -> bool:
    timestamp = _number(request.headers["x-hubspot-request-timestamp"], "X-HubSpot-Request-Timestamp")
    _check_age(now_s - timestamp / 1000, HUBSPOT_TOLERANCE_S)
    uri = hubspot_uri(request.uri)
    expected = [sign_hubspot(s, request.method, uri, request.body, timestamp) for s in secrets]
    return _any_equal(expected, [request.headers["x-hubspot-signature-v3"]])


_CHECKS: Mapping[Provider, Callable[[Signed, Sequence[str], float], bool]] = {
    "shopify": _shopify,
    "stripe": _stripe,
    "hubspot": _hubspot,
}


def check(provider: Provider, request: Signed, secrets: Sequence[str], now_s: float) -> None:
    """Return where the request was signed with one of the secrets; `now_s` is the time in seconds since 1970.

    Raises:
        UnauthorizedError: it was not, or too long ago.
    """
    for name in SIGNED_BY[provider]:
        if not request.headers.get(name):
            raise UnauthorizedError(f"the header {name} is missing")
    if not _CHECKS[provider](request, secrets, now_s):
        raise UnauthorizedError("no secret that is known here gives the signature of this request")
