"""The batch oracle: rankings recomputed from all records at once, written from the specification alone.

It shares no code with the job: fractions instead of cents, sorting instead of a heap, a dictionary instead of streams.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from contracts.rankings import RANKINGS


@dataclass(frozen=True)
class Entry:
    """One rank of an expected or served ranking."""

    rank: int
    name: str
    total: Decimal
    count: int


@dataclass(frozen=True)
class SetKey:
    """Which set: the ranking, its country ('' where it spans all), and the start of its window."""

    ranking: str
    country: str
    start: datetime


Rankings = Mapping[SetKey, tuple[Entry, ...]]


def hour_of(instant: datetime) -> datetime:
    """The start of the hour that the instant falls into."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hours(records: Iterable[Mapping[str, Any]]) -> set[datetime]:
    """Every hour that any version of a sale falls into: where these records can have made a ranking at all."""
    return {hour_of(record["event_time"]) for record in records}


def current(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The sales that exist after all records: the highest version of each, unless it is a deletion."""
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in records:
        identity = (record["source"], record["sale_id"])
        if identity not in newest or record["version"] > newest[identity]["version"]:
            newest[identity] = record
    return [record for record in newest.values() if not record["deleted"]]


def expected(
    records: Iterable[Mapping[str, Any]], start_of: Callable[[datetime], datetime] = hour_of
) -> dict[SetKey, tuple[Entry, ...]]:
    """The top ten of every ranking of every window in which something was sold; `start_of` says where one begins."""
    amounts: dict[SetKey, dict[str, list[Fraction]]] = defaultdict(lambda: defaultdict(list))
    for sale in current(records):
        for ranking in RANKINGS:
            country = sale["country"] if ranking.per_country else ""
            key = SetKey(ranking.name, country, start_of(sale["event_time"]))
            amounts[key][sale[ranking.column]].append(Fraction(sale["amount"]))
    return {key: _top_ten(by_name) for key, by_name in amounts.items()}


def _top_ten(by_name: Mapping[str, list[Fraction]]) -> tuple[Entry, ...]:
    by_total = sorted(((-sum(sold), name, len(sold)) for name, sold in by_name.items()))
    return tuple(
        Entry(rank, name, Decimal(int(-total * 100)).scaleb(-2), count)
        for rank, (total, name, count) in enumerate(by_total[:10], start=1)
    )


def served(sets: Iterable[Mapping[str, Any]]) -> dict[SetKey, tuple[Entry, ...]]:
    """What a reader of `rankings.*` has at the end: per window the set of the highest revision."""
    newest: dict[SetKey, Mapping[str, Any]] = {}
    for ranking_set in sets:
        key = SetKey(ranking_set["ranking"], ranking_set["country"], ranking_set["window_start"])
        assert ranking_set["window_end"] - ranking_set["window_start"] == timedelta(hours=1)
        if key not in newest or ranking_set["revision"] >= newest[key]["revision"]:
            newest[key] = ranking_set
    return {
        key: tuple(
            Entry(entry["rank"], entry["name"], entry["total_sales"], entry["transaction_count"])
            for entry in ranking_set["entries"]
        )
        for key, ranking_set in newest.items()
    }


def differences(want: Rankings, have: Rankings) -> list[str]:
    """One line for each window that differs; a window without sales must be absent or empty."""
    return [
        f"{key.ranking}/{key.country} {key.start:%Y-%m-%dT%H:%M}Z: "
        f"expected {want.get(key, ())}, served {have.get(key, ())}"
        for key in sorted({*want, *have}, key=lambda k: (k.ranking, k.country, k.start))
        if want.get(key, ()) != have.get(key, ())
    ]
