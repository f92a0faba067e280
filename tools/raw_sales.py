"""The sale and the version that a record of a raw topic or of `sales.unified` is about, for commands that read both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from contracts import payloads
from contracts.payloads import CHARGES, PayloadError, ShopifyOrderState, StripeChargeEvent
from contracts.sale import normalized
from contracts.time import parse_instant, to_ms
from contracts.versions import MAX_VERSION, VersionRangeError, pack_files, pack_shopify

TABLE = "sales"


@dataclass(frozen=True, slots=True)
class SaleVersion:
    """A version of a sale at one step: when the sale happened (ms since 1970, None where that is unreadable)."""

    at: int | None
    version: int = 0
    deleted: bool = False


def sale_id(raw: object) -> str | None:
    """A sale's id as the streams units write it; None where there is none."""
    return None if raw is None else normalized(str(raw)) or None


def written(text: str | None) -> int | None:
    """Milliseconds since 1970 of the instant that a text names, UTC where it names no zone; None where it is none."""
    try:
        return to_ms(parse_instant(text or "", UTC))
    except (ValueError, OverflowError):
        return None


def of_postgres(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale that a Debezium envelope is about; no id where it is about none.

    The version is the log position alone: the envelope does not know the epoch (CDC_EPOCH), so it orders changes only
    until the database is restored.
    """
    deleted = record["op"] == "d"
    row = record["before" if deleted else "after"]
    if record["source"]["table"] != TABLE or row is None:
        return None, SaleVersion(None)
    at = None if row["sale_date"] is None else row["sale_date"] // 1000
    return str(row["id"]), SaleVersion(at, record["source"]["lsn"] or 0, deleted)


def of_files(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale of a CSV row; its version is 0 where it has none, which the streams service rejects."""
    try:
        version = pack_files(record["object_version"], record["row_number"])
    except VersionRangeError:
        version = 0
    return sale_id(record["sale_id"]), SaleVersion(written(record["sale_date"]), version, record["deleted"])


def of_legacy(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale of the legacy service."""
    return sale_id(record["sale_id"]), SaleVersion(record["sale_date"], to_ms(record["fetched_at"]))


def of_shopify(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale that an order is; its version is 0 where it has none, which the streams service rejects."""
    name, body = sale_id(record["object_id"]), record["body"]
    try:
        order = payloads.read(ShopifyOrderState, payloads.document(body))
        deleted, triggered = order.gone(record["event_type"]), record["occurred_at"]
        version = 0 if triggered is None else pack_shopify(triggered, deleted, body)
    except (PayloadError, VersionRangeError):
        return name, SaleVersion(None)
    return name, SaleVersion(written(order.created_at), version, deleted)


def of_stripe(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale that a charge is, by its payment intent or itself; one that never was a sale is the oldest deletion."""
    body = record["body"]
    try:
        event = payloads.read(StripeChargeEvent, payloads.document(body))
        charge, version = event.data.object, event.version(body)
    except (PayloadError, VersionRangeError):
        return sale_id(record["object_id"]), SaleVersion(None)
    at, name = charge.created * 1000, sale_id(charge.sale_id)
    if event.no_sale is not None:
        return name, SaleVersion(at, deleted=True)
    return name, SaleVersion(at, version, charge.gone)


def payments(record: Mapping[str, Any]) -> list[str]:
    """The Stripe sales that an order names as its payments, which makes them no sales."""
    try:
        order = payloads.read(ShopifyOrderState, payloads.document(record["body"]))
    except PayloadError:
        return []
    named = [sale_id(note.value) for note in order.note_attributes if note.name in CHARGES and note.value is not None]
    return [] if order.test else [name for name in named if name is not None]


def of_unified(record: Mapping[str, Any]) -> SaleVersion:
    """A unified sale."""
    return SaleVersion(to_ms(record["event_time"]), record["version"], record["deleted"])


Read = Callable[[Mapping[str, Any]], tuple[str | None, SaleVersion]]
RAW: Mapping[str, tuple[str, Read]] = {
    "postgres": ("sales.postgres", of_postgres),
    "files": ("sales.files", of_files),
    "legacy": ("sales.legacy", of_legacy),
    "shopify": ("shopify.orders", of_shopify),
    "stripe": ("stripe.charges", of_stripe),
}
"""The raw topic of each source, and how its records are read."""
TOLD_BY: Mapping[str, Sequence[str]] = {**{source: (source,) for source in RAW}, "stripe": ("shopify", "stripe")}
"""By source, those whose topics tell of its sales."""
PAYMENT = SaleVersion(None, MAX_VERSION, deleted=True)


def found(topic_of: str, record: Mapping[str, Any]) -> list[tuple[str, str | None, SaleVersion]]:
    """What a record of a source's topic tells: source, id (None where it is about no sale) and version of each sale."""
    name, version = RAW[topic_of][1](record)
    paid = payments(record) if topic_of == "shopify" else []
    return [(topic_of, name, version), *(("stripe", each, PAYMENT) for each in paid)]
