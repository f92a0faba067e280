"""Ranking sets as each kind of reader gets them: from the topics, from ClickHouse, over REST."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.settings import ClickHouseSettings
from tests.oracle import Place, SetKey
from tests.runtime import Runtime

TABLES = {
    "city": ("top_sales_city", "city", "''"),
    "salesman": ("top_salesman_country", "salesman_name", "country"),
}
"""Ranking: its table, and the columns of the name and of the country."""

ENDPOINTS = {"city": ("top-by-city", "city"), "salesman": ("top-salesman", "salesmanName")}
"""Ranking: its path, and the field of the name."""

AT_ONCE = 8


@dataclass(frozen=True)
class Served:
    """One ranking set as a reader got it."""

    revision: int
    status: str
    places: tuple[Place, ...]


def places(sets: Mapping[SetKey, Served]) -> dict[SetKey, tuple[Place, ...]]:
    """Only the places, for the comparison with the oracle."""
    return {board: one.places for board, one in sets.items()}


def unlike(want: Mapping[SetKey, Served], have: Mapping[SetKey, Served]) -> list[str]:
    """One line for each window whose sets are not the same; a missing set is unlike an empty one."""
    return [
        f"{board}: {want.get(board)}, but {have.get(board)}"
        for board in {*want, *have}
        if want.get(board) != have.get(board)
    ]


def from_record(record: Mapping[str, Any]) -> tuple[SetKey, Served]:
    """A record of `rankings.*`."""
    entries = tuple(
        Place(entry["rank"], entry["name"], entry["total_sales"], entry["transaction_count"])
        for entry in record["entries"]
    )
    board = SetKey(record["ranking"], record["country"], record["window_start"])
    return board, Served(record["revision"], record["status"], entries)


class Tables:
    """The tables, read as any client of ClickHouse would."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def read(self, ranking: str, hours: Collection[datetime]) -> dict[SetKey, Served]:
        """The sets of the windows that begin at `hours`.

        Raises:
            AssertionError: a set is not ten rows, 1 to 10, of one revision and status, blank ones at the end.
        """
        table, name, country = TABLES[ranking]
        rows = await self._store.select(
            f"SELECT {country} AS country, window_start, revision, status, rank, {name}, total_sales, "  # noqa: S608 - ours
            f"transaction_count FROM {table} FINAL WHERE toUnixTimestamp(window_start) IN %(starts)s "
            "ORDER BY country, window_start, rank",
            {"starts": tuple(int(hour.timestamp()) for hour in hours)},
        )
        by_board: dict[SetKey, list[tuple[Any, ...]]] = {}
        for row in rows:
            by_board.setdefault(SetKey(ranking, row[0], row[1].replace(tzinfo=UTC)), []).append(row[2:])
        return {board: _one_set(board, of_board) for board, of_board in by_board.items()}

    async def newest(self) -> datetime | None:
        """When the newest ranking of cities was made; None where there is none.

        Raises:
            StoreUnavailableError: ClickHouse is unavailable.
        """
        [(as_of_ms,)] = await self._store.select("SELECT max(as_of_ms) FROM top_sales_city")
        return datetime.fromtimestamp(as_of_ms / 1000, UTC) if as_of_ms else None


def _one_set(board: SetKey, rows: Iterable[tuple[Any, ...]]) -> Served:
    ranks = [Place(*row[2:]) for row in rows]
    revisions = {(row[0], row[1]) for row in rows}
    assert len(revisions) == 1, f"{board}: a mixture of {revisions}"
    revision, status = revisions.pop()
    assert [place.rank for place in ranks] == list(range(1, 11)), f"{board}: {ranks}"
    filled = tuple(place for place in ranks if place.count > 0)
    assert tuple(ranks[: len(filled)]) == filled, f"{board}: a blank rank before another: {ranks}"
    return Served(revision, status, filled)


class Answers:
    """The rankings over REST, at most AT_ONCE questions at a time."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def one(self, board: SetKey) -> Served | None:
        """The answer for a window, None for 404.

        Raises:
            AssertionError: another status, or another window than asked for.
        """
        path, name = ENDPOINTS[board.ranking]
        start = f"{board.start:%Y-%m-%dT%H:%M:%SZ}"
        country = {"country": board.country} if board.country else {}
        async with self._turn:
            response = await self._client.get(f"/api/v1/sales/{path}", params={"window": start, **country})
        if response.status_code == 404:
            return None
        assert response.status_code == 200, f"{board}: {response.status_code} {response.text}"
        body = json.loads(response.content, parse_float=Decimal)
        assert body["window"]["start"] == start
        return Served(
            body["revision"],
            body["status"],
            tuple(Place(r["rank"], r[name], r["totalSales"], r["transactionCount"]) for r in body["rankings"]),
        )

    async def read(self, boards: Iterable[SetKey]) -> dict[SetKey, Served]:
        """The answers for all of them; those with 404 are not in it."""
        asked = list(boards)
        found = await asyncio.gather(*(self.one(board) for board in asked))
        return {board: one for board, one in zip(asked, found, strict=True) if one is not None}


@asynccontextmanager
async def tables(runtime: Runtime) -> AsyncIterator[Tables]:
    """The runtime's tables."""
    settings = ClickHouseSettings(native_port=int(runtime.env["CLICKHOUSE_NATIVE_PORT"]))
    async with clickhouse(settings, 4, 30) as store:
        yield Tables(store)


@asynccontextmanager
async def answers(runtime: Runtime) -> AsyncIterator[Answers]:
    """The runtime's API."""
    address = f"http://127.0.0.1:{runtime.env['API_PORT']}"
    async with httpx.AsyncClient(base_url=address, timeout=30, limits=httpx.Limits(max_connections=AT_ONCE)) as client:
        yield Answers(client)
