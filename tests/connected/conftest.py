"""Real servers for the connected tests: one native runtime per session, without Flink, Connect and Placar's units."""

from collections.abc import Iterator, Mapping

import pytest

from tests.runtime import start_runtime

# what these need comes with them: broker and registry with topics and subjects, database, object store, tables
STARTED = ("contracts", "s3", "tables")
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


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables under which a process finds the servers."""
    with start_runtime(tmp_path_factory.mktemp("runtime"), STARTED, ACCOUNTS) as runtime:
        yield runtime.env
