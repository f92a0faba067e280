"""The unified sale: what `sales.unified` carries, as Python holds it, its key, and how its texts are normalized."""

import re
import unicodedata
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypedDict

TOPIC = "sales.unified"

# Unicode's Default_Ignorable_Code_Point and the annotation characters: nobody sees them, so they would make doubles.
# The two joiners stay between characters of scripts that are spelled with them (Arabic to Myanmar, Khmer, Mongolian).
_IGNORABLE = re.compile(
    "(?!(?<=[\u0600-\u109f\u1780-\u18af])[\u200c\u200d][\u0600-\u109f\u1780-\u18af])"
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# White space that may stand between words. The separators U+001C..U+001F and U+0085 count as white space for Python,
# but are control characters.
_SPACES = re.compile(r"[^\S\x1c-\x1f\x85]+")

SourceName = Literal["postgres", "files", "legacy", "shopify", "stripe"]


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


def normalized(text: str) -> str:
    """A text of a sale as it is stored: invisible characters removed, NFC, trimmed, white space collapsed to one space.

    Ids and names that look the same are thus the same. Control characters stay: they are an error of the value.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _IGNORABLE.sub("", text))
    text = text.strip(" ")
    if "  " in text or not text.isprintable():  # the one printable white space is the blank
        text = _SPACES.sub(" ", text).strip(" ")
    return text


def key(event: SaleEvent) -> bytes:
    """The record key: one sale is always in one partition, so that its versions stay in order."""
    return f"{event['source']}:{event['sale_id']}".encode()
