"""A sale of the legacy SOAP service as a unified sale. Pure."""

from functools import partial
from typing import Any

from chassis.results import Context, Ignored, Output, Rejected
from contracts.sale import key
from contracts.time import to_ms
from streams import validation
from streams.validation import RawSale

# field of the unified sale -> what it is made from, for lineage
COLUMNS = {
    **validation.COLUMNS,
    "version": ("fetched_at",),
}


def transform(record: dict[str, Any], context: Context) -> Output | Rejected | Ignored:
    """The sale, or why it is rejected. The version is the time of the call that brought it, in milliseconds."""
    raw = RawSale(
        sale_id=record["sale_id"],
        salesman_name=record["salesman_name"],
        city=record["city"],
        country=record["country"],
        amount=record["amount"],
        product=record["product"],
        event_time=partial(validation.epoch_ms, "sale_date", record["sale_date"], context.now),
    )
    fetched_at = record["fetched_at"]
    received = validation.bounded(fetched_at, context.now)
    fetched_ms = to_ms(fetched_at)
    event = validation.sale(raw, "legacy", received, fetched_ms)
    return event if isinstance(event, Rejected) else Output(key(event), event, fetched_ms)
