"""The metrics of the exporter, besides what every process has."""

from chassis.metrics import Metric

UP = Metric(
    "placar_server_up", "gauge", "1 or 0", "1 while the server answers what is asked of it; 0: its values are left out",
    ("server",),
)  # fmt: skip
CONSUMER_LAG = Metric(
    "placar_consumer_lag_records",
    "gauge",
    "records",
    "Offsets between what a consumer group (a unit, or the job `ranking`) has committed and the end of the topic",
    ("group", "topic"),
    after="the first commit of the group",
)
CLICKHOUSE_METRIC = Metric(
    "placar_clickhouse_metric", "gauge", "as in ClickHouse", "system.metrics: what is so at this moment", ("name",)
)
CLICKHOUSE_EVENTS = Metric(
    "placar_clickhouse_events_total",
    "counter",
    "events",
    "system.events: what has happened since ClickHouse started",
    ("name",),
    after="the first event of its kind",
)
CLICKHOUSE_ASYNCHRONOUS = Metric(
    "placar_clickhouse_asynchronous_metric",
    "gauge",
    "as in ClickHouse",
    "system.asynchronous_metrics: what ClickHouse computes now and then",
    ("name",),
    after="the first computation, within 90 s of ClickHouse's start",
)
RANKING_AS_OF = Metric(
    "placar_ranking_as_of_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "When the newest set that is served of a ranking was built",
    ("ranking", "length"),
    after="the first ranking",
)
RANKING_WATERMARK = Metric(
    "placar_ranking_watermark_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "The newest watermark of the sets that are served of a ranking",
    ("ranking", "length"),
    after="the first ranking",
)
WAL_RETAINED = Metric(
    "placar_postgres_wal_retained_bytes",
    "gauge",
    "bytes",
    "Write-ahead log that Postgres keeps because the slot's reader has not confirmed it",
    ("slot",),
    after="the connector made its slot",
)
SLOT_ACTIVE = Metric(
    "placar_postgres_slot_active",
    "gauge",
    "1 or 0",
    "1 while somebody reads the replication slot",
    ("slot",),
    after="the connector made its slot",
)
CONNECTIONS = Metric(
    "placar_postgres_connections", "gauge", "connections", "Clients' connections to Postgres by their state", ("state",)
)
CONNECTIONS_LIMIT = Metric(
    "placar_postgres_connections_limit", "gauge", "connections", "Connections that Postgres accepts at most"
)
DATABASE_BYTES = Metric("placar_postgres_database_bytes", "gauge", "bytes", "Size of a database", ("database",))
DISK_FREE = Metric("placar_disk_free_bytes", "gauge", "bytes", "Free on the disk that holds the data")
DISK_SIZE = Metric("placar_disk_size_bytes", "gauge", "bytes", "Size of the disk that holds the data")
METRICS = (
    UP,
    CONSUMER_LAG,
    CLICKHOUSE_METRIC,
    CLICKHOUSE_EVENTS,
    CLICKHOUSE_ASYNCHRONOUS,
    RANKING_AS_OF,
    RANKING_WATERMARK,
    WAL_RETAINED,
    SLOT_ACTIVE,
    CONNECTIONS,
    CONNECTIONS_LIMIT,
    DATABASE_BYTES,
    DISK_FREE,
    DISK_SIZE,
)
