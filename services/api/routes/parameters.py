"""The parameters of the endpoints: what each means, its form, and an example of each request."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from contracts.rankings import RANKINGS
from contracts.time import EXAMPLE
from services.api import transform
from services.api.examples import COMPETITORS
from services.api.models import RankingName
from services.api.problems import validation_error


def examples(**by_request: Any) -> dict[str, Any]:
    """Examples of a parameter. Those with one name, over the parameters of an operation, are one request."""
    return {name: {"value": value} for name, value in by_request.items()}


_INSTANT = {"type": "string", "format": "date-time"}
_COUNTRY = {"type": "string", "enum": transform.COUNTRIES}
_PER_COUNTRY = [ranking.name for ranking in RANKINGS if ranking.per_country]
_NAMES = {ranking.name: ranking.name for ranking in RANKINGS}
_FIRST = RANKINGS[0].name

Window = Annotated[
    transform.WindowChoice,
    BeforeValidator(transform.parse_window),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": ["latest", "latest-final"]}, _INSTANT], "default": "latest"}),
    Query(
        description="`latest`; `latest-final`, the newest window whose status is final or corrected; or the start of a "
        "window (RFC 3339 with a zone)",
        openapi_examples=examples(newest="latest", final="latest-final", history=EXAMPLE, page=EXAMPLE),
    ),
]
Limit = Annotated[
    int,
    Field(ge=1, le=10),
    BeforeValidator(transform.parse_whole_number),
    Query(description="at most so many ranks", openapi_examples=examples(newest=3)),
]
Country = Annotated[
    str,
    AfterValidator(transform.parse_country),
    WithJsonSchema({**_COUNTRY, "default": "BR"}),
    Query(description="ISO 3166 alpha-2 code", openapi_examples=examples(newest="BR")),
]
CountryOfRanking = Annotated[
    str | None,
    AfterValidator(transform.parse_country),
    WithJsonSchema(_COUNTRY),
    Query(
        description=f"only with ranking={' or '.join(_PER_COUNTRY)}: ISO 3166 alpha-2 code (BR)",
        openapi_examples=examples(**dict.fromkeys(_PER_COUNTRY, "BR")),
    ),
]
Ranking = Annotated[
    RankingName,
    AfterValidator(transform.parse_ranking),
    Query(description="which ranking", openapi_examples=examples(**_NAMES, page=_FIRST)),
]
Page = Annotated[
    int,
    Field(ge=1, le=500),
    BeforeValidator(transform.parse_whole_number),
    Query(description="at most so many in one answer", openapi_examples=examples(page=1)),
]
Name = Annotated[
    str,
    Field(min_length=1, max_length=255),
    BeforeValidator(transform.composed),
    Query(
        description="the competitor, as ranked",
        openapi_examples=examples(**COMPETITORS, page=COMPETITORS[_FIRST]),
    ),
]
From = Annotated[
    datetime | None,
    BeforeValidator(transform.parse_instant),
    WithJsonSchema(_INSTANT),
    Query(alias="from", description="only windows that start then or later", openapi_examples=examples(period=EXAMPLE)),
]
To = Annotated[
    datetime | None,
    BeforeValidator(transform.parse_instant),
    WithJsonSchema(_INSTANT),
    Query(
        alias="to",
        description="only windows that start before then",
        openapi_examples=examples(period="2026-02-20T00:00:00-03:00"),
    ),
]
Have = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="the ETag of an earlier answer: 304 without a body while it is still the answer",
        openapi_examples=examples(newest='"0d1c6b2f5a4e9b8c7d6e5f40"'),
    ),
]
Details = Annotated[
    bool,
    BeforeValidator(lambda text: {"true": True, "false": False}.get(text, text)),
    Query(strict=True, description="also since when, why, versions and ages", openapi_examples=examples(more=True)),
]


def cursor(example: transform.Cursor | transform.WindowsCursor, belongs_to: str) -> Any:
    """The description of the parameter `cursor`."""
    description = f"`nextCursor` of the answer before; {belongs_to}"
    return Query(description=description, openapi_examples=examples(page=transform.write_cursor(example)))


def read_cursor(kind: type[transform.C], text: str) -> transform.C:
    """The cursor of this kind.

    Raises:
        RequestValidationError: there is none in the text.
    """
    try:
        return transform.parse_cursor(kind, text)
    except ValueError as error:
        raise validation_error(("cursor", text, str(error))) from None


async def _only_known(request: Request) -> None:
    """Reject parameters that the endpoint does not have, and those that are there twice: they would be ignored.

    Raises:
        RequestValidationError: there is such a parameter.
    """
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    wrong = transform.wrong_names(request.query_params.multi_items(), known)
    if wrong:
        raise validation_error(*wrong)


def strict_router(tag: str) -> APIRouter:
    """A router of the versioned API whose endpoints reject parameters that they do not have."""
    return APIRouter(prefix="/api/v1", tags=[tag], dependencies=[Depends(_only_known)])
