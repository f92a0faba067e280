"""The durable state of one ranking window, as Flink's keyed state offers it and a test can imitate it.

The states' names and texts are part of the job's state: changing one loses what is kept under it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

V = TypeVar("V")


class MapState(Protocol[V]):
    """A durable map from text."""

    def get(self, key: str) -> V | None:
        """The value, or None."""

    def put(self, key: str, value: V) -> None:
        """Set the value."""

    def remove(self, key: str) -> None:
        """Forget the key."""

    def keys(self) -> Iterable[str]:
        """All keys."""

    def items(self) -> Iterable[tuple[str, V]]:
        """All of it."""


class ListState(Protocol[V]):
    """A durable list."""

    def get(self) -> Iterable[V]:
        """All of it, in the order of addition."""

    def add(self, value: V) -> None:
        """Add at the end."""

    def clear(self) -> None:
        """Forget everything."""


class ValueState(Protocol[V]):
    """A durable value."""

    def value(self) -> V | None:
        """The value, or None."""

    def update(self, value: V) -> None:
        """Set the value."""


@dataclass(frozen=True)
class Store:
    """The state of the ranking window whose key Flink is at. A window's key is the text `country|window index`.

    log: totals that arrived since the windows were last written. totals, published: window key -> the two parts of a
    window as text. open: window key -> end in epoch ms, of provisional windows, and UNPUBLISHED for what is still to be
    published (by a shadow's successor, or once an empty window has waited). newest: the newest instant in epoch ms that
    any source has shown.
    """

    log: ListState[str]
    totals: MapState[str]
    published: MapState[str]
    open: MapState[int]
    newest: ValueState[int]
