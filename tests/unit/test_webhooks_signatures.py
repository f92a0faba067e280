"""Signatures of the providers: their own published values, what is accepted, and what is not."""

import base64
import hashlib
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.webhooks import Provider, sign_hubspot, sign_shopify, sign_stripe
from services.webhooks.signatures import Signed, UnauthorizedError, check, hubspot_uri

NOW = 1_771_496_103
BODY = b'{"id":1,"city":"S\xc3\xa3o Paulo"}'
URI = "https://hooks.example.com/webhooks/hubspot"
OLD, NEW = "the-old-secret", "the-new-secret"


def shopify(secret: str, _: float) -> dict[str, str]:
    """The signature of the body."""
    return {"x-shopify-hmac-sha256": sign_shopify(secret, BODY)}


def stripe(secret: str, at: float) -> dict[str, str]:
    """The signature of the body at a time."""
    return {"stripe-signature": f"t={int(at)},v1={sign_stripe(secret, int(at), BODY)}"}


def hubspot(secret: str, at: float) -> dict[str, str]:
    """The signature of the body at a time."""
    timestamp = int(at * 1000)
    signature = sign_hubspot(secret, "POST", URI, BODY, timestamp)
    return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(timestamp)}


SIGN: dict[Provider, Callable[[str, float], dict[str, str]]] = {
    "shopify": shopify,
    "stripe": stripe,
    "hubspot": hubspot,
}
ALL = pytest.mark.parametrize("provider", SIGN)
TIMED = pytest.mark.parametrize("provider", ["stripe", "hubspot"])


def verdict(
    provider: Provider, headers: dict[str, str], *secrets: str, body: bytes = BODY, uri: str = URI, now: float = NOW
) -> str:
    """Why the request is not authorized; empty where it is."""
    try:
        check(provider, Signed("POST", uri, body, headers), secrets or (NEW,), now)
    except UnauthorizedError as error:
        return str(error) or "no reason"
    return ""


def test_hubspots_own_value() -> None:
    """The value that HubSpot's client library tests itself with."""
    secret, uri = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy", "https://www.example.com/webhook_uri"
    body = b"{'example_field':'example_value'}"
    headers = {
        "x-hubspot-signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
        "x-hubspot-request-timestamp": "15000000",
    }
    assert verdict("hubspot", headers, secret, body=body, uri=uri, now=15000) == ""
    assert verdict("hubspot", headers, secret, body=body, uri=f"{uri}/", now=15000)


def test_shopifys_form() -> None:
    """A value that another implementation of Shopify's rule gives."""
    body = b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}'
    headers = {"x-shopify-hmac-sha256": "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="}
    assert verdict("shopify", headers, "test-webhook-secret", body=body) == ""


def test_stripes_form() -> None:
    """Hex of the HMAC of the timestamp, a point and the body, as Stripe's page on manual verification says it."""
    expected = hmac.new(b"whsec_test", f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert verdict("stripe", {"stripe-signature": f"t={NOW},v1={expected},v0=abc"}, "whsec_test") == ""
    hexed = base64.b16encode(bytes.fromhex(expected)).decode()
    assert verdict("stripe", {"stripe-signature": f"t={NOW},v1={hexed}"}, "whsec_test"), "upper case is another text"


@ALL
def test_both_secrets_are_valid_while_one_is_replaced(provider: Provider) -> None:
    """What is signed with either secret is accepted, whichever is the newest; with a third one it is not."""
    for secret in (OLD, NEW):
        assert verdict(provider, SIGN[provider](secret, NOW), NEW, OLD) == ""
    assert verdict(provider, SIGN[provider]("another", NOW), NEW, OLD)
    assert verdict(provider, SIGN[provider](OLD, NOW), NEW)


@ALL
def test_what_is_signed_cannot_be_changed(provider: Provider) -> None:
    """One bit of the body, or of the signature, and the request is not authorized."""
    headers = SIGN[provider](NEW, NOW)
    assert verdict(provider, headers, body=BODY + b" ")
    assert verdict(provider, headers, body=b"")
    name, value = next(iter(headers.items()))
    for changed in ("", value[:-1], value + "A", value.swapcase(), f" {value}é"):
        assert verdict(provider, headers | {name: changed}), changed
    assert verdict(provider, headers) == ""


@ALL
def test_every_header_of_the_signature_is_needed(provider: Provider) -> None:
    """Without one of them the request is not authorized, and the header is named."""
    headers = SIGN[provider](NEW, NOW)
    for name in headers:
        without = {other: value for other, value in headers.items() if other != name}
        assert name in verdict(provider, without)


@ALL
def test_the_reason_repeats_nothing_of_the_signature(provider: Provider) -> None:
    """The message may be logged and answered."""
    headers = SIGN[provider]("another", NOW)
    for value in headers.values():
        assert value not in verdict(provider, headers)


@TIMED
@pytest.mark.parametrize("age", [-301, -300, 0, 300, 301])
def test_a_timestamp_is_valid_for_five_minutes_both_ways(provider: Provider, age: int) -> None:
    """A request that was recorded cannot be sent again later, and a clock that is ahead does not help."""
    refused = verdict(provider, SIGN[provider](NEW, NOW - age))
    assert bool(refused) == (abs(age) > 300)
    assert "timestamp" in refused or not refused


@pytest.mark.parametrize("t", ["", "soon", "-1", "1.5", "١", "9" * 400, f"{NOW} 1", "0x10"])
def test_a_timestamp_is_a_number(t: str) -> None:
    """Whatever else stands there is not authorized, and is no error of the receiver."""
    assert verdict("stripe", {"stripe-signature": f"t={t},v1={sign_stripe(NEW, NOW, BODY)}"})
    hubspots = SIGN["hubspot"](NEW, NOW)
    assert verdict("hubspot", hubspots | {"x-hubspot-request-timestamp": t})


def test_stripe_may_give_several_signatures() -> None:
    """While a secret is replaced Stripe signs with both; one that fits is enough, wherever it stands."""
    right, wrong = sign_stripe(NEW, NOW, BODY), "0" * 64
    for values in ([right], [wrong, right], [right, wrong], [wrong] * 100 + [right]):
        header = ",".join((f"t={NOW}", *(f"v1={value}" for value in values)))
        assert verdict("stripe", {"stripe-signature": header}) == ""
    assert verdict("stripe", {"stripe-signature": f"t={NOW},v1={wrong},v1={wrong}"})


@pytest.mark.parametrize(
    "header",
    [
        "v1={right}",
        "t={now}",
        "t={now},v0={right}",
        "t={now},V1={right}",
        "t={now},t={now},v1={right}",
        "t={now};v1={right}",
        ",,,",
        "t=,v1=",
        "{right}",
    ],
)
def test_stripes_header_has_one_time_and_a_signature(header: str) -> None:
    """What is not of this form is not authorized, also where the right signature is somewhere in it."""
    text = header.format(now=NOW, right=sign_stripe(NEW, NOW, BODY))
    assert verdict("stripe", {"stripe-signature": text})


def test_hubspot_signs_the_method_and_the_public_address() -> None:
    """The same body at another address, or with another method, is another request."""
    headers = SIGN["hubspot"](NEW, NOW)
    assert verdict("hubspot", headers) == ""
    assert verdict("hubspot", headers, uri=URI.replace("https", "http"))
    assert verdict("hubspot", headers, uri=f"{URI}?portal=1")
    with pytest.raises(UnauthorizedError):
        check("hubspot", Signed("PUT", URI, BODY, headers), (NEW,), NOW)


def test_hubspot_signs_the_address_partly_decoded() -> None:
    """The twelve characters of HubSpot's table are decoded, in either case, the others stay, and nothing twice."""
    assert hubspot_uri("/a%3Ab%2fc?d=%40%21%24%27%28%29%2A%2C%3B%3F") == "/a:b/c?d=@!$'()*,;?"
    assert hubspot_uri("/%20%23%25%26%2B%3D%253A") == "/%20%23%25%26%2B%3D%253A"
    encoded = f"{URI}?to=a%40b.example&x=%20"
    timestamp = NOW * 1000
    headers = {
        "x-hubspot-signature-v3": sign_hubspot(NEW, "POST", f"{URI}?to=a@b.example&x=%20", BODY, timestamp),
        "x-hubspot-request-timestamp": str(timestamp),
    }
    assert verdict("hubspot", headers, uri=encoded) == ""


@ALL
@given(value=st.text(max_size=80))
def test_no_header_is_an_error(provider: Provider, value: str) -> None:
    """Any text in a header of the signature is answered, never raised."""
    headers = SIGN[provider](NEW, NOW)
    for name in headers:
        if headers[name] != value:
            assert verdict(provider, headers | {name: value})
