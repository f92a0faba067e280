"""Queries that many wait for at once: run once, bounded, and not ended by those who give up."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from chassis.clickhouse import ClickHouse, StoreUnavailableError
from services.api.store import Rows, SingleFlightCache


class Slow:
    """A store whose queries end when the test says so."""

    def __init__(self) -> None:
        self.queries: list[tuple[str, Mapping[str, Any]]] = []
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def select(self, query: str, values: Mapping[str, Any]) -> Rows:
        """The number of the query."""
        self.queries.append((query, values))
        number = len(self.queries)
        await self.end.wait()
        if self.error is not None:
            raise self.error
        return [(number,)]


def cache(store: Slow, limit: int = 10, share_s: float = 0) -> SingleFlightCache:
    """A cache over the store."""
    return SingleFlightCache(cast(ClickHouse, store), limit, share_s)


async def started(*queries: Any) -> list[asyncio.Task[Any]]:
    """The queries as tasks, all of them asked."""
    tasks = [asyncio.create_task(query) for query in queries]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_the_same_query_runs_once() -> None:
    """Who asks while the same query runs gets its answer; other values are another query; later it runs again."""
    store = Slow()
    reads = cache(store)
    tasks = await started(*[reads.select("a", {"x": 1, "y": 2}) for _ in range(5)], reads.select("a", {"x": 2, "y": 2}))
    store.end.set()
    assert await asyncio.gather(*tasks) == [[(1,)]] * 5 + [[(2,)]]
    await asyncio.sleep(0)
    assert await reads.select("a", {"y": 2, "x": 1}) == [(3,)]


async def test_who_gives_up_does_not_end_it() -> None:
    """A client that gives up leaves the query to the others."""
    store = Slow()
    reads = cache(store)
    first, second = await started(reads.select("a", {}), reads.select("a", {}))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    store.end.set()
    assert await second == [(1,)]


async def test_an_error_is_everybodys() -> None:
    """An error of the store is raised to all who wait, and the next query runs again."""
    store = Slow()
    reads, store.error = cache(store), StoreUnavailableError("gone")
    tasks = await started(*[reads.select("a", {}) for _ in range(3)])
    store.end.set()
    assert [str(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == ["gone"] * 3
    store.error = None
    assert await reads.select("a", {}) == [(2,)]


async def test_too_many_different_queries() -> None:
    """Beyond the bound another query is rejected, one that runs is still shared; when one ended room is made."""
    store = Slow()
    reads = cache(store, limit=2)
    tasks = await started(reads.select("a", {}), reads.select("b", {}))
    with pytest.raises(StoreUnavailableError, match="2 queries"):
        await reads.select("c", {})
    tasks += await started(reads.select("a", {}))
    store.end.set()
    assert await asyncio.gather(*tasks) == [[(1,)], [(2,)], [(1,)]]
    assert await reads.select("c", {}) == [(3,)]


async def test_an_answer_is_shared_for_a_while() -> None:
    """Who asks the same soon after gets the same answer, which takes no room; then the query runs again."""
    store = Slow()
    store.end.set()
    reads = cache(store, limit=1, share_s=0.05)
    assert [await reads.select("a", {}) for _ in range(3)] == [[(1,)]] * 3
    assert await reads.select("b", {}) == [(2,)]
    for _ in range(500):
        if await reads.select("a", {}) != [(1,)]:
            break
        await asyncio.sleep(0.01)
    assert len(store.queries) == 3
