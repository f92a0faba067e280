"""The sales behind a rank, in pages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response

from contracts.rankings import BY_NAME, RANKINGS, RankingDefinition
from contracts.time import EXAMPLE, at_ms, instant
from contracts.windows import WindowLength
from services.api import transform
from services.api.examples import explanation_example
from services.api.models import Explanation
from services.api.openapi import cacheable
from services.api.problems import NotFoundError, validation_error
from services.api.routes import parameters
from services.api.routes.caching import cached
from services.api.routes.rankings import Rankings, length_parameter
from services.api.store import SingleFlightCache, rank_sales


def country_of(ranking: RankingDefinition, country: str | None) -> str:
    """The country whose competitors are meant (BR where none is named); '' where the ranking has none.

    Raises:
        RequestValidationError: a country is named, and the ranking is over all of them.
    """
    if ranking.per_country:
        return country or "BR"
    if country is not None:
        raise validation_error(("country", country, f"ranking={ranking.name} is over all countries"))
    return ""


def _resume(
    text: str, length: str | None, window: transform.WindowChoice
) -> tuple[str, datetime, transform.SalePosition]:
    """The cursor's own length, window and position; a length or start that is requested must be the same."""
    cursor = parameters.read_cursor(transform.Cursor, text)
    start = at_ms(cursor.window * 1000)
    if length not in (None, cursor.length) or (isinstance(window, datetime) and window != start):
        detail = f"belongs to the window of {cursor.length[:20]} that starts at {instant(start)}"
        raise validation_error(("cursor", text, detail))
    return cursor.length, start, cursor.after


def router(rankings: Rankings, sales: SingleFlightCache, lengths: Sequence[WindowLength]) -> APIRouter:
    """The endpoint `/sales/explain`; `sales` is for reads whose cost grows with the sales that there are."""
    endpoints = parameters.strict_router("rankings")
    labels = [length.label for length in lengths]
    known, shape, query = length_parameter(lengths)
    start_s = transform.first_second(transform.parse_instant(EXAMPLE))
    example = transform.Cursor(labels[0], start_s, transform.SalePosition(start_s * 1000, "files", "s0"))
    own = "names length and window too, so that `latest` stays one window"
    cursor_query = parameters.cursor(example, own)

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
        length: Annotated[str | None, known, shape, query] = None,
        country: parameters.CountryOfRanking = None,
        limit: parameters.Page = 50,
        cursor: Annotated[str | None, cursor_query] = None,
        have: parameters.Have = None,
    ) -> Response:
        definition = BY_NAME[ranking]
        after, of_country = transform.BEFORE_ALL, country_of(definition, country)
        if cursor is not None:
            length, window, after = _resume(cursor, length, window)
            if length not in labels:
                detail = f"belongs to windows of {length[:20]}, which are not configured"
                raise validation_error(("cursor", cursor, detail))
        length = length or labels[0]
        start, end = (await rankings.rows(definition, length, window, of_country))[0][:2]
        rank = transform.Rank(definition, length, start, end, name, of_country)
        total, count, rows = await rank_sales(sales, rank, after, limit + 1)
        if count == 0:
            raise NotFoundError(f"{name} has no sale in the window that starts at {instant(start)}")
        return cached(transform.explanation(rank, total, count, rows, limit), have)

    return endpoints
