"""The endpoints: thin, typed, documented; each answers a whole ranking set or a problem."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, WithJsonSchema

from chassis.clickhouse import ClickHouse
from chassis.metrics import Metrics
from contracts.windows import WindowLength, tables
from services.api.health import Check
from services.api.models import CityRank, Explanation, Health, Problem, Ranking, SalesmanRank, encode, instant
from services.api.problems import MEDIA_TYPE, NotFoundError
from services.api.store import TABLES, Rows, city_set, rank_sales, rank_sum, salesman_set
from services.api.transform import (
    BEFORE_ALL,
    Place,
    Rank,
    RankingName,
    city_rank,
    explanation,
    parse_country,
    parse_cursor,
    parse_length,
    parse_window,
    ranking,
    salesman_rank,
    summed,
)

PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    # connect-src 'self' holds for the WebSocket too: same host and port
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

WindowParameter = Annotated[
    datetime | None,
    BeforeValidator(parse_window),
    WithJsonSchema({"type": "string", "default": "latest", "examples": ["latest", "2026-02-19T10:00:00Z"]}),
    Query(description="`latest`, or the start instant of a window (ISO 8601 with a zone)"),
]
LimitParameter = Annotated[int, Query(ge=1, le=10, description="at most so many ranks")]
CountryParameter = Annotated[
    str,
    AfterValidator(parse_country),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{2}$", "default": "BR"}),
    Query(description="ISO 3166 alpha-2 code"),
]
ExplainedCountryParameter = Annotated[
    str | None,
    AfterValidator(lambda code: code if code is None else parse_country(code)),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{2}$"}),
    Query(description="for `salesman`: ISO 3166 alpha-2 code (BR)"),
]
RankingParameter = Annotated[RankingName, Query(description="which ranking")]
PageParameter = Annotated[int, Query(ge=1, le=500, description="at most so many sales")]
NameParameter = Annotated[str, Query(min_length=1, max_length=255, description="the city or salesperson, as ranked")]
CursorParameter = Annotated[
    str | None,
    Query(
        description="`nextCursor` of the answer before; names length and window too, so that `latest` stays one window"
    ),
]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning, "content": {MEDIA_TYPE: {}}}
    for status, meaning in {
        404: "there is no such ranking",
        422: "a wrong parameter, named in `errors`",
        503: "the store is away; Retry-After says when to ask again",
    }.items()
}


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(encode(body), status, {"Cache-Control": "no-cache"}, "application/json")


def _missing(window: datetime | None, length: str, of: str) -> NotFoundError:
    if window is None:
        return NotFoundError(f"there is no {length} ranking of {of} yet")
    return NotFoundError(f"there is no {length} ranking of {of} for a window that starts at {instant(window)}")


def _wrong(field: str, value: str, detail: str) -> RequestValidationError:
    """For what only the parameters together show to be wrong."""
    return RequestValidationError([{"loc": ("query", field), "input": value, "msg": detail}])


def _resume(cursor: str, length: str | None, window: datetime | None) -> tuple[str, datetime, Place]:
    """The cursor's own length, window and place; a length or window that was asked for must be the same."""
    try:
        own_length, start, after = parse_cursor(cursor)
    except ValueError as error:
        raise _wrong("cursor", cursor, str(error)) from None
    own = datetime.fromtimestamp(start, UTC)
    if length not in (None, own_length) or window not in (None, own):
        raise _wrong("cursor", cursor, f"belongs to the window of {own_length[:20]} that starts at {instant(own)}")
    return own_length, own, after


def rankings(store: ClickHouse, lengths: Sequence[WindowLength]) -> APIRouter:
    """The two rankings over each of the window lengths, and the sales behind a rank."""
    router = APIRouter(prefix="/api/v1/sales", tags=["rankings"], responses=PROBLEMS)
    labels = [length.label for length in lengths]
    main = labels[0]
    table_of = {name: tables(base, lengths) for name, base in TABLES.items()}
    known = AfterValidator(partial(parse_length, labels))
    shape = WithJsonSchema({"type": "string", "enum": labels})
    told = Query(description=f"length of the windows, one of RANKING_WINDOWS ({main})")

    async def served(length: str, window: datetime | None, country: str) -> Rows:
        """The rows of the set of salespeople of a country, of cities where it is ''; raises NotFoundError."""
        if country:
            rows = await salesman_set(store, table_of["salesman"][length], window, country)
        else:
            rows = await city_set(store, table_of["city"][length], window)
        if not rows:
            raise _missing(window, length, f"salespeople of {country}" if country else "cities")
        return rows

    @router.get("/top-by-city", response_model=Ranking[CityRank], summary="Top cities of a window")
    async def top_by_city(
        window: WindowParameter = None,
        length: Annotated[str, known, shape, told] = main,
        limit: LimitParameter = 10,
    ) -> Response:
        return _json(ranking(await served(length, window, ""), limit, city_rank))

    @router.get("/top-salesman", response_model=Ranking[SalesmanRank], summary="Top salespeople of a window")
    async def top_salesman(
        window: WindowParameter = None,
        length: Annotated[str, known, shape, told] = main,
        country: CountryParameter = "BR",
        limit: LimitParameter = 10,
    ) -> Response:
        return _json(ranking(await served(length, window, country), limit, salesman_rank))

    @router.get("/explain", response_model=Explanation, summary="The sales that make up a rank")
    async def explain(
        *,
        ranking: RankingParameter,
        name: NameParameter,
        window: WindowParameter = None,
        length: Annotated[str | None, known, shape, told] = None,
        country: ExplainedCountryParameter = None,
        limit: PageParameter = 50,
        cursor: CursorParameter = None,
    ) -> Response:
        if ranking == "city" and country is not None:
            raise _wrong("country", country, "only for ranking=salesman: cities are ranked over all countries")
        after, of_country = BEFORE_ALL, (country or "BR") if ranking == "salesman" else ""
        if cursor is not None:
            length, window, after = _resume(cursor, length, window)
            if length not in labels:
                raise _wrong("cursor", cursor, f"belongs to windows of {length[:20]}, which are not configured")
        start, end = (await served(length or main, window, of_country))[0][:2]
        rank = Rank(ranking, length or main, start, end, name, of_country)
        rows = await rank_sales(store, rank, after, limit + 1)
        whole = cursor is None and len(rows) <= limit  # then total and list are of one read, also while sales arrive
        total, count = summed(rows) if whole else await rank_sum(store, rank)
        if count == 0:
            raise NotFoundError(f"{name} has no sale in the window that starts at {instant(rank.start)}")
        return _json(explanation(rank, total, count, rows, limit))

    return router


def operations(clickhouse: Check, kafka: Check, metrics: Metrics) -> APIRouter:
    """Health and metrics."""
    router = APIRouter(prefix="/api/v1", tags=["operations"])

    @router.get("/health", response_model=Health, responses={503: {"model": Health}}, summary="Health")
    async def health() -> Response:
        (store_state, _), (kafka_state, _) = await asyncio.gather(clickhouse.state(), kafka.state())
        up = store_state == kafka_state == "UP"
        body = Health(status="UP" if up else "DOWN", clickhouse=store_state, kafka=kafka_state)
        return _json(body, 200 if up else 503)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def scrape(request: Request) -> Response:
        content, headers = metrics.render(request.headers.getlist("accept"))
        return Response(content, headers=headers)

    return router


def _sender(file: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(file, headers=PAGE_HEADERS)

    return send


def page() -> APIRouter:
    """The page at `/` and its files under `/page/`, and nothing else, under a strict content security policy."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    for file in sorted(PAGE.iterdir()):
        router.add_api_route("/" if file.name == "index.html" else f"/page/{file.name}", _sender(file))
    return router
