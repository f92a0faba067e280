"""A row of a CSV file as a unified sale. Pure."""

from datetime import tzinfo
from functools import partial
from typing import Any

from chassis.results import Context, Ignored, Output, Rejected
from contracts.sale import key
from contracts.versions import VersionRangeError, pack_files
from streams import validation
from streams.validation import RawSale

# field of the unified sale -> what it is made from, for lineage
COLUMNS = {
    **validation.COLUMNS,
    "version": ("object_version", "row_number"),
    "deleted": ("deleted",),
}


def transform(record: dict[str, Any], context: Context, *, zone: tzinfo) -> Output | Rejected | Ignored:
    """The sale of the row, or why it is rejected; `zone` is that of a sale_date which names none.

    The version is the upload (in seconds), then the row: a later upload wins, within one file the later row.
    """
    upload = record["object_version"]
    try:
        version = pack_files(upload, record["row_number"])
    except VersionRangeError as error:
        return Rejected("version_range", str(error))
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
    outcome = validation.deletion if record["deleted"] else validation.sale
    event = outcome(raw, "files", received, version)
    return event if isinstance(event, Rejected) else Output(key(event), event, upload * 1000)
