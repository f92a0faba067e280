"""Pure rules of the legacy poller: what to ask for, what of the answer is new, and sales as records."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from chassis.results import Rejected
from contracts.text import quoted

DIGEST_BYTES = 8
# what fits with its envelope into the broker's default message.max.bytes (1,048,588) in base64
MAX_SEEN = 40_000
SPARE_SEEN = 1_000
MAX_SALE_BYTES = 200_000
KEPT_BYTES = 64 * 1024
LONG = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")  # as xsd:long, within 64 bits
TEXTS = {
    "sale_id": "saleId",
    "salesman_name": "salesmanName",
    "city": "city",
    "country": "country",
    "amount": "amount",
    "product": "product",
}


@dataclass(frozen=True)
class Cursor:
    """How far the service has been asked: start of the last successful call and its version (both ms since 1970).

    `seen` holds what the last answers said, which the next may repeat: digest of the values by digest of the sale id.
    """

    called_at: int = 0
    fetched_at: int = 0
    seen: Mapping[bytes, bytes] = field(default_factory=dict)

    def position(self) -> Mapping[str, Any]:
        """As `ingestion.progress` keeps it."""
        packed = base64.b64encode(b"".join(identity + digest for identity, digest in self.seen.items())).decode()
        return {"called_at": self.called_at, "fetched_at": self.fetched_at, "seen": packed}


def cursor(position: Mapping[str, Any] | None) -> Cursor:
    """What `ingestion.progress` kept; where that is unreadable the beginning: asking again is harmless."""
    try:
        if position is None:
            return Cursor()
        packed = base64.b64decode(position["seen"], validate=True)
        digests = [packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES)]
        seen = dict(zip(digests[::2], digests[1::2], strict=True))
        return Cursor(int(position["called_at"]), int(position["fetched_at"]), seen)
    except (KeyError, TypeError, ValueError):
        return Cursor()


def since(last: Cursor, now: int, overlap_ms: int) -> int:
    """From when to ask (ms since 1970): the last call less the overlap, or now less it where the clock went back."""
    return max(0, min(last.called_at, now) - overlap_ms)


def fetch_time(last: Cursor, now: int) -> int:
    """The version of what a call brings: its start, and always more than that of the call before."""
    return max(now, last.fetched_at + 1)


@dataclass(frozen=True)
class Item:
    """One sale of an answer: its record, or why there is none; digests of what it is and of its values; its bytes."""

    sale_id: str | None
    identity: bytes
    outcome: Mapping[str, Any] | Rejected
    digest: bytes
    content: bytes


def item(sale: etree._Element | bytes, fetched_at: int) -> Item:
    """A Sale element as an item. Values pass as they are; only what the contract cannot carry is rejected.

    Bytes are those of a sale that is not well-formed.
    """
    if isinstance(sale, bytes):
        rejection = Rejected("legacy_malformed", "the sale is not well-formed XML, the others of the answer are read")
        digest = _digest(sale)
        return Item(None, digest, rejection, digest, sale[:KEPT_BYTES])
    content = etree.tostring(sale, encoding="utf-8", with_tail=False)
    given = {etree.QName(child).localname: child.text for child in sale if isinstance(child.tag, str)}
    record: dict[str, Any] = {field: given.get(name) for field, name in TEXTS.items()}
    if record["amount"] is not None:
        record["amount"] = record["amount"].strip()
    problem = ""
    text = given.get("saleDate")
    if text is None or LONG.fullmatch(text):
        record["sale_date"] = None if text is None else int(text)
    else:
        problem = f"saleDate {quoted(text)} is not in milliseconds since 1970"
    if len(content) > MAX_SALE_BYTES:
        problem = f"a sale of {len(content)} bytes, more than {MAX_SALE_BYTES}"
        content = content[:KEPT_BYTES]
    sale_id, values = record["sale_id"], _digest(repr(sorted(given.items())).encode())
    # without an id, or unreadable, it stands for itself
    identity = values if problem or not sale_id else _digest(sale_id.encode())
    record["fetched_at"] = fetched_at
    outcome = Rejected("legacy_malformed", problem) if problem else record
    return Item(sale_id, identity, outcome, values, content)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def news(items: Sequence[Item], seen: Mapping[bytes, bytes]) -> list[Item]:
    """What is not the newest that has been published of its sale.

    Where an answer holds one sale several times the last is meant: they would share a version, of which the first wins.
    """
    last = {item.identity: number for number, item in enumerate(items)}
    return [
        item
        for number, item in enumerate(items)
        if last[item.identity] == number and seen.get(item.identity) != item.digest
    ]


def after(last: Cursor, items: Sequence[Item], called_at: int, fetched_at: int) -> Cursor:
    """The cursor once the items are published.

    The sales of this answer are all that the next can repeat; some of those before stay too, for a clock that goes
    back. What exceeds MAX_SEEN (the oldest) would be published again, which upserts make harmless.
    """
    current = {item.identity: item.digest for item in items}
    before = [pair for pair in last.seen.items() if pair[0] not in current]
    kept = [*before[-len(current) - SPARE_SEEN :], *current.items()]
    return Cursor(called_at, fetched_at, dict(kept[-MAX_SEEN:]))
