"""The bodies of webhooks, as far as they are used: a model of each, and its JSON Schema in contracts/payloads/.

What a model does not name is ignored, so a new version of a provider's interface changes nothing as long as the fields
that count are there; a field that is missing or wrong is named by its path. Amounts are text or whole numbers, never a
float. Of a key that an object has twice the last counts.

`python -m contracts.payloads` writes the schemas.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from contracts.text import quoted, shortened
from contracts.versions import pack_stripe

FOLDER = Path(__file__).with_suffix("")
CHARGES = ("stripe_charge", "stripe_payment_intent")
"""The note attributes by which a Shopify order names what pays it."""

_ZERO = re.compile(r"-?0+(?:\.0*)?")
_FIRST = frozenset({"charge.succeeded", "charge.captured"})  # with these a charge can become a sale


class PayloadError(Exception):
    """A body is not what its provider documents; `reason` is a code of contracts/reasons.py."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Payload(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class ShopifyAddress(_Payload):
    """Where an order is shipped or billed to."""

    city: str | None = None
    country_code: str | None = None


class ShopifyLineItem(_Payload):
    """A product of an order; `current_quantity` is what edits and refunds have left of `quantity`."""

    title: str
    price: str
    quantity: Annotated[int, Field(ge=0, lt=2**31)]
    current_quantity: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class ShopifyNoteAttribute(_Payload):
    """A detail that the shop's software or its storefront has noted with an order."""

    name: str
    value: Any = None


class ShopifyOrderState(_Payload):
    """What tells whether an order is a sale; of a deleted order only the id is there."""

    id: int
    test: bool = False
    cancelled_at: str | None = None
    financial_status: str | None = None
    current_total_price: str | None = None
    created_at: str | None = None
    note_attributes: list[ShopifyNoteAttribute] = []

    def gone(self, event_type: str) -> bool:
        """Whether it is no sale, or none any more: a test, deleted, cancelled, refunded in full, or of no value."""
        return (
            event_type == "orders/delete"
            or self.test
            or self.cancelled_at is not None
            or self.financial_status == "refunded"
            or _ZERO.fullmatch(self.current_total_price or "") is not None
        )


class ShopifyOrder(_Payload):
    """An order of Shopify's REST interface. Amounts are in `currency`, the shop's.

    `current_total_price` is net of edits, returns and refunds. `note_attributes` may name the charge that pays it.
    """

    id: int
    test: bool
    cancelled_at: str | None
    financial_status: str | None = None
    currency: str
    current_total_price: str
    created_at: str
    source_name: str
    shipping_address: ShopifyAddress | None = None
    billing_address: ShopifyAddress | None = None
    line_items: list[ShopifyLineItem]
    note_attributes: list[ShopifyNoteAttribute]


class StripeAddress(_Payload):
    """A postal address."""

    city: str | None = None
    country: str | None = None


class StripeContact(_Payload):
    """Whom a charge is billed or shipped to."""

    address: StripeAddress | None = None


class StripeMetadata(_Payload):
    """What the shop's software has noted: the order that is paid, if any."""

    order_id: str | None = None


class StripePaymentIntent(_Payload):
    """The payment intent of a charge, where it is expanded."""

    id: str
    metadata: StripeMetadata | None = None


_Minor = Annotated[int, Field(ge=0)]


class StripeCharge(_Payload):
    """A charge. Amounts are in minor units of `currency`; `amount_refunded` counts also what was never captured."""

    id: str
    amount: _Minor
    amount_captured: _Minor
    amount_refunded: _Minor
    captured: bool
    status: str
    livemode: bool
    currency: str
    created: int
    payment_intent: str | StripePaymentIntent | None
    metadata: StripeMetadata
    description: str | None = None
    calculated_statement_descriptor: str | None = None
    billing_details: StripeContact | None = None
    shipping: StripeContact | None = None

    @property
    def sale_id(self) -> str:
        """Of the sale that it is: its payment intent, which may need several charges, or itself."""
        intent = self.payment_intent
        return (intent.id if isinstance(intent, StripePaymentIntent) else intent) or self.id

    @property
    def pays_order(self) -> bool:
        """Whether it names an order, or its payment intent does, where that is expanded."""
        intent = self.payment_intent
        noted = [self.metadata, intent.metadata if isinstance(intent, StripePaymentIntent) else None]
        return any(metadata is not None and (metadata.order_id or "").strip() for metadata in noted)

    @property
    def kept(self) -> int:
        """What the shop keeps of it once it is captured, in minor units: what is captured less what is refunded of it.

        Stripe counts as refunded also the part of the amount that was released instead of captured.
        """
        return min(self.amount_captured, self.amount - self.amount_refunded)

    @property
    def gone(self) -> bool:
        """Whether it is no sale any more, where it was one: it names an order, or nothing of it is kept."""
        return self.pays_order or self.kept <= 0


class StripeChargeData(_Payload):
    """The charge that an event is about, as it was then."""

    object: StripeCharge


class StripeChargeEvent(_Payload):
    """An event about a charge; `created` is in seconds since 1970."""

    type: str
    created: int
    livemode: bool
    data: StripeChargeData

    @property
    def no_sale(self) -> str | None:
        """Why the charge is no sale and never was one; None where it is or may have been.

        What names an order from its first event on is a payment; what names one only later was a sale until then.
        """
        charge = self.data.object
        if not (self.livemode and charge.livemode):
            return "test mode"
        if charge.status != "succeeded" or not charge.captured:
            return "not captured"
        return "payment of an order" if charge.pays_order and self.type in _FIRST else None

    def version(self, body: bytes) -> int:
        """Of the sale, in the `body` that this was read from.

        Raises:
            VersionRangeError: `created` is outside its range.
        """
        charge = self.data.object
        return pack_stripe(
            self.created,
            body,
            payment=charge.pays_order,
            amount=charge.amount,
            captured=charge.amount_captured,
            refunded=charge.amount_refunded,
        )


SCHEMAS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {"shopify_order": ShopifyOrder, "stripe_charge_event": StripeChargeEvent}
)
"""The model of each file in contracts/payloads/."""

P = TypeVar("P", bound=BaseModel)


def document(body: bytes) -> Any:
    """The JSON value of a body.

    Raises:
        PayloadError: it is none, or is nested too deeply.
    """
    try:
        return from_json(body)
    except ValueError as error:
        raise PayloadError("webhook_malformed", f"the body is no JSON: {shortened(str(error), 160)}") from None


def _path(content: Any, location: Sequence[str | int]) -> str:
    """Where a field is, as far as the content has it: `line_items[0].price`."""
    path = ""
    for part in location:
        try:
            content = content[part]
        except (LookupError, TypeError):
            break  # the name of a model, where several may be
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def read(model: type[P], content: Any) -> P:
    """The fields of the model in a JSON value.

    Raises:
        PayloadError: one is missing or of another type; the first is named by its path.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    value, location = first["input"], first["loc"]
    if not location:
        raise PayloadError("webhook_malformed", f"the body is {quoted(value)}, not a JSON object")
    if first["type"] == "missing":
        within = _path(content, location)
        raise PayloadError("field_missing", f"{within}{'.' if within else ''}{location[-1]} is missing")
    path = _path(content, location)
    if value is None:
        raise PayloadError("field_missing", f"{path} is null")
    raise PayloadError("field_malformed", f"{path} is {quoted(value)}: {first['msg']}")


def schema(name: str) -> str:
    """The text of a file in contracts/payloads/."""
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SCHEMAS[name].model_json_schema(),
    }
    return json.dumps(described, indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SCHEMAS:
        (FOLDER / f"{each}.json").write_text(schema(each), "utf-8")
