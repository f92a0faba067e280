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
    said: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """The sale as ClickHouse has it; `deleted` is 0 or 1."""

    salesman: str
    city: str
    product: str
    country: str
    amount: Decimal
    event_time_ms: int
    version: int
    deleted: int


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


def made_from(source: str, version: int, raw: Mapping[int, str]) -> str | None:
    """The place of the raw record that a unified version was made from, where it is known."""
    return raw.get(unpack_postgres(version)[1] if source == "postgres" else version)


def told_by_bytes(source: str, key: bytes | None, value: bytes | None) -> str | None:
    """The sale of a letter whose bytes are no record: a CSV row begins with its id, a legacy sale's key is its id."""
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
    """In words: the rank of the sale's city or salesperson, or why there is none. `own` is its total and its count."""
    total, count = own
    if deleted:
        return "not ranked: the sale is deleted"
    if not entries:
        return "not ranked: there is no ranking of this window yet"
    found = next((entry for entry in entries if entry.name == name and entry.count), None)
    if found is not None:
        late = "" if (found.total, found.count) == own else f"; the stored sales say {total:.2f} of {count} sales"
        return f"{of} {name} is rank {found.rank}: {found.total:.2f} of {found.count} sales{late}"
    last = [entry for entry in entries if entry.count]
    if not last:
        return f"not ranked: the ranking of this window is empty; {of} {name} has {total:.2f} of {count} sales"
    return (
        f"not ranked: {of} {name} has {total:.2f} of {count} sales, "
        f"rank {last[-1].rank} ({last[-1].name}) has {last[-1].total:.2f}"
    )


def ranking_event(table: str, bounds: tuple[int, int], entries: Sequence[Entry], said: str) -> Event:
    """The step of one ranking and window."""
    newest = entries[0] if entries else None
    values = {
        "window_start": iso(bounds[0]),
        "window_end": iso(bounds[1]),
        "revision": newest.revision if newest else None,
        "status": newest.status if newest else None,
    }
    told = f"{said} (revision {newest.revision}, {newest.status})" if newest else said
    return Event("ranking", f"{table} {iso(bounds[0])}", instant(newest.as_of_ms) if newest else "-", told, values)


def instant(milliseconds: int | None) -> str:
    """ISO 8601 with milliseconds."""
    if milliseconds is None or milliseconds < 0:
        return "-"
    return iso_ms(milliseconds)


def summary(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """Some values of a record in a line."""
    return ", ".join(f"{name} {values[name]}" for name in names if values.get(name) is not None)
