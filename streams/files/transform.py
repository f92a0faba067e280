"""A row of a CSV file as a unified sale. Pure."""

from datetime import tzinfo
from functools import partial
from typing import Any

from chassis.dead_letters import Refusal
from chassis.stream import Context, Ignored, Output
from contracts.sale import key
from streams import validation
from streams.validation import RawSale

ROW_BITS = 31

# field of the unified sale -> what it is made from, for lineage
COLUMNS = {
    **validation.COLUMNS,
    "version": ("object_version", "row_number"),
}


def transform(record: dict[str, Any], context: Context, *, zone: tzinfo) -> Output | Refusal | Ignored:
    """The sale of the row, or why it is refused; `zone` is that of a sale_date which names none.

    The version is the upload (in seconds), then the row: a later upload wins, within one file the later row.
    """
    row, upload = record["row_number"], record["object_version"]
    if not 0 <= row < 1 << ROW_BITS or not 0 <= upload < 1 << 63 - ROW_BITS:
        return Refusal("version_range", f"row_number is {row}, object_version is {upload}")
    raw = RawSale(
        sale_id=record["sale_id"],
        salesman_name=record["salesman_name"],
        city=record["city"],
        country=record["country"],
        amount=record["amount"],
        product=record["product"],
        event_time=partial(validation.iso_instant, "sale_date", record["sale_date"], zone, context.now),
    )
    received = validation.bounded(record["fetched_at"], context.now)
    event = validation.sale(raw, "files", received, upload << ROW_BITS | row)
    return event if isinstance(event, Refusal) else Output(key(event), event, upload * 1000)
