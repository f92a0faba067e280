"""Pure rules of the file poller: which objects to read, their versions, headers and rows."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chassis.results import Rejected
from services.file_poller.splitter import KEPT_BYTES, MAX_ROW_BYTES, Raw

COLUMNS = ("sale_id", "salesman_name", "city", "country", "amount", "product", "sale_date")
HEADER = ",".join(COLUMNS)
UTF8_BOM = b"\xef\xbb\xbf"
OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
SHOWN = 120


@dataclass(frozen=True)
class Found:
    """An object as the listing names it; `last_modified` in ms since 1970."""

    key: str
    etag: str
    last_modified: int
    size: int


@dataclass(frozen=True)
class Reading:
    """How far one version of an object has been read: `offset` bytes, `rows` after the header."""

    etag: str
    last_modified: int
    object_version: int
    offset: int = 0
    rows: int = 0
    done: bool = False

    def position(self) -> Mapping[str, Any]:
        """As `ingestion.progress` keeps it."""
        return {
            "etag": self.etag,
            "last_modified": self.last_modified,
            "object_version": self.object_version,
            "offset": self.offset,
            "rows": self.rows,
            "done": self.done,
        }


def reading(position: Mapping[str, Any]) -> Reading | None:
    """What `ingestion.progress` kept, or None where it is not a reading of ours."""
    numbers = [position.get(name) for name in ("last_modified", "object_version", "offset", "rows")]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return None
    if not isinstance(position.get("etag"), str):
        return None
    last_modified, object_version, offset, rows = (int(number or 0) for number in numbers)
    return Reading(position["etag"], last_modified, object_version, offset, rows, position.get("done") is True)


def is_csv(key: str) -> bool:
    """Whether the key names a CSV file."""
    return key.lower().endswith(".csv")


def next_reading(found: Found, known: Reading | None) -> Reading | None:
    """Where to read on in an object, or None when this version of it has been read.

    The version of an upload is the second of its last modification, and more than that of the upload before: it grows
    also where the clock of the store goes back or two uploads share a second.
    """
    if known is not None and (known.etag, known.last_modified) == (found.etag, found.last_modified):
        return None if known.done else known
    seconds = max(found.last_modified // 1000, 0)
    version = seconds if known is None else max(seconds, known.object_version + 1)
    return Reading(found.etag, found.last_modified, version)


def pending(objects: Iterable[Found], known: Mapping[str, Reading]) -> list[tuple[Found, Reading]]:
    """The CSV objects that are new, changed or half read, oldest upload first."""
    wanted = [(found, next_reading(found, known.get(found.key))) for found in objects if is_csv(found.key)]
    return sorted(
        ((found, reading) for found, reading in wanted if reading is not None),
        key=lambda pair: (pair[0].last_modified, pair[0].key),
    )


def shown(content: bytes) -> str:
    """Bytes for a message: shortened, readable whatever they are."""
    text = content[:SHOWN].decode("utf-8", errors="backslashreplace")
    return repr(text) + ("..." if len(content) > SHOWN else "")


def rejected_start(head: bytes) -> Rejected | None:
    """Why a file is rejected for its first bytes, or None."""
    if not head:
        return Rejected("file_empty", "0 bytes")
    if head.startswith(UTF8_BOM):
        return Rejected("file_bom", "the first three bytes are EF BB BF")
    for bom, name in OTHER_BOMS.items():
        if head.startswith(bom):
            return Rejected("file_encoding", f"the file is {name} by its byte order mark")
    return None


def rejected_header(raw: Raw | None) -> Rejected | None:
    """Why a file is rejected for its header, or None: what was found, what was expected, and a wrong separator."""
    if raw is None:
        return Rejected("file_header", f"the file holds blank lines only, expected {HEADER}")
    if raw.fault == "long":
        return Rejected("file_header", f"the first line is longer than {MAX_ROW_BYTES} bytes, expected {HEADER}")
    try:
        text = raw.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Rejected("file_encoding", f"byte {error.start} of the header is not UTF-8")
    if raw.fault == "" and columns(text) == list(COLUMNS):
        return None
    separator = next((name for name in (";", "\t", "|") if text.count(name) >= len(COLUMNS) - 1), None)
    hint = f"; the separator is {separator!r}, not a comma" if separator else ""
    return Rejected("file_header", f"found {shown(raw.content)}, expected {HEADER}{hint}")


def columns(text: str) -> list[str]:
    """The columns of one record.

    Raises:
        csv.Error: the record is not CSV (a bare carriage return outside quotes).
    """
    if '"' not in text and "\r" not in text:
        return text.split(",")
    csv.field_size_limit(MAX_ROW_BYTES)  # of the whole process, in which only this function reads CSV
    rows = list(csv.reader([text]))
    if len(rows) != 1:
        raise csv.Error(f"{len(rows)} records")
    return rows[0]


def parse(raw: Raw) -> list[str] | Rejected:
    """The seven columns of a record as the strings they were, or why it is rejected."""
    if raw.fault == "long":
        return Rejected("row_too_long", f"more than {MAX_ROW_BYTES} bytes, of which the first {KEPT_BYTES} are kept")
    try:
        text = raw.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Rejected("file_encoding", f"byte {error.start} of the row is not UTF-8: {shown(raw.content)}")
    if raw.fault == "unclosed":
        return Rejected("row_ragged", f"a quote is opened and never closed: {shown(raw.content)}")
    try:
        values = columns(text)
    except csv.Error as error:
        return Rejected("row_ragged", f"{error}: {shown(raw.content)}")
    if len(values) != len(COLUMNS):
        return Rejected("row_ragged", f"{len(values)} columns instead of {len(COLUMNS)}: {shown(raw.content)}")
    return values


def file_sale(
    values: list[str], bucket: str, key: str, read: Reading, *, row_number: int, fetched_at: datetime
) -> Mapping[str, Any]:
    """The FileSale of one row."""
    return {
        **dict(zip(COLUMNS, values, strict=True)),
        "bucket": bucket,
        "object_key": key,
        "etag": read.etag,
        "last_modified": datetime.fromtimestamp(read.last_modified / 1000, UTC),
        "object_version": read.object_version,
        "row_number": row_number,
        "fetched_at": fetched_at,
    }


def row_key(bucket: str, key: str, row_number: int) -> bytes:
    """The Kafka key of one row."""
    return f"{bucket}/{key}#{row_number}".encode()


def etag_value(etag: str) -> str:
    """An entity tag as If-Match wants it: quoted."""
    return etag if re.fullmatch(r'(W/)?".*"', etag) else f'"{etag}"'
