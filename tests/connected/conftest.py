"""Real servers for the connected tests: one native runtime per session, without Flink, Connect and Placar's units."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.runtime import start_runtime

# what these need comes with them: broker and registry with topics and subjects, database, object store, tables
STARTED = ("contracts", "s3", "tables")
FLINK = ("ranking/", "test_flink_")
ACCOUNTS = {
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
}


@pytest.hookimpl(tryfirst=True)  # xdist looks for the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two groups that can run at once, each in its own order: what has a Flink cluster, and what shares `servers`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            place = item.path.relative_to(here).as_posix()
            item.add_marker(pytest.mark.xdist_group("flink" if place.startswith(FLINK) else "servers"))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables under which a process finds the servers."""
    with start_runtime(tmp_path_factory.mktemp("runtime"), STARTED, ACCOUNTS) as runtime:
        yield runtime.env
