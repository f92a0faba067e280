"""Which windows have a ranking, newest first, in pages."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Response

from contracts.rankings import BY_NAME, RANKINGS
from contracts.time import EXAMPLE
from contracts.windows import WindowLength
from services.api import transform
from services.api.examples import windows_example
from services.api.models import Windows
from services.api.openapi import cacheable
from services.api.problems import validation_error
from services.api.routes import parameters
from services.api.routes.caching import cached
from services.api.routes.explain import country_of
from services.api.routes.rankings import Rankings, length_parameter
from services.api.store import SingleFlightCache, known_windows


def _resume(text: str, ranking: str, length: str, country: str) -> int:
    """The start of the last window before the page; the cursor must be of the same list."""
    cursor = parameters.read_cursor(transform.WindowsCursor, text)
    if cursor[:3] != (ranking, length, country):
        of = " ".join(part[:20] for part in cursor[:3] if part)
        detail = f"belongs to the windows of {of}; repeat the same ranking, length and country"
        raise validation_error(("cursor", text, detail))
    return cursor.start


def router(store: SingleFlightCache, rankings: Rankings, lengths: Sequence[WindowLength]) -> APIRouter:
    """The endpoint `/windows`."""
    endpoints = parameters.strict_router("rankings")
    main, first_ranking = lengths[0].label, RANKINGS[0].name
    known, shape, query = length_parameter(lengths)
    start = transform.first_second(transform.parse_instant(EXAMPLE))
    example = transform.WindowsCursor(first_ranking, main, "", start + 1)
    cursor_query = parameters.cursor(example, "for the same ranking, length and country")

    @endpoints.get(
        "/windows",
        response_model=Windows,
        responses=cacheable({"page": windows_example()}, missing=False),
        summary="The windows that have a ranking, newest first",
    )
    async def windows(
        *,
        ranking: parameters.Ranking = first_ranking,
        length: Annotated[str, known, shape, query] = main,
        country: parameters.CountryOfRanking = None,
        since: parameters.From = None,
        before: parameters.To = None,
        limit: parameters.Page = 24,
        cursor: Annotated[str | None, cursor_query] = None,
        have: parameters.Have = None,
    ) -> Response:
        definition = BY_NAME[ranking]
        of_country = country_of(definition, country)
        first = 0 if since is None else transform.first_second(since)
        end = transform.LAST_SECOND if before is None else transform.first_second(before)
        if cursor is not None:
            end = min(end, _resume(cursor, ranking, length, of_country))
        table = rankings.table(definition, length)
        rows = await known_windows(store, definition, table, of_country, first=first, end=end, limit=limit + 1)
        return cached(transform.windows_page(ranking, length, of_country, rows, limit), have)

    return endpoints
