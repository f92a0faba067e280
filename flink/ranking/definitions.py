"""The table of rankings. One more ranking is one more row here, and its contract in contracts/topics."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.windows import WindowLength, iso, topics


@dataclass(frozen=True)
class Ranking:
    """What is ranked: `column` of `sales.unified` names the competitors, of every country apart where `per_country`."""

    name: str
    column: str
    per_country: bool
    topic: str


RANKINGS: tuple[Ranking, ...] = (
    Ranking("city", column="city", per_country=False, topic="rankings.city"),
    Ranking("salesman", column="salesman_name", per_country=True, topic="rankings.salesman"),
)


@dataclass(frozen=True)
class Board:
    """A ranking over one window length: what the job computes side by side, each published to one topic."""

    ranking: Ranking
    window: WindowLength
    topic: str

    @property
    def name(self) -> str:
        """Identity within the job and its state."""
        return f"{self.ranking.name}/{self.window.label}"

    def record_key(self, country: str, window_start_ms: int) -> str:
        """The record key in the topic: the window's start, then the country where the ranking is per country."""
        start = iso(window_start_ms)
        return f"{start}/{country}" if self.ranking.per_country else start


def boards(lengths: Sequence[WindowLength], rankings: Sequence[Ranking] = RANKINGS) -> tuple[Board, ...]:
    """Every ranking over every window length, each with the topic that contracts/windows.py names."""
    return tuple(
        Board(ranking, length, topics(ranking.topic, lengths)[length.label])
        for ranking in rankings
        for length in lengths
    )
