"""A charge of Stripe, as a webhook brings it, as a unified sale, where it pays no order. Pure."""

from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from chassis.results import Context, Ignored, Output, Rejected
from contracts import payloads
from contracts.currencies import STRIPE_MINOR_UNITS
from contracts.payloads import PayloadError, StripeAddress, StripeCharge, StripeChargeEvent
from contracts.sale import SourceName, key
from contracts.text import quoted
from contracts.versions import VersionRangeError
from streams import validation
from streams.validation import InvalidError, RawSale

SOURCE: SourceName = "stripe"
SALESPERSON = "Stripe"
CHARGE = "data.object"

# field of the unified sale -> what it is made from, for lineage
COLUMNS = {
    **dict.fromkeys(("sale_id", "city", "country", "amount", "product", "event_time", "version", "deleted"), ("body",)),
    "ingestion_time": ("received_at",),
}


def _names(contact: str) -> dict[str, str]:
    """How a rejection calls the fields of a sale."""
    return {
        "sale_id": f"{CHARGE}.payment_intent or {CHARGE}.id",
        "city": f"{CHARGE}.{contact}.address.city",
        "country": f"{CHARGE}.{contact}.address.country",
        "amount": f"{CHARGE}.amount_captured less what is refunded",
        "product": f"{CHARGE}.description",
    }


BILLING, SHIPPING = _names("billing_details"), _names("shipping")


def _raw_sale(charge: StripeCharge, now: datetime) -> tuple[RawSale, dict[str, str]]:
    """The values of the charge, and how they are called there; of its addresses the first with city and country."""
    billing, shipping = (
        contact.address if contact is not None else None for contact in (charge.billing_details, charge.shipping)
    )
    usable = shipping is not None and shipping.city and shipping.country
    complete = billing is not None and billing.city and billing.country
    address, names = (shipping, SHIPPING) if usable and not complete else (billing, BILLING)
    where = address or StripeAddress()
    raw = RawSale(
        sale_id=charge.sale_id,
        salesman_name=SALESPERSON,
        city=where.city,
        country=where.country,
        amount=Decimal(charge.kept).scaleb(-STRIPE_MINOR_UNITS.get(charge.currency.upper(), 2)),
        product=charge.description or charge.calculated_statement_descriptor,
        event_time=partial(validation.epoch_ms, f"{CHARGE}.created", charge.created * 1000, now),
    )
    return raw, names


def _outcome(record: dict[str, Any], now: datetime, currency: str) -> Output | Rejected | Ignored:
    event = payloads.read(StripeChargeEvent, payloads.document(record["body"]))
    charge = event.data.object
    if (why := event.no_sale) is not None:
        return Ignored(why)
    created_ms = event.created * 1000
    validation.epoch_ms("created", created_ms, now)
    version = event.version(record["body"])
    received = validation.bounded(record["received_at"], now)
    raw, names = _raw_sale(charge, now)
    if charge.gone:
        sale = validation.deletion(raw, SOURCE, received, version)
    elif charge.currency.upper() != currency:
        return Rejected(
            "currency_not_ranked",
            f"{CHARGE}.currency is {quoted(charge.currency)}, sales are ranked in {currency}",
        )
    else:
        sale = validation.sale(raw, SOURCE, received, version, names)
    return sale if isinstance(sale, Rejected) else Output(key(sale), sale, created_ms)


def transform(record: dict[str, Any], context: Context, *, currency: str) -> Output | Rejected | Ignored:
    """The sale of the charge as it is now, or why it is rejected.

    The version is the second in which the event was created, then how far the charge has come. What never was a sale
    is ignored: a charge that is not captured, of test mode, or of an order from the beginning. A charge that names an
    order only later, or is refunded in full, is a deletion.
    """
    try:
        return _outcome(record, context.now, currency)
    except InvalidError as invalid:
        return invalid.rejected
    except PayloadError as error:
        return Rejected(error.reason, error.detail)
    except VersionRangeError as error:
        return Rejected("version_range", str(error))
