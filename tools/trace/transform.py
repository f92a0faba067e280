"""Pure: what a trace is made of, and whether a sale is in a ranking."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from contracts.time import iso, iso_ms
from contracts.versions import unpack_postgres
from contracts.windows import WindowLength
from tools.raw_sales import sale_id

Step = Literal["raw", "dead letter", "unified", "clickhouse", "ranking"]


@dataclass(frozen=True)
class Event:
    """What one step knows of the sale: where, since when (ISO 8601), in a few words, and in full."""

    step: Step
    where: str
    time: str
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RawRecord:
    """A raw record of the sale: position, time (ms since 1970), its version (of Postgres the log position), content."""

    position: str
    time: int
    version: int
    deleted: bool
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One rank of a served set."""

    rank: int
    name: str
    total: Decimal
    count: int
    revision: int
    status: str
    as_of_ms: int


def made_from(source: str, version: int, time: int, raw: Sequence[RawRecord]) -> RawRecord | None:
    """The raw record that a unified version of this time was made from, where it is known.

    Log positions of Postgres start again when it is restored, under the next epoch: of two records with the same, the
    newest that is not newer than the unified one counts.
    """
    of_version = unpack_postgres(version)[1] if source == "postgres" else version
    same = sorted((record for record in raw if record.version == of_version), key=lambda record: record.time)
    return next((record for record in reversed(same) if record.time <= time), same[0] if same else None)


def id_of_bytes(source: str, key: bytes | None, value: bytes | None) -> str | None:
    """The sale of a dead letter whose bytes are no record: the first column of a CSV row, the key of a legacy sale."""
    if source == "legacy":
        return sale_id(key.decode(errors="replace")) if key else None
    if source == "files":
        row = (value or b"").decode(errors="replace")
        return sale_id(row.partition(",")[0].strip().strip('"'))
    return None


def window_of(length: WindowLength, event_time_ms: int) -> tuple[int, int]:
    """Start and end (ms since 1970) of the window that the sale falls into."""
    return length.bounds(length.index(event_time_ms // 1000))


def ranked(of: str, name: str, own: tuple[Decimal, int], entries: Sequence[Entry], *, deleted: bool) -> str:
    """In words: the rank of the sale's city (or what `of` is), or why there is none. `own` is its total and count."""
    total, count = own
    if deleted:
        return "not ranked: the sale is deleted"
    if not entries:
        return "not ranked: there is no ranking of this window yet"
    filled = [entry for entry in entries if entry.count]
    for entry in filled:
        if entry.name == name:
            late = "" if (entry.total, entry.count) == own else f"; the stored sales say {total:.2f} of {count} sales"
            return f"{of} {name} is rank {entry.rank}: {entry.total:.2f} of {entry.count} sales{late}"
    if not filled:
        return f"not ranked: the ranking of this window is empty; {of} {name} has {total:.2f} of {count} sales"
    last = filled[-1]
    return (
        f"not ranked: {of} {name} has {total:.2f} of {count} sales, rank {last.rank} ({last.name}) has {last.total:.2f}"
    )


def ranking_event(table: str, bounds: tuple[int, int], entries: Sequence[Entry], message: str) -> Event:
    """The step of one ranking and window."""
    newest = entries[0] if entries else None
    values = {
        "window_start": iso(bounds[0]),
        "window_end": iso(bounds[1]),
        "revision": newest.revision if newest else None,
        "status": newest.status if newest else None,
    }
    if newest:
        message = f"{message} (revision {newest.revision}, {newest.status})"
    return Event("ranking", f"{table} {iso(bounds[0])}", instant(newest.as_of_ms if newest else None), message, values)


def instant(milliseconds: int | None) -> str:
    """ISO 8601 with milliseconds."""
    return "-" if milliseconds is None or milliseconds < 0 else iso_ms(milliseconds)


def summary(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """Some values of a record in a line."""
    return ", ".join(f"{name} {values[name]}" for name in names if values.get(name) is not None)
