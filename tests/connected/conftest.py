"""Real servers for the connected tests: one native runtime per session, without Flink, Connect and Placar's units."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.rankings import Reader, Sales, follower, publisher
from tests.runtime import Runtime, start_runtime

# what these need comes with them: broker and registry with topics and subjects, database, object store, tables
STARTED = ("contracts", "s3", "tables", "prometheus")
# how the names of a group's modules begin; all others are one group
GROUPS = {"ranking/": "flink", "test_flink_": "flink", "test_streams_": "streams", "capture/": "capture"}
ENVIRONMENT = {
    "KAFKA_HOST": "127.0.0.1",
    "SCHEMA_REGISTRY_HOST": "127.0.0.1",
    "POSTGRES_HOST": "127.0.0.1",
    "POSTGRES_DB": "sales",
    "POSTGRES_USER": "placar",
    "POSTGRES_PASSWORD": "placar",
    "CLICKHOUSE_HOST": "127.0.0.1",
    "CLICKHOUSE_DB": "placar",
    "CLICKHOUSE_USER": "placar",
    "CLICKHOUSE_PASSWORD": "placar",
    "S3_ACCESS_KEY": "placar",
    "S3_SECRET_KEY": "placar-secret",
    "S3_BUCKET": "sales-data",
    "LINEAGE_TRANSPORT": "off",
    # other tests leave what is rejected in the topics that they share
    "REJECTED_SHARE_MAX": "0",
    "REJECTED_RUN_MAX": "0",
}


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Groups that can run at once, each in one process and in its own order, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.removeprefix("tests/connected/")
        return next((group for beginning, group in GROUPS.items() if module.startswith(beginning)), "others")


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """The tests run by groups, one process each."""
    return Groups(config, log)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables under which a process finds the servers."""
    with start_runtime(tmp_path_factory.mktemp("runtime"), STARTED, ENVIRONMENT) as runtime:
        yield runtime.env


@pytest.fixture
async def sales(runtime: Runtime, published: list[Mapping[str, Any]]) -> AsyncIterator[Sales]:
    """A publisher on the broker of the module's or package's `runtime`; it adds to its `published`."""
    async with publisher(runtime, published) as started:
        yield started


@pytest.fixture
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    """A reader of everything that the job of the module's or package's `runtime` ever published."""
    async with follower(runtime) as started:
        yield started
