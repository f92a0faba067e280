"""Pure: rows become ranking sets, and two collections of sets become the differences between them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from contracts.text import quoted
from contracts.time import EXAMPLE, iso, parse_instant, to_ms

Row = Sequence[Any]


class Key(NamedTuple):
    """Which set: the label of the window's length, the ranking, the window's start in epoch seconds, the country.

    The country is '' where a ranking spans all.
    """

    length: str
    ranking: str
    window: int
    country: str


class Entry(NamedTuple):
    """One rank of a set."""

    rank: int
    name: str
    total: Decimal
    sales: int


Sets = Mapping[Key, tuple[Entry, ...]]
Figure = Decimal | int

FIGURES: Mapping[str, Callable[[Entry], Figure]] = {
    "total": lambda entry: entry.total,
    "count": lambda entry: entry.sales,
    "rank": lambda entry: entry.rank,
}


@dataclass(frozen=True)
class Difference:
    """One figure (see FIGURES) of one name that is not the same; None where a side lacks the name."""

    key: Key
    name: str
    figure: str
    served: Figure | None
    recomputed: Figure | None

    @property
    def delta(self) -> Figure | None:
        """Served minus recomputed; None where a side lacks the name."""
        if self.served is None or self.recomputed is None:
            return None
        return self.served - self.recomputed


def ranked(length: str, ranking: str, rows: Iterable[Row]) -> Sets:
    """Sets from (window, country, name, total, count), the best of each set first: the order gives the ranks."""
    sets: dict[Key, list[Entry]] = defaultdict(list)
    for window, country, name, total, count in rows:
        entries = sets[Key(length, ranking, window, country)]
        entries.append(Entry(len(entries) + 1, name, total, count))
    return {key: tuple(entries) for key, entries in sets.items()}


def published(length: str, ranking: str, rows: Iterable[Row]) -> Sets:
    """Sets from (window, country, rank, name, total, count); the blank rows (count 0) of a set are no entries."""
    sets: dict[Key, list[Entry]] = defaultdict(list)
    for window, country, rank, name, total, count in rows:
        entries = sets[Key(length, ranking, window, country)]
        if count > 0:
            entries.append(Entry(rank, name, total, count))
    return {key: tuple(sorted(entries)) for key, entries in sets.items()}


def differing(served: Sets, recomputed: Sets) -> set[Key]:
    """The sets that are not the same. One that is absent is the same as an empty one: a window without sales."""
    return {key for key in {*served, *recomputed} if served.get(key, ()) != recomputed.get(key, ())}


def _by_name(entries: Iterable[Entry]) -> dict[tuple[str, int], Entry]:
    """The entries by name; a name that is there twice, which no set should have, keeps each of its places."""
    found: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        turn = 0
        while (entry.name, turn) in found:
            turn += 1
        found[entry.name, turn] = entry
    return found


def differences(served: Sets, recomputed: Sets, keys: Collection[Key]) -> list[Difference]:
    """Every figure that differs in the sets of `keys`, in the order of length, ranking, window, country and rank."""
    found = []
    for key in sorted(keys):
        left, right = _by_name(served.get(key, ())), _by_name(recomputed.get(key, ()))
        for name in dict.fromkeys([*right, *left]):
            have, want = left.get(name), right.get(name)
            for figure, of in FIGURES.items():
                sides = tuple(None if entry is None else of(entry) for entry in (have, want))
                if sides[0] != sides[1]:
                    found.append(Difference(key, name[0], figure, *sides))
    return found


def instant(second: int) -> str:
    """An epoch second as 2026-02-19T10:00:00Z."""
    return iso(second * 1000)


def second(text: str) -> int:
    """The epoch second that an ISO 8601 instant falls into.

    Raises:
        ValueError: not an instant with a zone, or before 1970.
    """
    try:
        milliseconds = to_ms(parse_instant(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{quoted(text)}: {error}") from None
    if milliseconds < 0:
        raise ValueError(f"{quoted(text)} is before 1970; write {EXAMPLE}")
    return milliseconds // 1000
