"""The sale and the version that a record of a raw topic or of `sales.unified` is about, for commands that read both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from contracts.sale import normalized
from contracts.time import parse_instant, to_ms
from contracts.versions import VersionRangeError, pack_files

TABLE = "sales"


@dataclass(frozen=True, slots=True)
class SaleVersion:
    """A version of a sale at one step: when the sale happened (ms since 1970, None where that is unreadable)."""

    at: int | None
    version: int = 0
    deleted: bool = False


def sale_id(raw: object) -> str | None:
    """A sale's id as the streams units write it; None where there is none."""
    return None if raw is None else normalized(str(raw)) or None


def written(text: str | None) -> int | None:
    """Milliseconds since 1970 of the instant that a text names, UTC where it names no zone; None where it is none."""
    try:
        return to_ms(parse_instant(text or "", UTC))
    except (ValueError, OverflowError):
        return None


def of_postgres(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale that a Debezium envelope is about; no id where it is about none.

    The version is the log position alone: the envelope does not know the epoch (CDC_EPOCH), so it orders changes only
    until the database is restored.
    """
    deleted = record["op"] == "d"
    row = record["before" if deleted else "after"]
    if record["source"]["table"] != TABLE or row is None:
        return None, SaleVersion(None)
    at = None if row["sale_date"] is None else row["sale_date"] // 1000
    return str(row["id"]), SaleVersion(at, record["source"]["lsn"] or 0, deleted)


def of_files(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale of a CSV row; its version is 0 where it has none, which the streams service rejects."""
    try:
        version = pack_files(record["object_version"], record["row_number"])
    except VersionRangeError:
        version = 0
    return sale_id(record["sale_id"]), SaleVersion(written(record["sale_date"]), version, record["deleted"])


def of_legacy(record: Mapping[str, Any]) -> tuple[str | None, SaleVersion]:
    """The sale of the legacy service."""
    return sale_id(record["sale_id"]), SaleVersion(record["sale_date"], to_ms(record["fetched_at"]))


def of_unified(record: Mapping[str, Any]) -> SaleVersion:
    """A unified sale."""
    return SaleVersion(to_ms(record["event_time"]), record["version"], record["deleted"])


Read = Callable[[Mapping[str, Any]], tuple[str | None, SaleVersion]]
RAW: Mapping[str, tuple[str, Read]] = {
    "postgres": ("sales.postgres", of_postgres),
    "files": ("sales.files", of_files),
    "legacy": ("sales.legacy", of_legacy),
}
"""The raw topic of each source, and how its records are read."""
