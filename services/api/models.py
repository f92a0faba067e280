"""What the API answers: camelCase outside, exact decimals as JSON numbers with two places, UTC instants with a Z."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

Money = Annotated[
    Decimal,
    WithJsonSchema({"type": "number", "multipleOf": 0.01, "description": "exact, always written with two places"}),
]
State = Literal["UP", "DOWN"]


class Answer(BaseModel):
    """The base of every body: snake_case here, camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Window(Answer):
    """An event-time window: start included, end excluded."""

    start: datetime
    end: datetime


class CityRank(Answer):
    """One rank of the city ranking."""

    rank: Annotated[int, Field(ge=1, le=10)]
    city: str
    total_sales: Money
    transaction_count: int


class SalesmanRank(Answer):
    """One rank of the ranking of salespeople."""

    rank: Annotated[int, Field(ge=1, le=10)]
    salesman_name: str
    country: str
    total_sales: Money
    transaction_count: int


R = TypeVar("R", bound=Answer)


class Ranking(Answer, Generic[R]):
    """One whole revision of one window's ranking; `rankings` is empty where the window has no sale any more."""

    window: Window
    status: Literal["provisional", "final", "corrected"]
    revision: Annotated[int, Field(description="grows with every change of this window's ranking")]
    as_of: Annotated[datetime, Field(description="when this revision was built")]
    watermark: Annotated[datetime, Field(description="event time up to which sales are expected to be complete")]
    rankings: list[R]


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

    ranking: Literal["city", "salesman"]
    window: Window
    name: str
    country: Annotated[str | None, Field(description="of a salesperson; cities are ranked over all countries")]
    total_sales: Money
    transaction_count: int
    sales: list[Sale]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; absent on the last")]


class Health(Answer):
    """Whether the API and what it needs are there."""

    status: State
    clickhouse: State
    kafka: State


class Problem(BaseModel):
    """An RFC 9457 problem; `errors` names each wrong parameter."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] | None = None


def instant(value: datetime) -> str:
    """2026-02-19T10:00:00Z; with milliseconds where there are any."""
    return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds").replace("+00:00", "Z")


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
