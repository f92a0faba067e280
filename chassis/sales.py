"""What a record of a raw topic or of `sales.unified` says of which sale, for commands that look from outside."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
TABLE = "sales"


@dataclass(frozen=True, slots=True)
class Seen:
    """A sale at one step: when it happened (ms since 1970, None where unreadable), and the version that says so."""

    at: int | None
    version: int = 0
    gone: bool = False


def sale_id(raw: object) -> str | None:
    """A sale's id as the streams units write it (NFC, white space collapsed); None where there is none."""
    if raw is None:
        return None
    return " ".join(unicodedata.normalize("NFC", str(raw)).split()) or None


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware instant."""
    return (moment - EPOCH) // MILLISECOND


def written(text: str | None) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 text, UTC where it names no zone; None where it is none."""
    try:
        parsed = datetime.fromisoformat((text or "").strip().upper())
        return milliseconds(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def of_postgres(record: Mapping[str, Any]) -> tuple[str | None, Seen]:
    """The sale that a Debezium envelope is about; no id where it is about none."""
    gone = record["op"] == "d"
    row = record["before" if gone else "after"]
    if record["source"]["table"] != TABLE or row is None:
        return None, Seen(None)
    micros = row["sale_date"]
    return str(row["id"]), Seen(None if micros is None else micros // 1000, record["source"]["lsn"] or 0, gone)


def of_files(record: Mapping[str, Any]) -> tuple[str | None, Seen]:
    """The sale of a CSV row."""
    version = (record["object_version"] << 31) + record["row_number"]
    return sale_id(record["sale_id"]), Seen(written(record["sale_date"]), version)


def of_legacy(record: Mapping[str, Any]) -> tuple[str | None, Seen]:
    """The sale of the legacy service."""
    return sale_id(record["sale_id"]), Seen(record["sale_date"], milliseconds(record["fetched_at"]))


def of_unified(record: Mapping[str, Any]) -> Seen:
    """A unified sale."""
    return Seen(milliseconds(record["event_time"]), record["version"], record["deleted"])


Read = Callable[[Mapping[str, Any]], tuple[str | None, Seen]]
RAW: Mapping[str, tuple[str, Read]] = {
    "postgres": ("sales.postgres", of_postgres),
    "files": ("sales.files", of_files),
    "legacy": ("sales.legacy", of_legacy),
}
"""The raw topic of each source, and how its records are read."""
