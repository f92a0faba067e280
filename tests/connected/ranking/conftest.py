"""One runtime for all tests of the rankings: broker, registry, Flink with the job, ClickHouse, the sink and the API."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from tests import oracle
from tests.runtime import Runtime, start_runtime
from tests.served import Answers, Tables, answers, tables

SETTINGS = {
    "RANKING_IDLE_S": "3",
    "RANKING_MINI_BATCH_MS": "100",
    "RANKING_EMIT_INTERVAL_MS": "200",
    "API_QUERY_TIMEOUT_S": "60",
    "API_RATE_LIMIT_PER_S": "0",
}
"""Silence ends windows after seconds, a changed ranking is published almost at once, a busy machine is given time.

Readers ask as fast as they are answered, without a limit.
"""


@pytest.fixture(scope="package")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The started runtime; the job runs, with a state folder whose path is longer than a file's name may be."""
    only = ("flink_watcher", "clickhouse_sink", "api")
    folder = tmp_path_factory.mktemp("ranking") / ("long" * 30) / ("long" * 30)
    with start_runtime(folder, only, SETTINGS) as started:
        yield started


@pytest.fixture(scope="package")
def published() -> list[Mapping[str, Any]]:
    """What the tests with few sales have published so far, in hours that they may share (now, for example)."""
    return []


@pytest.fixture(scope="package")
def settled() -> dict[oracle.SetKey, tuple[oracle.Entry, ...]]:
    """What the tests with hours of their own have found right, and must stay."""
    return {}


@pytest.fixture
async def store(runtime: Runtime) -> AsyncIterator[Tables]:
    """The tables that the sink writes."""
    async with tables(runtime) as opened:
        yield opened


@pytest.fixture
async def rest(runtime: Runtime) -> AsyncIterator[Answers]:
    """The API's rankings."""
    async with answers(runtime) as opened:
        yield opened
