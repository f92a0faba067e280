"""Pure rules of the legacy poller: what to ask for, what of the answer is new, and sales as records."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from chassis.dead_letters import Refusal
from chassis.progress import Position

DIGEST_BYTES = 8
# what fits with its envelope into the broker's default message.max.bytes (1,048,588) in base64
MAX_SEEN = 80_000
MAX_SALE_BYTES = 200_000
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

    `seen` are digests of the sales of the last answers, which the next answer may repeat.
    """

    called_at: int = 0
    fetched_at: int = 0
    seen: tuple[bytes, ...] = ()

    def position(self) -> Position:
        """As `ingestion.progress` keeps it."""
        packed = base64.b64encode(b"".join(self.seen)).decode()
        return {"called_at": self.called_at, "fetched_at": self.fetched_at, "seen": packed}


def cursor(position: Position | None) -> Cursor:
    """What `ingestion.progress` kept; where that is unreadable the beginning: asking again is harmless."""
    try:
        if position is None:
            return Cursor()
        packed = base64.b64decode(position["seen"], validate=True)
        digests = tuple(packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES))
        return Cursor(int(position["called_at"]), int(position["fetched_at"]), digests)
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
    """One sale of an answer: its record, or why there is none; its id, digest and bytes."""

    sale_id: str | None
    record: Mapping[str, Any] | None
    refusal: Refusal | None
    digest: bytes
    content: bytes


def item(element: etree._Element, fetched_at: int) -> Item:
    """A Sale element as an item. Values pass as they are; only what the contract cannot carry is refused."""
    content = etree.tostring(element, encoding="utf-8", with_tail=False)
    given = {etree.QName(child).localname: child.text for child in element if isinstance(child.tag, str)}
    record: dict[str, Any] = {field: given.get(name) for field, name in TEXTS.items()}
    if record["amount"] is not None:
        record["amount"] = record["amount"].strip()
    refusal = None
    text = given.get("saleDate")
    if text is None or LONG.fullmatch(text):
        record["sale_date"] = None if text is None else int(text)
    else:
        refusal = Refusal("legacy_malformed", f"saleDate {text[:60]!r} is not in milliseconds since 1970")
    if len(content) > MAX_SALE_BYTES:
        refusal = Refusal("legacy_malformed", f"a sale of {len(content)} bytes, more than {MAX_SALE_BYTES}")
        content = content[: 64 * 1024]
    digest = hashlib.blake2b(repr(sorted(given.items())).encode(), digest_size=DIGEST_BYTES).digest()
    record["fetched_at"] = fetched_at
    return Item(record["sale_id"], None if refusal else record, refusal, digest, content)


def news(items: Iterable[Item], seen: Iterable[bytes]) -> list[Item]:
    """What has not been published yet.

    Where an answer holds one id several times the last is meant: they would share a version, of which the first wins.
    """
    known = set(seen)
    fresh = [item for item in items if item.digest not in known]
    last = {item.sale_id: number for number, item in enumerate(fresh) if item.sale_id and item.record}
    return [
        item for number, item in enumerate(fresh) if not item.sale_id or not item.record or last[item.sale_id] == number
    ]


def after(last: Cursor, items: Sequence[Item], called_at: int, fetched_at: int) -> Cursor:
    """The cursor once the items are published.

    The sales of this answer are all that the next can repeat; those of the answer before stay too, for a clock that
    goes back. What exceeds MAX_SEEN (the oldest) would be published again, which upserts make harmless.
    """
    current = [item.digest for item in items]
    previous = [digest for digest in last.seen if digest not in set(current)]
    kept = [*previous[-len(current) - 1000 :], *dict.fromkeys(current)]
    return Cursor(called_at, fetched_at, tuple(kept[-MAX_SEEN:]))
