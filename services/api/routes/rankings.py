"""The rankings: one endpoint for each row of contracts/rankings.py, over each of the window lengths."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, WithJsonSchema

from contracts.rankings import RANKINGS, RankingDefinition
from contracts.time import instant
from contracts.windows import WindowLength, tables
from services.api.examples import ranking_examples
from services.api.models import SETS
from services.api.openapi import cacheable
from services.api.problems import NotFoundError
from services.api.routes import parameters
from services.api.routes.caching import ASK_AGAIN, RARELY_CHANGES, cached
from services.api.store import Rows, SingleFlightCache, ranking_rows
from services.api.transform import WindowChoice, parse_length, ranking_set


def length_parameter(lengths: Sequence[WindowLength]) -> tuple[Any, Any, Any]:
    """What makes a text the parameter `length`: its check, its schema, and its description."""
    labels = [length.label for length in lengths]
    description = f"length of the windows, one of RANKING_WINDOWS ({labels[0]})"
    return (
        AfterValidator(partial(parse_length, labels)),
        WithJsonSchema({"type": "string", "enum": labels}),
        Query(description=description, openapi_examples=parameters.examples(newest=labels[0])),
    )


class Rankings:
    """The sets in the store, by ranking and window length."""

    def __init__(self, store: SingleFlightCache, lengths: Sequence[WindowLength]) -> None:
        self._store = store
        self._tables = {ranking.name: tables(ranking.table, lengths) for ranking in RANKINGS}

    def table(self, ranking: RankingDefinition, length: str) -> str:
        """The table of the ranking over windows of this length."""
        return self._tables[ranking.name][length]

    async def rows(self, ranking: RankingDefinition, length: str, window: WindowChoice, country: str) -> Rows:
        """The ten rows of the set of a window; `country` is '' where the ranking has none.

        Raises:
            NotFoundError: there is no such window.
            StoreUnavailableError: ClickHouse is unreachable.
            ServerException: it rejects the query (a table is missing).
        """
        rows = await ranking_rows(self._store, ranking, self.table(ranking, length), window, country)
        if rows:
            return rows
        missing = f"there is no {length} ranking {ranking.name}{f' of {country}' if country else ''}"
        if isinstance(window, datetime):
            raise NotFoundError(f"{missing} for a window that starts at {instant(window)}")
        raise NotFoundError(f"{missing} yet" if window == "latest" else f"{missing} that is final yet")


def router(rankings: Rankings, lengths: Sequence[WindowLength]) -> APIRouter:
    """The endpoints `/sales/<path>`."""
    endpoints = parameters.strict_router("rankings")
    main = lengths[0].label
    known, shape, query = length_parameter(lengths)

    def answer(ranking: RankingDefinition, rows: Rows, window: WindowChoice, limit: int, have: str | None) -> Response:
        body = ranking_set(ranking, rows, limit)
        settled = isinstance(window, datetime) and body.status != "provisional"
        return cached(body, have, RARELY_CHANGES if settled else ASK_AGAIN)

    def over_all_countries(ranking: RankingDefinition) -> Any:
        async def endpoint(
            window: parameters.Window = "latest",
            length: Annotated[str, known, shape, query] = main,
            limit: parameters.Limit = 10,
            have: parameters.Have = None,
        ) -> Response:
            return answer(ranking, await rankings.rows(ranking, length, window, ""), window, limit, have)

        return endpoint

    def of_a_country(ranking: RankingDefinition) -> Any:
        async def endpoint(
            window: parameters.Window = "latest",
            length: Annotated[str, known, shape, query] = main,
            country: parameters.Country = "BR",
            limit: parameters.Limit = 10,
            have: parameters.Have = None,
        ) -> Response:
            return answer(ranking, await rankings.rows(ranking, length, window, country), window, limit, have)

        return endpoint

    for ranking in RANKINGS:
        endpoints.add_api_route(
            f"/sales/{ranking.path}",
            (of_a_country if ranking.per_country else over_all_countries)(ranking),
            name=ranking.path.replace("-", "_"),
            response_model=SETS[ranking.name],
            responses=cacheable(ranking_examples(ranking)),
            summary=f"{ranking.title['en']} of a window",
        )
    return endpoints
