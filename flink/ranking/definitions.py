"""The table of rankings. One more ranking is one more row here and its topic in contracts/topics."""

from collections.abc import Sequence
from dataclasses import dataclass

from flink.ranking.windows.length import WindowLength, iso


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
    """Every ranking over every window length.

    The first length is published to the ranking's own topic, each further one to `<topic>.<label>`.
    """
    return tuple(
        Board(ranking, length, ranking.topic if place == 0 else f"{ranking.topic}.{length.label}")
        for ranking in rankings
        for place, length in enumerate(lengths)
    )
