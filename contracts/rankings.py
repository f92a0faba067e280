"""The table of rankings. One more ranking is one more row here, and its contract in contracts/topics.

The ranking job, the tables of ClickHouse, the sink, REST, the live stream, the page and the tools read it; the job, in
an environment of its own, too, so this is plain Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.time import iso
from contracts.windows import WindowLength, topics


@dataclass(frozen=True)
class RankingDefinition:
    """What is ranked, and where it goes.

    `column` of `sales.unified` names the competitors, of every country apart where `per_country`. `topic` and `table`
    are those of the first window length (windows.py has the others). `path` is the last part of the address in REST;
    `title` and `competitor` (the heading of the names) are what people read, by language.
    """

    name: str
    column: str
    per_country: bool
    topic: str
    table: str
    path: str
    title: Mapping[str, str]
    competitor: Mapping[str, str]


RANKINGS: tuple[RankingDefinition, ...] = (
    RankingDefinition(
        "city",
        column="city",
        per_country=False,
        topic="rankings.city",
        table="top_sales_city",
        path="top-by-city",
        title={"en": "Top cities", "pt": "Melhores cidades"},
        competitor={"en": "City", "pt": "Cidade"},
    ),
    RankingDefinition(
        "salesman",
        column="salesman_name",
        per_country=True,
        topic="rankings.salesman",
        table="top_salesman_country",
        path="top-salesman",
        title={"en": "Top salespeople", "pt": "Melhores vendedores"},
        competitor={"en": "Salesperson", "pt": "Vendedor"},
    ),
    RankingDefinition(
        "product",
        column="product",
        per_country=False,
        topic="rankings.product",
        table="top_products",
        path="top-products",
        title={"en": "Top products", "pt": "Melhores produtos"},
        competitor={"en": "Product", "pt": "Produto"},
    ),
)
BY_NAME: Mapping[str, RankingDefinition] = {ranking.name: ranking for ranking in RANKINGS}


@dataclass(frozen=True)
class RankingWindow:
    """A ranking over one window length: the job computes them side by side, each published to one topic."""

    ranking: RankingDefinition
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


def ranking_windows(
    lengths: Sequence[WindowLength], rankings: Sequence[RankingDefinition] = RANKINGS
) -> tuple[RankingWindow, ...]:
    """Every ranking over every window length, each with the topic that windows.py names."""
    return tuple(
        RankingWindow(ranking, length, topics(ranking.topic, lengths)[length.label])
        for ranking in rankings
        for length in lengths
    )
