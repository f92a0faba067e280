"""The batch oracle: rankings recomputed from all records at once, written from the specification alone.

It shares no code with the job: fractions instead of cents, sorting instead of a heap, a dictionary instead of streams.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Place:
    """One rank of an expected or served ranking."""

    rank: int
    name: str
    total: Decimal
    count: int


@dataclass(frozen=True)
class SetKey:
    """Which ranking: `city` with country '' or `salesman` of a country, of the hour that begins at `start`."""

    ranking: str
    country: str
    start: datetime


Rankings = Mapping[SetKey, tuple[Place, ...]]


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


def expected(records: Iterable[Mapping[str, Any]]) -> dict[SetKey, tuple[Place, ...]]:
    """The top ten of every ranking of every hour in which something was sold."""
    amounts: dict[SetKey, dict[str, list[Fraction]]] = defaultdict(lambda: defaultdict(list))
    for sale in current(records):
        start = hour_of(sale["event_time"])
        amount = Fraction(sale["amount"])
        amounts[SetKey("city", "", start)][sale["city"]].append(amount)
        amounts[SetKey("salesman", sale["country"], start)][sale["salesman_name"]].append(amount)
    return {board: _top_ten(by_name) for board, by_name in amounts.items()}


def _top_ten(by_name: Mapping[str, list[Fraction]]) -> tuple[Place, ...]:
    by_total = sorted(((-sum(sold), name, len(sold)) for name, sold in by_name.items()))
    return tuple(
        Place(rank, name, Decimal(int(-total * 100)).scaleb(-2), count)
        for rank, (total, name, count) in enumerate(by_total[:10], start=1)
    )


def served(sets: Iterable[Mapping[str, Any]]) -> dict[SetKey, tuple[Place, ...]]:
    """What a reader of `rankings.*` holds at the end: per window the set of the highest revision."""
    newest: dict[SetKey, Mapping[str, Any]] = {}
    for ranking_set in sets:
        board = SetKey(ranking_set["ranking"], ranking_set["country"], ranking_set["window_start"])
        assert ranking_set["window_end"] - ranking_set["window_start"] == timedelta(hours=1)
        if board not in newest or ranking_set["revision"] >= newest[board]["revision"]:
            newest[board] = ranking_set
    return {
        board: tuple(
            Place(entry["rank"], entry["name"], entry["total_sales"], entry["transaction_count"])
            for entry in ranking_set["entries"]
        )
        for board, ranking_set in newest.items()
    }


def differences(want: Rankings, have: Rankings) -> list[str]:
    """One line for each window that differs; a window without sales must be absent or empty."""
    return [
        f"{board.ranking}/{board.country} {board.start:%Y-%m-%dT%H:%M}Z: "
        f"expected {want.get(board, ())}, served {have.get(board, ())}"
        for board in sorted({*want, *have}, key=lambda b: (b.ranking, b.country, b.start))
        if want.get(board, ()) != have.get(board, ())
    ]
