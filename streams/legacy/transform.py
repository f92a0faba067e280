"""A sale of the legacy SOAP service as a unified sale. Pure."""

from functools import partial
from typing import Any

from chassis.dead_letters import Refusal
from chassis.stream import Context, Ignored, Output
from contracts.sale import key
from streams import validation
from streams.validation import EPOCH, MILLISECOND, RawSale

# field of the unified sale -> what it is made from, for lineage
COLUMNS = {
    **validation.COLUMNS,
    "version": ("fetched_at",),
}


def transform(record: dict[str, Any], context: Context) -> Output | Refusal | Ignored:
    """The sale, or why it is refused. The version is the time of the call that brought it, in milliseconds."""
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
    fetched_ms = (fetched_at - EPOCH) // MILLISECOND
    event = validation.sale(raw, "legacy", received, fetched_ms)
    return event if isinstance(event, Refusal) else Output(key(event), event, fetched_ms)
