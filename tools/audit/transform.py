"""Pure: rows become ranking sets, and two collections of sets become the differences between them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

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
    """The entries by name and occurrence; a name that is there twice, which no set should have, stays twice."""
    occurrences: Counter[str] = Counter()
    named: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        named[entry.name, occurrences[entry.name]] = entry
        occurrences[entry.name] += 1
    return named


def differences(served: Sets, recomputed: Sets, keys: Collection[Key]) -> list[Difference]:
    """Every figure that differs in the sets of `keys`, in the order of length, ranking, window, country and rank."""
    different = []
    for key in sorted(keys):
        left, right = _by_name(served.get(key, ())), _by_name(recomputed.get(key, ()))
        for name in dict.fromkeys([*right, *left]):
            for figure, of in FIGURES.items():
                have, want = (None if name not in side else of(side[name]) for side in (left, right))
                if have != want:
                    different.append(Difference(key, name[0], figure, have, want))
    return different
