"""Webhooks: the topic of each kind of event, and the signatures of the providers.

The receiver checks what the simulated providers sign, so both are here. Rules as the providers document them: Shopify
("Verify webhook deliveries"), Stripe ("Verify webhook signatures manually"), HubSpot ("Validate the v3 request
signature").
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Provider = Literal["shopify", "stripe", "hubspot"]

OTHER = "webhooks.other"
PRIVACY = "webhooks.privacy"

TOPICS: Mapping[Provider, Mapping[str, str]] = MappingProxyType(
    {
        "shopify": {"orders": "shopify.orders", "customers": "shopify.customers", "products": "shopify.products"},
        "stripe": {
            "charge": "stripe.charges",
            "customer": "stripe.customers",
            "payment_intent": "stripe.payment_intents",
            "refund": "stripe.refunds",
            "dispute": "stripe.disputes",
        },
        "hubspot": {"contact": "hubspot.contacts", "company": "hubspot.companies", "deal": "hubspot.deals"},
    }
)
"""By provider, the topic of each kind of object: the first part of Shopify's topic and of HubSpot's subscription type,
and Stripe's `data.object.object`. Events of other kinds go to OTHER."""

PRIVATE = frozenset({"customers/redact", "customers/data_request", "shop/redact", "contact.privacyDeletion"})
"""The event types that go to PRIVACY."""

PARTIAL = frozenset(
    {
        "orders/edited",
        "orders/link_requested",
        "orders/risk_assessment_changed",
        "orders/shopify_protect_eligibility_changed",
        "customers/merge",
        "customers/purchasing_summary",
        "contact.associationChange",
        "company.associationChange",
        "deal.associationChange",
    }
)
"""The event types whose body is not the object that they are about; they go to OTHER, so that a topic holds objects."""

SECRETS: Mapping[Provider, str] = MappingProxyType(
    {
        "shopify": "SHOPIFY_WEBHOOK_SECRETS",
        "stripe": "STRIPE_WEBHOOK_SECRETS",
        "hubspot": "HUBSPOT_CLIENT_SECRETS",
    }
)
"""The setting with each provider's secrets, separated by commas, the newest first."""

STRIPE_TOLERANCE_S = 300
HUBSPOT_TOLERANCE_S = 300


def _hmac(secret: str, signed: bytes) -> "hmac.HMAC":
    return hmac.new(secret.encode(), signed, hashlib.sha256)


def sign_shopify(secret: str, body: bytes) -> str:
    """The value of X-Shopify-Hmac-Sha256: base64 of the HMAC-SHA256 of the body."""
    return base64.b64encode(_hmac(secret, body).digest()).decode()


def sign_stripe(secret: str, timestamp: int, body: bytes) -> str:
    """A v1 of Stripe-Signature: hex of the HMAC-SHA256 of "<timestamp in s>.<body>"."""
    return _hmac(secret, b"%d.%b" % (timestamp, body)).hexdigest()


def sign_hubspot(secret: str, method: str, uri: str, body: bytes, timestamp_ms: int) -> str:
    """The value of X-HubSpot-Signature-v3: base64 of the HMAC-SHA256 of method, URI, body and timestamp in a row."""
    signed = method.encode() + uri.encode() + body + b"%d" % timestamp_ms
    return base64.b64encode(_hmac(secret, signed).digest()).decode()
