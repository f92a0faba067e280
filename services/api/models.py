"""What the API answers: camelCase outside, exact decimals as JSON numbers of two decimals, UTC instants with a Z."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from pydantic.alias_generators import to_camel, to_pascal

from contracts.rankings import RANKINGS, RankingDefinition
from contracts.time import instant

Money = Annotated[
    Decimal,
    WithJsonSchema({"type": "number", "description": "exact: a JSON number that always has two decimals"}),
]
State = Literal["UP", "DOWN"]
Status = Literal["provisional", "final", "corrected"]
RankingName = Annotated[str, WithJsonSchema({"type": "string", "enum": [ranking.name for ranking in RANKINGS]})]
Revision = Annotated[int, Field(ge=0, description="grows with every change of this window's ranking")]
AsOf = Annotated[datetime, Field(description="when this revision was built")]


class Answer(BaseModel):
    """The base of every body: snake_case here, camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Window(Answer):
    """An event-time window: start included, end excluded."""

    start: datetime
    end: datetime


class RankingSet(Answer):
    """One whole revision of one window's ranking; `rankings` is empty where the window has no sale any more.

    Each ranking has its own subclass in SETS, whose entries name the competitor.
    """

    window: Window
    status: Status
    revision: Revision
    as_of: AsOf
    watermark: Annotated[datetime, Field(description="event time up to which sales are expected to be complete")]
    rankings: list[Any]


def _entry(ranking: RankingDefinition) -> type[Answer]:
    fields: dict[str, Any] = {
        "rank": Annotated[int, Field(ge=1, le=10)],
        ranking.column: str,
        **({"country": str} if ranking.per_country else {}),
        "total_sales": Money,
        "transaction_count": int,
    }
    documented = f"One rank of the ranking {ranking.name}."
    return create_model(f"{to_pascal(ranking.name)}Rank", __base__=Answer, __doc__=documented, **fields)


def _set(ranking: RankingDefinition) -> type[RankingSet]:
    entries: dict[str, Any] = {"rankings": GenericAlias(list, ENTRIES[ranking.name])}
    scope = "of a country in a window" if ranking.per_country else "of a window, over all countries"
    documented = f"{ranking.title['en']} {scope}."
    return create_model(f"{to_pascal(ranking.name)}Ranking", __base__=RankingSet, __doc__=documented, **entries)


ENTRIES: Mapping[str, type[Answer]] = {ranking.name: _entry(ranking) for ranking in RANKINGS}
"""The entry of each ranking: rank, competitor (under the ranking's column), country where it has one, total, count."""
SETS: Mapping[str, type[RankingSet]] = {ranking.name: _set(ranking) for ranking in RANKINGS}


class KnownWindow(Window):
    """A window that has a ranking, and which revision of it is served."""

    status: Status
    revision: Revision
    as_of: AsOf


class Windows(Answer):
    """One page of the windows that have a ranking, newest first."""

    ranking: RankingName
    length: str
    country: Annotated[str | None, Field(description="of a ranking per country")] = None
    windows: list[KnownWindow]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; absent on the last")] = None


class Sale(Answer):
    """One sale as it is now."""

    source: str
    sale_id: str
    version: Annotated[
        str,
        Field(
            pattern="^[0-9]+$",
            examples=["4611686018427387905"],
            description="a number of 64 bits that grows with every change of the sale; as text, because numbers in "
            "JavaScript hold 53 bits",
        ),
    ]
    amount: Money
    event_time: datetime
    salesman_name: str
    city: str
    country: str
    product: str


class Explanation(Answer):
    """The sales that make up one rank: total and count over all of them, and one page of them, oldest first."""

    ranking: RankingName
    window: Window
    name: str
    country: Annotated[str | None, Field(description="of a ranking per country")] = None
    total_sales: Money
    transaction_count: int
    sales: list[Sale]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; absent on the last")] = None


class ServerHealth(Answer):
    """The last check of a server; the next request after `checkedAt` and a second makes another."""

    state: State
    since: Annotated[datetime, Field(description="the first check, since the API began, with this state")]
    checked_at: datetime
    latency_ms: Annotated[float, Field(ge=0, description="how long the check took, in milliseconds")]
    version: Annotated[str | None, Field(description="what answered, where the server tells")] = None
    why: Annotated[str | None, Field(description="why it is DOWN")] = None


class Freshness(Answer):
    """How old the newest ranking is. Without sales nothing changes, so that old alone is no fault."""

    fresh: Annotated[bool, Field(description="whether `ageSeconds` is at most API_FRESH_S")]
    as_of: AsOf
    age_seconds: Annotated[float, Field(ge=0)]


class HealthDetails(Answer):
    """What is behind the health."""

    started_at: datetime
    clickhouse: ServerHealth
    kafka: ServerHealth
    rankings: Annotated[
        Freshness | None,
        Field(description="absent while there is no ranking, or ClickHouse is unavailable"),
    ] = None


class Health(Answer):
    """Whether the API and what it needs are there."""

    status: State
    clickhouse: State
    kafka: State
    details: HealthDetails | None = None


class FieldError(Answer):
    """A parameter that is wrong: its value, shortened, and what to write instead."""

    field: str
    value: str
    detail: str


class Problem(Answer):
    """An RFC 9457 problem; `errors` names each wrong parameter, `requestId` finds it in the log."""

    type: str = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="the path that was asked for")]
    request_id: str | None = None
    errors: list[FieldError] | None = None


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:.2f}")  # the digits themselves: never through a float
    if isinstance(value, datetime):
        return instant(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def encode(body: BaseModel) -> bytes:
    """The JSON of a body."""
    return orjson.dumps(
        body.model_dump(by_alias=True, exclude_none=True), default=_exact, option=orjson.OPT_PASSTHROUGH_DATETIME
    )
