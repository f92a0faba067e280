"""The endpoints: thin, typed, documented; each answers a whole ranking set or a problem."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pycountry
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, WithJsonSchema

from chassis.metrics import Metrics
from contracts.windows import WindowLength, tables
from services.api.models import (
    CityRanking,
    Explanation,
    Health,
    R,
    Ranking,
    RankingName,
    SalesmanRanking,
    Windows,
    encode,
    instant,
)
from services.api.problems import RETRY_AFTER_S, NotFoundError
from services.api.store import TABLES, Rows, SharedReads, city_set, known_windows, rank_sales, salesman_set
from services.api.transform import (
    BEFORE_ALL,
    LAST_SECOND,
    Asked,
    Cursor,
    Place,
    Rank,
    WindowsAfter,
    city_rank,
    explanation,
    first_second,
    parse_country,
    parse_cursor,
    parse_instant,
    parse_length,
    parse_window,
    parse_windows_after,
    ranking,
    salesman_rank,
    windows_page,
    write_cursor,
    write_windows_after,
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

ASK_AGAIN = "no-cache"
RARELY_CHANGES = "public, max-age=30, must-revalidate"
"""Of a final or corrected window asked for by its start: a correction is seen after half a minute at the latest."""

HOUR = "2026-02-19T10:00:00Z"


def _examples(**by_request: Any) -> dict[str, Any]:
    """Examples of a parameter. Those with one name, over the parameters of an operation, are one request."""
    return {name: {"value": value} for name, value in by_request.items()}


_INSTANT = {"type": "string", "format": "date-time"}
_COUNTRY = {"type": "string", "enum": sorted(country.alpha_2 for country in pycountry.countries)}

WindowParameter = Annotated[
    Asked,
    BeforeValidator(parse_window),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": ["latest", "latest-final"]}, _INSTANT], "default": "latest"}),
    Query(
        description="`latest`; `latest-final`, the newest window whose status is final or corrected; or the start of a "
        "window (ISO 8601 with a zone)",
        openapi_examples=_examples(newest="latest", final="latest-final", history=HOUR, page=HOUR),
    ),
]
LimitParameter = Annotated[
    int, Query(ge=1, le=10, description="at most so many ranks", openapi_examples=_examples(newest=3))
]
CountryParameter = Annotated[
    str,
    AfterValidator(parse_country),
    WithJsonSchema({**_COUNTRY, "default": "BR"}),
    Query(description="ISO 3166 alpha-2 code", openapi_examples=_examples(newest="BR")),
]
OfSalespeopleParameter = Annotated[
    str | None,
    AfterValidator(lambda code: code if code is None else parse_country(code)),
    WithJsonSchema(_COUNTRY),
    Query(
        description="only with ranking=salesman: ISO 3166 alpha-2 code (BR)", openapi_examples=_examples(salesman="BR")
    ),
]
RankingParameter = Annotated[
    RankingName,
    Query(description="which ranking", openapi_examples=_examples(city="city", salesman="salesman", page="city")),
]
PageParameter = Annotated[
    int, Query(ge=1, le=500, description="at most so many in one answer", openapi_examples=_examples(page=1))
]
NameParameter = Annotated[
    str,
    Query(
        min_length=1,
        max_length=255,
        description="the city or salesperson, as ranked",
        openapi_examples=_examples(city="São Paulo", salesman="Ana Souza", page="São Paulo"),
    ),
]
FromParameter = Annotated[
    datetime | None,
    BeforeValidator(parse_instant),
    WithJsonSchema(_INSTANT),
    Query(alias="from", description="only windows that start then or later", openapi_examples=_examples(salesman=HOUR)),
]
ToParameter = Annotated[
    datetime | None,
    BeforeValidator(parse_instant),
    WithJsonSchema(_INSTANT),
    Query(
        alias="to",
        description="only windows that start before then",
        openapi_examples=_examples(salesman="2026-02-20T00:00:00-03:00"),
    ),
]
HaveParameter = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="the ETag of an earlier answer: 304 without a body while it is still the answer",
        openapi_examples=_examples(newest='"0d1c6b2f5a4e9b8c7d6e5f40"'),
    ),
]
DetailsParameter = Annotated[
    bool,
    BeforeValidator(lambda text: {"true": True, "false": False}.get(text, text)),
    Query(strict=True, description="also since when, why, versions and ages", openapi_examples=_examples(more=True)),
]


async def _only_known(request: Request) -> None:
    """Refuse parameters that the endpoint does not have, and those that are there twice: they would be ignored."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    seen: set[str] = set()
    wrong = []
    for name, value in request.query_params.multi_items():
        if name not in known:
            remedy = f"there is no such parameter; there are: {', '.join(sorted(known)) or 'none'}"
            wrong.append({"loc": ("query", name[:60]), "input": value, "msg": remedy})
        elif name in seen:
            wrong.append({"loc": ("query", name), "input": value, "msg": "must be given once"})
        seen.add(name)
    if wrong:
        raise RequestValidationError(wrong)


def _cached(body: BaseModel, have: str | None, cache: str = ASK_AGAIN) -> Response:
    """The body with an ETag of exactly these bytes, or 304 where the client has them (`have`: If-None-Match)."""
    content = encode(body)
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": cache}
    if have is not None and (have.strip() == "*" or tag in re.findall(r'"[^"]*"', have)):  # W/ makes no difference
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "application/json")


def _missing(window: Asked, length: str, of: str) -> NotFoundError:
    if window == "latest":
        return NotFoundError(f"there is no {length} ranking of {of} yet")
    if window == "latest-final":
        return NotFoundError(f"there is no {length} ranking of {of} that is final yet")
    return NotFoundError(f"there is no {length} ranking of {of} for a window that starts at {instant(window)}")


def _wrong(field: str, value: str, detail: str) -> RequestValidationError:
    """For what only the parameters together show to be wrong."""
    return RequestValidationError([{"loc": ("query", field), "input": value, "msg": detail}])


def _country_of(ranking: RankingName, country: str | None) -> str:
    """The country whose salespeople are asked for (BR where none is named); '' for cities."""
    if ranking == "city" and country is not None:
        raise _wrong("country", country, "only for ranking=salesman: cities are ranked over all countries")
    return (country or "BR") if ranking == "salesman" else ""


def _resume(cursor: str, length: str | None, window: Asked) -> tuple[str, datetime, Place]:
    """The cursor's own length, window and place; a length or start that was asked for must be the same."""
    try:
        own_length, start, after = parse_cursor(cursor)
    except ValueError as error:
        raise _wrong("cursor", cursor, str(error)) from None
    own = datetime.fromtimestamp(start, UTC)
    if length not in (None, own_length) or (isinstance(window, datetime) and window != own):
        raise _wrong("cursor", cursor, f"belongs to the window of {own_length[:20]} that starts at {instant(own)}")
    return own_length, own, after


def _resume_windows(cursor: str, ranking: str, length: str, country: str) -> int:
    """The start of the last window before the page; the cursor must be of the same list."""
    try:
        own = parse_windows_after(cursor)
    except ValueError as error:
        raise _wrong("cursor", cursor, str(error)) from None
    if own[:3] != (ranking, length, country):
        of = " ".join(part[:20] for part in own[:3] if part)
        raise _wrong("cursor", cursor, f"belongs to the windows of {of}; ask for the same ranking, length and country")
    return own.start


def rankings(store: SharedReads, sales: SharedReads, lengths: Sequence[WindowLength]) -> APIRouter:
    """The two rankings over each of the window lengths, which windows there are, and the sales behind a rank.

    `sales` is for the last: reads whose cost grows with the sales that there are.
    """
    router = APIRouter(prefix="/api/v1", tags=["rankings"], dependencies=[Depends(_only_known)])
    labels = [length.label for length in lengths]
    main = labels[0]
    table_of = {name: tables(base, lengths) for name, base in TABLES.items()}
    known = AfterValidator(partial(parse_length, labels))
    shape = WithJsonSchema({"type": "string", "enum": labels})
    told = Query(
        description=f"length of the windows, one of RANKING_WINDOWS ({main})", openapi_examples=_examples(newest=main)
    )
    hour = parse_instant(HOUR)
    start_s = int(hour.timestamp())
    sales_cursor = Query(
        description="`nextCursor` of the answer before; names length and window too, so that `latest` stays one window",
        openapi_examples=_examples(page=write_cursor(Cursor(main, start_s, Place(start_s * 1000, "files", "s0")))),
    )
    windows_cursor = Query(
        description="`nextCursor` of the answer before, for the same ranking, length and country",
        openapi_examples=_examples(page=write_windows_after(WindowsAfter("city", main, "", start_s + 1))),
    )

    async def served(length: str, window: Asked, country: str) -> Rows:
        """The rows of the set of salespeople of a country, of cities where it is ''; raises NotFoundError."""
        if country:
            rows = await salesman_set(store, table_of["salesman"][length], window, country)
        else:
            rows = await city_set(store, table_of["city"][length], window)
        if not rows:
            raise _missing(window, length, f"salespeople of {country}" if country else "cities")
        return rows

    def of_window(body: Ranking[R], window: Asked, have: str | None) -> Response:
        settled = isinstance(window, datetime) and body.status != "provisional"
        return _cached(body, have, RARELY_CHANGES if settled else ASK_AGAIN)

    @router.get("/sales/top-by-city", response_model=CityRanking, summary="Top cities of a window")
    async def top_by_city(
        window: WindowParameter = "latest",
        length: Annotated[str, known, shape, told] = main,
        limit: LimitParameter = 10,
        have: HaveParameter = None,
    ) -> Response:
        return of_window(ranking(await served(length, window, ""), limit, city_rank), window, have)

    @router.get("/sales/top-salesman", response_model=SalesmanRanking, summary="Top salespeople of a window")
    async def top_salesman(
        window: WindowParameter = "latest",
        length: Annotated[str, known, shape, told] = main,
        country: CountryParameter = "BR",
        limit: LimitParameter = 10,
        have: HaveParameter = None,
    ) -> Response:
        rows = await served(length, window, country)
        return of_window(ranking(rows, limit, salesman_rank), window, have)

    @router.get("/sales/explain", response_model=Explanation, summary="The sales that make up a rank")
    async def explain(
        *,
        ranking: RankingParameter,
        name: NameParameter,
        window: WindowParameter = "latest",
        length: Annotated[str | None, known, shape, told] = None,
        country: OfSalespeopleParameter = None,
        limit: PageParameter = 50,
        cursor: Annotated[str | None, sales_cursor] = None,
        have: HaveParameter = None,
    ) -> Response:
        after, of_country = BEFORE_ALL, _country_of(ranking, country)
        if cursor is not None:
            length, window, after = _resume(cursor, length, window)
            if length not in labels:
                raise _wrong("cursor", cursor, f"belongs to windows of {length[:20]}, which are not configured")
        start, end = (await served(length or main, window, of_country))[0][:2]
        rank = Rank(ranking, length or main, start, end, name, of_country)
        total, count, rows = await rank_sales(sales, rank, after, limit + 1)
        if count == 0:
            raise NotFoundError(f"{name} has no sale in the window that starts at {instant(rank.start)}")
        return _cached(explanation(rank, total, count, rows, limit), have)

    @router.get("/windows", response_model=Windows, summary="The windows that have a ranking, newest first")
    async def windows(
        *,
        ranking: RankingParameter = "city",
        length: Annotated[str, known, shape, told] = main,
        country: OfSalespeopleParameter = None,
        since: FromParameter = None,
        before: ToParameter = None,
        limit: PageParameter = 24,
        cursor: Annotated[str | None, windows_cursor] = None,
        have: HaveParameter = None,
    ) -> Response:
        of_country = _country_of(ranking, country)
        first = 0 if since is None else first_second(since)
        end = LAST_SECOND if before is None else first_second(before)
        if cursor is not None:
            end = min(end, _resume_windows(cursor, ranking, length, of_country))
        table = table_of[ranking][length]
        rows = await known_windows(store, table, of_country, first=first, end=end, limit=limit + 1)
        return _cached(windows_page(ranking, length, of_country, rows, limit), have)

    return router


def operations(health_of: Callable[[bool], Awaitable[Health]], metrics: Metrics) -> APIRouter:
    """Health of the API, and metrics; `health_of` takes whether details are wanted."""
    router = APIRouter(prefix="/api/v1", tags=["operations"], dependencies=[Depends(_only_known)])

    @router.get(
        "/health",
        response_model=Health,
        responses={503: {"model": Health}},
        summary="Health: 200 when the API and its servers are UP, otherwise 503",
    )
    async def health(details: DetailsParameter = False) -> Response:
        body = await health_of(details)
        retry = {} if body.status == "UP" else {"Retry-After": str(RETRY_AFTER_S)}
        return Response(encode(body), 503 if retry else 200, {"Cache-Control": "no-store", **retry}, "application/json")

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics_text(request: Request) -> Response:
        content, headers = metrics.render(request.headers.getlist("accept"))
        return Response(content, headers={**headers, "Cache-Control": "no-store"})

    return router


def _sender(file: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(file, headers=PAGE_HEADERS)

    return send


def page() -> APIRouter:
    """The page and its files under `/page/`, and nothing else, under a strict content security policy."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    for file in sorted(PAGE.iterdir()):
        router.add_api_route("/" if file.name == "index.html" else f"/page/{file.name}", _sender(file))
    return router
