"""What each server reports of itself, as metrics and their series."""

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

ANSWER_S = 8.0
SYSTEM: Mapping[Metric, str] = {
    metrics.CLICKHOUSE_METRIC: "SELECT metric, toFloat64(value) FROM system.metrics",
    metrics.CLICKHOUSE_EVENTS: "SELECT event, toFloat64(value) FROM system.events",
    metrics.CLICKHOUSE_ASYNCHRONOUS: "SELECT metric, toFloat64(value) FROM system.asynchronous_metrics",
}
SLOTS = """
SELECT slot_name, active, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::float8
FROM pg_replication_slots
"""
CONNECTIONS = """
SELECT coalesce(state, 'unknown'), count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1
"""
DATABASES = "SELECT datname, pg_database_size(datname) FROM pg_database WHERE datallowconn"
LIMIT = "SELECT current_setting('max_connections')::int"

Collected = Mapping[Metric, Series]


async def clickhouse(store: ClickHouse, lengths: Sequence[WindowLength]) -> Collected:
    """ClickHouse's own tables of metrics, and when each ranking was built.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects a query (a table is missing).
    """
    collected: dict[Metric, Series] = {
        metric: [({"name": name}, value) for name, value in await store.select(query)]
        for metric, query in SYSTEM.items()
    }
    collected |= {metrics.RANKING_AS_OF: [], metrics.RANKING_WATERMARK: []}
    for ranking in RANKINGS:
        for length, table in tables(ranking.table, lengths).items():
            as_of, watermark = (await store.select(f"SELECT max(as_of_ms), max(watermark_ms) FROM {table}"))[0]  # noqa: S608 - the names are ours
            if as_of:
                labels = {"ranking": ranking.name, "length": length}
                collected[metrics.RANKING_AS_OF].append((labels, as_of / 1000))
                collected[metrics.RANKING_WATERMARK].append((labels, watermark / 1000))
    return collected


async def postgres(settings: PostgresSettings) -> Collected:
    """Replication slots, connections and sizes of databases.

    Raises:
        OSError | asyncpg.PostgresError | asyncpg.InterfaceError: the server is unavailable or rejects us.
    """
    connection = await open_connection(settings, ANSWER_S)
    try:
        slots = await connection.fetch(SLOTS)
        return {
            metrics.WAL_RETAINED: [({"slot": name}, retained) for name, _, retained in slots],
            metrics.SLOT_ACTIVE: [({"slot": name}, int(active)) for name, active, _ in slots],
            metrics.CONNECTIONS: [({"state": s}, count) for s, count in await connection.fetch(CONNECTIONS)],
            metrics.CONNECTIONS_LIMIT: [({}, await connection.fetchval(LIMIT))],
            metrics.DATABASE_BYTES: [({"database": name}, size) for name, size in await connection.fetch(DATABASES)],
        }
    finally:
        await connection.close()


def consumer_lag(committed: Mapping[str, Mapping[TopicPartition, int]], ends: Mapping[TopicPartition, int]) -> Series:
    """Offsets between commit and end by group and topic; 0 for a partition that was deleted or truncated."""
    lags: dict[tuple[str, str], int] = {}
    for group, offsets in committed.items():
        for partition, offset in offsets.items():
            key = (group, partition.topic)
            lags[key] = lags.get(key, 0) + max(0, ends.get(partition, offset) - offset)
    return [({"group": group, "topic": topic}, lag) for (group, topic), lag in lags.items()]


async def kafka(settings: KafkaSettings) -> Collected:
    """The lag of each consumer group, by topic.

    Raises:
        KafkaError | OSError: the broker is unavailable.
    """
    async with AsyncExitStack() as stack:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, client_id="server_exporter")
        stack.push_async_callback(admin.close)
        await admin.start()
        consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, client_id="server_exporter")
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        committed: dict[str, dict[TopicPartition, int]] = {}
        for group, _ in await admin.list_consumer_groups():
            offsets = await admin.list_consumer_group_offsets(group)
            committed[group] = {partition: each.offset for partition, each in offsets.items() if each.offset >= 0}
        partitions = {partition for offsets in committed.values() for partition in offsets}
        ends = await consumer.end_offsets(list(partitions)) if partitions else {}
    return {metrics.CONSUMER_LAG: consumer_lag(committed, ends)}


async def disk(folder: Path) -> Collected:
    """Size and free bytes of the folder's disk.

    Raises:
        OSError: there is no such folder.
    """
    usage = shutil.disk_usage(folder)
    return {metrics.DISK_FREE: [({}, usage.free)], metrics.DISK_SIZE: [({}, usage.total)]}
