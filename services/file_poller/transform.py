"""Pure rules of the file poller: which objects to read, their versions, headers and rows."""

import base64
import csv
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from chassis.results import Rejected
from chassis.s3_protocol import Object
from contracts.text import quoted
from contracts.time import at_ms
from services.file_poller.splitter import KEPT_BYTES, MAX_ROW_BYTES, Raw

COLUMNS = ("sale_id", "salesman_name", "city", "country", "amount", "product", "sale_date")
HEADER = ",".join(COLUMNS)
SUFFIXES = (".csv", ".csv.gz")
BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": Rejected("file_bom", "the first three bytes are EF BB BF"),
    b"\xff\xfe": Rejected("file_encoding", "the file is UTF-16 by its byte order mark"),
    b"\xfe\xff": Rejected("file_encoding", "the file is UTF-16 by its byte order mark"),
}
SHOWN = 120
MAX_IDS_BYTES = 700_000  # fits with its envelope into the broker's default message.max.bytes (1,048,588)

Count = Annotated[int, Field(strict=True, ge=0)]


@dataclass(frozen=True)
class Reading:
    """How far one version of an object has been read: `offset` bytes, `rows` after the header.

    `ids` are the packed sale ids of the newest version that was read to its end, with whole files.
    """

    etag: str
    last_modified: Count
    object_version: Count
    offset: Count = 0
    rows: Count = 0
    done: bool = False
    ids: str = ""

    def position(self) -> Mapping[str, Any]:
        """As `ingestion.progress` keeps it."""
        return {name: value for name, value in asdict(self).items() if name != "ids" or value}


_READING = TypeAdapter(Reading)


def reading(position: Mapping[str, Any]) -> Reading | None:
    """What `ingestion.progress` kept, or None where it is not a reading of ours."""
    try:
        return _READING.validate_python(position)
    except ValidationError:
        return None


def packed_ids(ids: Iterable[str]) -> str:
    """Sale ids as a reading keeps them; empty where they are too many for a record."""
    packed = base64.b64encode(zlib.compress("\n".join(sorted(ids)).encode())).decode()
    return packed if len(packed) <= MAX_IDS_BYTES else ""


def unpacked_ids(packed: str) -> set[str]:
    """The sale ids of a reading."""
    return set(zlib.decompress(base64.b64decode(packed)).decode().split("\n")) - {""} if packed else set()


def is_csv(key: str) -> bool:
    """Whether the key names a CSV file, packed or not."""
    return key.lower().endswith(SUFFIXES)


def next_reading(listed: Object, known: Reading | None) -> Reading | None:
    """Where to read on in an object, or None when its content has been read.

    The same bytes uploaded again, as the entity tag says, are the upload that is known. The version of an upload is the
    second of its last modification, and more than that of the upload before: it grows also where the clock of the
    store goes back or two uploads share a second.
    """
    if known is not None and known.etag == listed.etag and (listed.etag or known.last_modified == listed.last_modified):
        return None if known.done else known
    seconds = max(listed.last_modified // 1000, 0)
    if known is None:
        return Reading(listed.etag, listed.last_modified, seconds)
    return Reading(listed.etag, listed.last_modified, max(seconds, known.object_version + 1), ids=known.ids)


def pending(objects: Iterable[Object], known: Mapping[str, Reading]) -> list[tuple[Object, Reading]]:
    """The CSV objects that are new, changed or half read, oldest upload first."""
    wanted = [(listed, next_reading(listed, known.get(listed.key))) for listed in objects if is_csv(listed.key)]
    return sorted(
        ((listed, reading) for listed, reading in wanted if reading is not None),
        key=lambda pair: (pair[0].last_modified, pair[0].key),
    )


def shown(content: bytes) -> str:
    """Bytes for a message: shortened, readable whatever they are."""
    return quoted(content[: 2 * SHOWN].decode("utf-8", errors="backslashreplace"), SHOWN)


def rejected_start(head: bytes) -> Rejected | None:
    """Why a file is rejected for its first bytes, or None."""
    if not head:
        return Rejected("file_empty", "0 bytes")
    return next((why for mark, why in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)


def rejected_header(raw: Raw | None) -> Rejected | None:
    """Why a file is rejected for its header, or None: what it is, what was expected, and what else is wrong."""
    if raw is None:
        return Rejected("file_header", f"the file holds blank lines only, expected {HEADER}")
    if raw.fault == "long":
        return Rejected("file_header", f"the first line is longer than {MAX_ROW_BYTES} bytes, expected {HEADER}")
    try:
        text = raw.content.decode("utf-8")
        if raw.fault == "" and columns(text) == list(COLUMNS):
            return None
    except UnicodeDecodeError as error:
        return Rejected("file_encoding", f"byte {error.start} of the header is not UTF-8")
    except csv.Error as error:
        hint = "; its lines end in a carriage return alone: end them in a line feed" if "\r" in text else f"; {error}"
    else:
        separator = next((name for name in (";", "\t", "|") if text.count(name) >= len(COLUMNS) - 1), None)
        hint = f"; the separator is {separator!r}, not a comma" if separator else ""
    return Rejected("file_header", f"found {shown(raw.content)}, expected {HEADER}{hint}")


def columns(text: str) -> list[str]:
    """The columns of one record.

    Raises:
        csv.Error: the record is not CSV (something behind a closing quote, a carriage return outside quotes).
    """
    if '"' not in text and "\r" not in text:
        return text.split(",")
    csv.field_size_limit(MAX_ROW_BYTES)  # of the whole process, in which only this function reads CSV
    rows = list(csv.reader([text], strict=True))
    if len(rows) != 1:
        raise csv.Error(f"{len(rows)} records")
    return rows[0]


def parse(raw: Raw) -> list[str] | Rejected:
    """The seven columns of a record as the strings they were, or why it is rejected."""
    if raw.fault == "long":
        return Rejected("row_too_long", f"more than {MAX_ROW_BYTES} bytes, of which the first {KEPT_BYTES} are kept")
    try:
        text = raw.content.decode("utf-8")
        values = columns(text)
    except UnicodeDecodeError as error:
        return Rejected("file_encoding", f"byte {error.start} of the row is not UTF-8: {shown(raw.content)}")
    except csv.Error as error:
        why = "a quote is opened and never closed" if raw.fault == "unclosed" else str(error)
        return Rejected("row_ragged", f"{why}: {shown(raw.content)}")
    if raw.fault == "unclosed":
        return Rejected("row_ragged", f"a quote is opened and never closed: {shown(raw.content)}")
    if len(values) != len(COLUMNS):
        return Rejected("row_ragged", f"{len(values)} columns instead of {len(COLUMNS)}: {shown(raw.content)}")
    return values


def file_sale(
    values: Sequence[str],
    bucket: str,
    key: str,
    read: Reading,
    *,
    row_number: int,
    fetched_at: datetime,
    deleted: bool = False,
) -> Mapping[str, Any]:
    """The FileSale of one row; `deleted` where a former version of the file held the sale and this one does not."""
    return {
        **dict(zip(COLUMNS, values, strict=True)),
        "bucket": bucket,
        "object_key": key,
        "etag": read.etag,
        "last_modified": at_ms(read.last_modified),
        "object_version": read.object_version,
        "row_number": row_number,
        "fetched_at": fetched_at,
        "deleted": deleted,
    }


def row_key(bucket: str, key: str, row_number: int) -> bytes:
    """The Kafka key of one row."""
    return f"{bucket}/{key}#{row_number}".encode()
