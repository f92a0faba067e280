"""The rankings, one endpoint per row of contracts/rankings.py; the windows that they have; the sales behind a rank."""

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, WithJsonSchema

from contracts.rankings import BY_NAME, RANKINGS, RankingDefinition
from contracts.time import EXAMPLE, at_ms, instant
from services.api import transform
from services.api.examples import explanation_example, ranking_examples, windows_example
from services.api.models import SETS, Explanation, Windows, encode
from services.api.openapi import ASK_AGAIN, RARELY_CHANGES, cacheable
from services.api.problems import NotFoundError, validation_error
from services.api.routes import parameters
from services.api.store import Rows, Store


def cached(body: BaseModel, have: str | None, cache: str = ASK_AGAIN) -> Response:
    """The body with an ETag of exactly these bytes, or 304 where the client has them (`have`: If-None-Match)."""
    content = encode(body)
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": cache}
    if have is not None and (have.strip() == "*" or tag in re.findall(r'"[^"]*"', have)):  # W/ makes no difference
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "application/json")


def _country_of(ranking: RankingDefinition, country: str | None) -> str:
    """The country whose competitors are meant (BR where none is named); '' where the ranking has none.

    Raises:
        RequestValidationError: a country is named, and the ranking is over all of them.
    """
    if ranking.per_country:
        return country or "BR"
    if country is not None:
        raise validation_error(("country", country, f"ranking={ranking.name} is over all countries"))
    return ""


def _resumed_sales(
    text: str, length: str | None, window: transform.WindowChoice, labels: list[str]
) -> tuple[str, datetime, transform.SalePosition]:
    """The cursor's own length, window and position; a length or start that is requested must be the same.

    Raises:
        RequestValidationError: it is not, or there is no such length any more.
    """
    cursor = parameters.read_cursor(transform.Cursor, text)
    start = at_ms(cursor.window * 1000)
    detail = f"belongs to the window of {cursor.length[:20]} that starts at {instant(start)}"
    if length in (None, cursor.length) and window in ("latest", "latest-final", start):
        if cursor.length in labels:
            return cursor.length, start, cursor.after
        detail = f"belongs to windows of {cursor.length[:20]}, which are not configured"
    raise validation_error(("cursor", text, detail))


def _resumed_windows(text: str, ranking: str, length: str, country: str) -> int:
    """The start of the last window before the page.

    Raises:
        RequestValidationError: the cursor is of another list.
    """
    cursor = parameters.read_cursor(transform.WindowsCursor, text)
    if cursor[:3] == (ranking, length, country):
        return cursor.start
    of = " ".join(part[:20] for part in cursor[:3] if part)
    detail = f"belongs to the windows of {of}; repeat the same ranking, length and country"
    raise validation_error(("cursor", text, detail))


def _answer(
    ranking: RankingDefinition, rows: Rows, window: transform.WindowChoice, limit: int, have: str | None
) -> Response:
    body = transform.ranking_set(ranking, rows, limit)
    settled = isinstance(window, datetime) and body.status != "provisional"
    return cached(body, have, RARELY_CHANGES if settled else ASK_AGAIN)


def router(store: Store, labels: list[str]) -> APIRouter:
    """The endpoints `/sales/<path>`, `/sales/explain` and `/windows` for windows of these lengths."""
    endpoints = parameters.strict_router("rankings")
    main, first_ranking = labels[0], RANKINGS[0].name
    start_s = transform.first_second(transform.parse_instant(EXAMPLE))
    # what makes a text the parameter `length`
    known = AfterValidator(transform.parse_length(labels))
    shape = WithJsonSchema({"type": "string", "enum": labels})
    described = Query(
        description=f"length of the windows, one of RANKING_WINDOWS ({main})",
        openapi_examples=parameters.examples(newest=main),
    )
    sales_cursor = parameters.cursor(
        transform.Cursor(main, start_s, transform.SalePosition(start_s * 1000, "files", "s0")),
        "names length and window too, so that `latest` stays one window",
    )
    windows_cursor = parameters.cursor(
        transform.WindowsCursor(first_ranking, main, "", start_s + 1), "for the same ranking, length and country"
    )

    def over_all_countries(ranking: RankingDefinition) -> Any:
        async def endpoint(
            window: parameters.Window = "latest",
            length: Annotated[str, known, shape, described] = main,
            limit: parameters.Limit = 10,
            have: parameters.Have = None,
        ) -> Response:
            return _answer(ranking, await store.ranking(ranking, length, window, ""), window, limit, have)

        return endpoint

    def of_a_country(ranking: RankingDefinition) -> Any:
        async def endpoint(
            window: parameters.Window = "latest",
            length: Annotated[str, known, shape, described] = main,
            country: parameters.Country = "BR",
            limit: parameters.Limit = 10,
            have: parameters.Have = None,
        ) -> Response:
            return _answer(ranking, await store.ranking(ranking, length, window, country), window, limit, have)

        return endpoint

    for row in RANKINGS:
        endpoints.add_api_route(
            f"/sales/{row.path}",
            (of_a_country if row.per_country else over_all_countries)(row),
            name=row.path.replace("-", "_"),
            response_model=SETS[row.name],
            responses=cacheable(ranking_examples(row)),
            summary=f"{row.title['en']} of a window",
        )

    @endpoints.get(
        "/sales/explain",
        response_model=Explanation,
        responses=cacheable({ranking.name: explanation_example(ranking) for ranking in RANKINGS}),
        summary="The sales that make up a rank",
    )
    async def explain(
        *,
        ranking: parameters.Ranking,
        name: parameters.Name,
        window: parameters.Window = "latest",
        length: Annotated[str | None, known, shape, described] = None,
        country: parameters.CountryOfRanking = None,
        limit: parameters.Page = 50,
        cursor: Annotated[str | None, sales_cursor] = None,
        have: parameters.Have = None,
    ) -> Response:
        definition = BY_NAME[ranking]
        after, of_country = transform.BEFORE_ALL, _country_of(definition, country)
        if cursor is not None:
            length, window, after = _resumed_sales(cursor, length, window, labels)
        length = length or main
        start, end = (await store.ranking(definition, length, window, of_country))[0][:2]
        rank = transform.Rank(definition, length, start, end, name, of_country)
        total, count, rows = await store.sales(rank, after, limit + 1)
        if count == 0:
            raise NotFoundError(f"{name} has no sale in the window that starts at {instant(start)}")
        return cached(transform.explanation(rank, total, count, rows, limit), have)

    @endpoints.get(
        "/windows",
        response_model=Windows,
        responses=cacheable({"page": windows_example()}, missing=False),
        summary="The windows that have a ranking, newest first",
    )
    async def windows(
        *,
        ranking: parameters.Ranking = first_ranking,
        length: Annotated[str, known, shape, described] = main,
        country: parameters.CountryOfRanking = None,
        since: parameters.From = None,
        before: parameters.To = None,
        limit: parameters.Page = 24,
        cursor: Annotated[str | None, windows_cursor] = None,
        have: parameters.Have = None,
    ) -> Response:
        definition = BY_NAME[ranking]
        of_country = _country_of(definition, country)
        first = 0 if since is None else transform.first_second(since)
        end = transform.LAST_SECOND if before is None else transform.first_second(before)
        if cursor is not None:
            end = min(end, _resumed_windows(cursor, ranking, length, of_country))
        rows = await store.windows(definition, length, of_country, first=first, end=end, limit=limit + 1)
        return cached(transform.windows_page(ranking, length, of_country, rows, limit), have)

    return endpoints
