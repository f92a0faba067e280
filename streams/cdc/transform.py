"""A Debezium change event of public.sales as a unified sale. Pure."""

from functools import partial
from typing import Any

from chassis.results import Context, Ignored, Output, Rejected
from contracts.sale import key
from contracts.versions import VersionRangeError, pack_postgres
from streams import validation
from streams.validation import RawSale

TABLE = "sales"
TRUNCATED = (
    ", the table was truncated; the trigger sales_truncate has deleted its rows one by one before,"
    " where there is none, run task resnapshot"
)

KEPT = ", the last valid version of the sale, if any, stays ranked"

# field of the unified sale -> what it is made from, for lineage; a deletion takes the same columns from `before`
COLUMNS = {
    "sale_id": ("after.id", "before.id"),
    "salesman_name": ("after.salesman", "before.salesman"),
    "city": ("after.city", "before.city"),
    "country": ("after.country", "before.country"),
    "amount": ("after.amount", "before.amount"),
    "product": ("after.product", "before.product"),
    "event_time": ("after.sale_date", "before.sale_date"),
    "version": ("source.lsn",),
    "deleted": ("op",),
}

# operation -> which image of the row counts, and what becomes of it
OPERATIONS = {
    "r": ("after", validation.sale),
    "c": ("after", validation.sale),
    "u": ("after", validation.sale),
    "d": ("before", validation.deletion),
}


def raw_sale(row: dict[str, Any], context: Context) -> RawSale:
    """The values of one row image; sale_date is microseconds since 1970, read as UTC."""
    micros = row["sale_date"]
    return RawSale(
        sale_id=str(row["id"]),
        salesman_name=row["salesman"],
        city=row["city"],
        country=row["country"],
        amount=row["amount"],
        product=row["product"],
        event_time=partial(validation.epoch_ms, "sale_date", None if micros is None else micros // 1000, context.now),
    )


def transform(record: dict[str, Any], context: Context, *, epoch: int) -> Output | Rejected | Ignored:
    """The sale after the change, a deletion, or why there is none.

    The version is the position in the database's log under `epoch`; the ingestion time is the Kafka timestamp, that is
    when Debezium handed the change over. Changes of other tables (heartbeats) are ignored.
    """
    source = record["source"]
    if source["table"] != TABLE:
        return Ignored(f"table {source['table']}")
    if record["op"] not in OPERATIONS:
        more = TRUNCATED if record["op"] == "t" else ""
        return Rejected("operation_unknown", f"op is {record['op'][:20]!r}{more}")
    image, outcome = OPERATIONS[record["op"]]
    if record[image] is None:
        return Rejected("field_missing", f"{image} is null in a change with op {record['op']}")
    if source["lsn"] is None:
        return Rejected("field_missing", "source.lsn is null")
    try:
        version = pack_postgres(epoch, source["lsn"])
    except VersionRangeError as error:
        return Rejected("version_range", str(error))
    event = outcome(
        raw_sale(record[image], context),
        "postgres",
        validation.bounded(context.written_at, context.now),
        version,
    )
    if isinstance(event, Rejected) and record["op"] == "u":
        event = Rejected(event.reason, f"{event.detail}{KEPT}")
    return event if isinstance(event, Rejected) else Output(key(event), event, source["ts_ms"])
