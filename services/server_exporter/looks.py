"""One look at each server: what it says of itself, as metrics and their series."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from chassis.clickhouse import ClickHouse
from chassis.metrics import Metric, Series
from chassis.postgres import open_connection
from chassis.settings import KafkaSettings, PostgresSettings
from contracts.rankings import RANKINGS
from contracts.windows import WindowLength, tables
from services.server_exporter import metrics
from services.server_exporter.transform import consumer_lag

ANSWER_S = 8.0
SYSTEM: Mapping[Metric, str] = {
    metrics.CLICKHOUSE_METRIC: "SELECT metric, toFloat64(value) FROM system.metrics",
    metrics.CLICKHOUSE_EVENTS: "SELECT event, toFloat64(value) FROM system.events",
    metrics.CLICKHOUSE_ASYNCHRONOUS: "SELECT metric, toFloat64(value) FROM system.asynchronous_metrics",
}
WAL = """
SELECT slot_name, active, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::float8
FROM pg_replication_slots
"""
CONNECTIONS = """
SELECT coalesce(state, 'unknown'), count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1
"""
DATABASES = "SELECT datname, pg_database_size(datname) FROM pg_database WHERE datallowconn"
LIMIT = "SELECT current_setting('max_connections')::int"

Found = Mapping[Metric, Series]


async def clickhouse(store: ClickHouse, lengths: Sequence[WindowLength]) -> Found:
    """ClickHouse's own tables of metrics, and how new each ranking is.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects a query (a table is missing).
    """
    found = {
        metric: [({"name": name}, value) for name, value in await store.select(query)]
        for metric, query in SYSTEM.items()
    }
    as_of: Series = []
    watermarks: Series = []
    for ranking in RANKINGS:
        for length, table in tables(ranking.table, lengths).items():
            built, watermark = (await store.select(f"SELECT max(as_of_ms), max(watermark_ms) FROM {table}"))[0]  # noqa: S608 - the names are ours
            if built:
                labels = {"ranking": ranking.name, "length": length}
                as_of.append((labels, built / 1000))
                watermarks.append((labels, watermark / 1000))
    return {**found, metrics.RANKING_AS_OF: as_of, metrics.RANKING_WATERMARK: watermarks}


async def postgres(settings: PostgresSettings) -> Found:
    """Replication slots, connections and sizes.

    Raises:
        OSError | asyncpg.PostgresError | asyncpg.InterfaceError: the server is unavailable or rejects us.
    """
    connection = await open_connection(settings, ANSWER_S)
    try:
        slots = await connection.fetch(WAL)
        states = await connection.fetch(CONNECTIONS)
        sizes = await connection.fetch(DATABASES)
        limit = await connection.fetchval(LIMIT)
    finally:
        await connection.close()
    return {
        metrics.WAL_RETAINED: [({"slot": name}, retained) for name, _, retained in slots],
        metrics.SLOT_ACTIVE: [({"slot": name}, int(active)) for name, active, _ in slots],
        metrics.CONNECTIONS: [({"state": state}, count) for state, count in states],
        metrics.CONNECTIONS_LIMIT: [({}, limit)],
        metrics.DATABASE_BYTES: [({"database": name}, size) for name, size in sizes],
    }


async def kafka(settings: KafkaSettings) -> Found:
    """How far each consumer group is behind, by topic.

    Raises:
        KafkaError | OSError: the broker is unavailable.
    """
    async with AsyncExitStack() as stack:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, client_id="server_exporter")
        stack.push_async_callback(admin.close)
        await admin.start()
        reader = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, client_id="server_exporter")
        stack.push_async_callback(reader.stop)
        await reader.start()
        groups = [name for name, _ in await admin.list_consumer_groups()]
        committed: dict[str, dict[TopicPartition, int]] = {}
        for group in groups:
            offsets = await admin.list_consumer_group_offsets(group)
            committed[group] = {place: one.offset for place, one in offsets.items() if one.offset >= 0}
        places = {place for offsets in committed.values() for place in offsets}
        ends = await reader.end_offsets(list(places)) if places else {}
    return {metrics.CONSUMER_LAG: consumer_lag(committed, ends)}


async def disk(folder: Path) -> Found:
    """Size and free room of the folder's disk.

    Raises:
        OSError: there is no such folder.
    """
    usage = shutil.disk_usage(folder)
    return {metrics.DISK_FREE: [({}, usage.free)], metrics.DISK_SIZE: [({}, usage.total)]}
