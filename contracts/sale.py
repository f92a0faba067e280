"""The unified sale: what `sales.unified` carries, as Python holds it, and its key."""

from datetime import datetime
from decimal import Decimal
from typing import Literal, TypedDict

TOPIC = "sales.unified"

SourceName = Literal["postgres", "files", "legacy"]


class SaleEvent(TypedDict):
    """A sale as it is now, field by field as in `contracts/topics/sales.unified/value.avsc`.

    Times are aware UTC datetimes of whole milliseconds; `amount` has exactly two decimal places.
    """

    sale_id: str
    source: SourceName
    salesman_name: str
    city: str
    country: str
    amount: Decimal
    product: str
    event_time: datetime
    ingestion_time: datetime
    version: int
    deleted: bool


def key(event: SaleEvent) -> bytes:
    """The record key: one sale is always in one partition, so that its versions stay in order."""
    return f"{event['source']}:{event['sale_id']}".encode()
