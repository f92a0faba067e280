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
from contracts.rankings import BY_NAME, RANKINGS
from tests.oracle import Entry, SetKey
from tests.runtime import Runtime

AT_ONCE = 8


@dataclass(frozen=True)
class Served:
    """One ranking set as a reader got it."""

    revision: int
    status: str
    entries: tuple[Entry, ...]


def entries_of(sets: Mapping[SetKey, Served]) -> dict[SetKey, tuple[Entry, ...]]:
    """Only the entries, for the comparison with the oracle."""
    return {set_key: one.entries for set_key, one in sets.items()}


def unlike(want: Mapping[SetKey, Served], have: Mapping[SetKey, Served]) -> list[str]:
    """One line for each window whose sets are not the same; a missing set is unlike an empty one."""
    return [
        f"{set_key}: {want.get(set_key)}, but {have.get(set_key)}"
        for set_key in {*want, *have}
        if want.get(set_key) != have.get(set_key)
    ]


def from_record(record: Mapping[str, Any]) -> tuple[SetKey, Served]:
    """A record of `rankings.*`."""
    entries = tuple(
        Entry(entry["rank"], entry["name"], entry["total_sales"], entry["transaction_count"])
        for entry in record["entries"]
    )
    set_key = SetKey(record["ranking"], record["country"], record["window_start"])
    return set_key, Served(record["revision"], record["status"], entries)


def name_field(ranking: str) -> str:
    """The field of a competitor's name in JSON: the ranking's column in camelCase."""
    first, *others = BY_NAME[ranking].column.split("_")
    return first + "".join(word.capitalize() for word in others)


class Tables:
    """The tables, read as any client of ClickHouse would."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def read(self, ranking: str, hours: Collection[datetime]) -> dict[SetKey, Served]:
        """The ranking's sets of the windows that begin at `hours`.

        Raises:
            AssertionError: a set is not ten rows, 1 to 10, of one revision and status, blank ones at the end.
        """
        of = BY_NAME[ranking]
        country = "country" if of.per_country else "''"
        rows = await self._store.select(
            f"SELECT {country} AS country, window_start, revision, status, rank, {of.column}, total_sales, "  # noqa: S608 - ours
            f"transaction_count FROM {of.table} FINAL WHERE toUnixTimestamp(window_start) IN %(starts)s "
            "ORDER BY country, window_start, rank",
            {"starts": tuple(int(hour.timestamp()) for hour in hours)},
        )
        by_key: dict[SetKey, list[tuple[Any, ...]]] = {}
        for row in rows:
            by_key.setdefault(SetKey(ranking, row[0], row[1].replace(tzinfo=UTC)), []).append(row[2:])
        return {set_key: _one_set(set_key, of_key) for set_key, of_key in by_key.items()}

    async def read_all(self, hours: Collection[datetime]) -> dict[SetKey, Served]:
        """The sets of every ranking of the windows that begin at `hours`; raises as `read` does."""
        return {set_key: one for ranking in RANKINGS for set_key, one in (await self.read(ranking.name, hours)).items()}

    async def newest(self) -> datetime | None:
        """When the newest ranking of cities was made; None where there is none.

        Raises:
            StoreUnavailableError: ClickHouse is unavailable.
        """
        [(as_of_ms,)] = await self._store.select("SELECT max(as_of_ms) FROM top_sales_city")
        return datetime.fromtimestamp(as_of_ms / 1000, UTC) if as_of_ms else None


def _one_set(set_key: SetKey, rows: Iterable[tuple[Any, ...]]) -> Served:
    ranks = [Entry(*row[2:]) for row in rows]
    revisions = {(row[0], row[1]) for row in rows}
    assert len(revisions) == 1, f"{set_key}: a mixture of {revisions}"
    revision, status = revisions.pop()
    assert [entry.rank for entry in ranks] == list(range(1, 11)), f"{set_key}: {ranks}"
    filled = tuple(entry for entry in ranks if entry.count > 0)
    assert tuple(ranks[: len(filled)]) == filled, f"{set_key}: a blank rank before another: {ranks}"
    return Served(revision, status, filled)


class Answers:
    """The rankings over REST, at most AT_ONCE questions at a time."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def one(self, set_key: SetKey) -> Served | None:
        """The answer for a window, None for 404.

        Raises:
            AssertionError: another status, or another window than asked for.
        """
        path, name = BY_NAME[set_key.ranking].path, name_field(set_key.ranking)
        start = f"{set_key.start:%Y-%m-%dT%H:%M:%SZ}"
        country = {"country": set_key.country} if set_key.country else {}
        async with self._turn:
            response = await self._client.get(f"/api/v1/sales/{path}", params={"window": start, **country})
        if response.status_code == 404:
            return None
        assert response.status_code == 200, f"{set_key}: {response.status_code} {response.text}"
        body = json.loads(response.content, parse_float=Decimal)
        assert body["window"]["start"] == start
        return Served(
            body["revision"],
            body["status"],
            tuple(Entry(r["rank"], r[name], r["totalSales"], r["transactionCount"]) for r in body["rankings"]),
        )

    async def read(self, set_keys: Iterable[SetKey]) -> dict[SetKey, Served]:
        """The answers for all of them; those with 404 are not in it."""
        keys = list(set_keys)
        answered = await asyncio.gather(*(self.one(set_key) for set_key in keys))
        return {set_key: one for set_key, one in zip(keys, answered, strict=True) if one is not None}


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
