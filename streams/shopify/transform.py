"""An order of the Shopify shop, as a webhook brings it, as a unified sale. Pure."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from chassis.results import Context, Ignored, Output, Rejected
from contracts import payloads
from contracts.payloads import (
    CHARGES,
    PayloadError,
    ShopifyAddress,
    ShopifyLineItem,
    ShopifyNoteAttribute,
    ShopifyOrder,
    ShopifyOrderState,
)
from contracts.sale import SaleEvent, SourceName, key
from contracts.text import quoted
from contracts.time import to_ms
from contracts.versions import MAX_VERSION, VersionRangeError, pack_shopify
from streams import validation
from streams.validation import InvalidError, RawSale

SOURCE: SourceName = "shopify"
TRIGGERED_AT = "occurred_at (X-Shopify-Triggered-At)"

# field of the unified sale -> what it is made from, for lineage
COLUMNS = {
    **dict.fromkeys(("sale_id", "salesman_name", "city", "country", "amount", "product", "event_time"), ("body",)),
    "ingestion_time": ("received_at",),
    "version": ("occurred_at", "event_type", "body"),
    "deleted": ("event_type", "body"),
}


def _names(address: str) -> dict[str, str]:
    """How a rejection calls the fields of a sale."""
    return {
        "sale_id": "id",
        "salesman_name": "source_name",
        "city": f"{address}.city",
        "country": f"{address}.country_code",
        "amount": "current_total_price",
        "product": "line_items[].title",
    }


SHIPPING, BILLING = _names("shipping_address"), _names("billing_address")


def _product(items: Sequence[ShopifyLineItem]) -> str | None:
    """The title of the line item of the greatest value, price by quantity that is left; of equal ones the first."""

    def value(number: int) -> Any:
        item = items[number]
        left = item.quantity if item.current_quantity is None else item.current_quantity
        return validation.decimal(f"line_items[{number}].price", item.price) * left

    return items[max(range(len(items)), key=value)].title if items else None


def _raw_sale(order: ShopifyOrder, now: datetime) -> tuple[RawSale, dict[str, str]]:
    """The values of the order, and how they are called there; of its addresses the first with city and country."""
    shipping, billing = order.shipping_address, order.billing_address
    complete = shipping is not None and shipping.city and shipping.country_code
    address, names = (shipping, SHIPPING) if complete or billing is None else (billing, BILLING)
    where = address or ShopifyAddress()
    raw = RawSale(
        sale_id=str(order.id),
        salesman_name=order.source_name,
        city=where.city,
        country=where.country_code,
        amount=validation.decimal("current_total_price", order.current_total_price),
        product=_product(order.line_items),
        event_time=partial(validation.iso_instant, "created_at", order.created_at, None, now),
    )
    return raw, names


def _charges(attributes: Sequence[ShopifyNoteAttribute]) -> list[str]:
    """The ids of the Stripe sales that are payments of the order.

    Raises:
        InvalidError: one is no text that can be an id.
    """
    named = []
    for number, attribute in enumerate(attributes):
        value = attribute.value
        if attribute.name in CHARGES and value is not None:
            field = f"note_attributes[{number}].value"
            if not isinstance(value, str):
                raise InvalidError("field_malformed", field, value)
            if value.strip():
                named.append(validation.text(field, value))
    return named


def _sale(document: Any, received: datetime, version: int, now: datetime, currency: str) -> SaleEvent | Rejected:
    """The sale of an order that is one."""
    order = payloads.read(ShopifyOrder, document)
    if order.currency != currency:
        return Rejected("currency_not_ranked", f"currency is {quoted(order.currency)}, sales are ranked in {currency}")
    raw, names = _raw_sale(order, now)
    return validation.sale(raw, SOURCE, received, version, names)


def _deletion(document: Any, sale_id: str, received: datetime, version: int, now: datetime) -> SaleEvent | Rejected:
    """That the order is no sale, with the values that it still has."""
    try:
        raw, _ = _raw_sale(payloads.read(ShopifyOrder, document), now)
    except (PayloadError, InvalidError):
        return validation.gone(sale_id, SOURCE, received, version)
    return validation.deletion(raw, SOURCE, received, version)


def _outcome(record: dict[str, Any], now: datetime, currency: str) -> Output | Rejected:
    document = payloads.document(record["body"])
    order = payloads.read(ShopifyOrderState, document)
    if record["occurred_at"] is None:
        raise InvalidError("field_missing", TRIGGERED_AT)
    triggered: datetime = record["occurred_at"]
    triggered_ms = to_ms(triggered)
    validation.epoch_ms(TRIGGERED_AT, triggered_ms, now)
    gone = order.gone(record["event_type"])
    version = pack_shopify(triggered, gone, record["body"])
    received = validation.bounded(record["received_at"], now)
    if gone:
        sale_id = validation.text("id", str(order.id))
        event = _deletion(document, sale_id, received, version, now)
    else:
        event = _sale(document, received, version, now, currency)
    if isinstance(event, Rejected):
        return event
    named = [] if order.test else _charges(order.note_attributes)
    payments = [validation.gone(charge, "stripe", received, MAX_VERSION) for charge in named]
    return Output(key(event), event, triggered_ms, [Output(key(payment), payment) for payment in payments])


def transform(record: dict[str, Any], context: Context, *, currency: str) -> Output | Rejected | Ignored:
    """The sale of the order as it is now, or why it is rejected; and that the sales of the charges it names are gone.

    The version is the moment when the event was triggered, which a retry repeats. An order that is no sale, or none any
    more, is a deletion, whatever of it can be read.
    """
    try:
        return _outcome(record, context.now, currency)
    except InvalidError as invalid:
        return invalid.rejected
    except PayloadError as error:
        return Rejected(error.reason, error.detail)
    except VersionRangeError as error:
        return Rejected("version_range", str(error))
