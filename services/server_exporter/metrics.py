"""The metrics of the exporter, besides those of every process."""

from chassis.metrics import Metric

SLOT = "the creation of the connector's slot"
RANKING = "the first ranking"

UP = Metric(
    "placar_server_up", "gauge", "1 or 0", "1 while the server answers queries; at 0 its values are absent", ("server",)
)
CONSUMER_LAG = Metric(
    "placar_consumer_lag_records",
    "gauge",
    "records",
    "Offsets between the commit of a consumer group (a unit, or the job `ranking`) and the end of the topic",
    ("group", "topic"),
    after="the first commit of the group",
)
CLICKHOUSE_METRIC = Metric(
    "placar_clickhouse_metric", "gauge", "as in ClickHouse", "system.metrics: current values", ("name",)
)
CLICKHOUSE_EVENTS = Metric(
    "placar_clickhouse_events_total",
    "counter",
    "events",
    "system.events: counts since ClickHouse started",
    ("name",),
    after="the first event of its kind",
)
CLICKHOUSE_ASYNCHRONOUS = Metric(
    "placar_clickhouse_asynchronous_metric",
    "gauge",
    "as in ClickHouse",
    "system.asynchronous_metrics: values that ClickHouse computes periodically",
    ("name",),
    after="the first computation, within 90 s of ClickHouse's start",
)
RANKING_AS_OF = Metric(
    "placar_ranking_as_of_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "When the newest served set of a ranking was built",
    ("ranking", "length"),
    after=RANKING,
)
RANKING_WATERMARK = Metric(
    "placar_ranking_watermark_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "The newest watermark of the served sets of a ranking",
    ("ranking", "length"),
    after=RANKING,
)
WAL_RETAINED = Metric(
    "placar_postgres_wal_retained_bytes",
    "gauge",
    "bytes",
    "Write-ahead log that Postgres keeps until the slot's consumer confirms it",
    ("slot",),
    after=SLOT,
)
SLOT_ACTIVE = Metric(
    "placar_postgres_slot_active", "gauge", "1 or 0", "1 while a consumer reads the slot", ("slot",), after=SLOT
)
CONNECTIONS = Metric(
    "placar_postgres_connections", "gauge", "connections", "Client connections to Postgres by state", ("state",)
)
CONNECTIONS_LIMIT = Metric(
    "placar_postgres_connections_limit", "gauge", "connections", "Most connections that Postgres accepts"
)
DATABASE_BYTES = Metric("placar_postgres_database_bytes", "gauge", "bytes", "Size of a database", ("database",))
DISK_FREE = Metric("placar_disk_free_bytes", "gauge", "bytes", "Free bytes of the disk that holds the data")
DISK_SIZE = Metric("placar_disk_size_bytes", "gauge", "bytes", "Size of the disk that holds the data")
METRICS = (
    UP, CONSUMER_LAG, CLICKHOUSE_METRIC, CLICKHOUSE_EVENTS, CLICKHOUSE_ASYNCHRONOUS, RANKING_AS_OF, RANKING_WATERMARK,
    WAL_RETAINED, SLOT_ACTIVE, CONNECTIONS, CONNECTIONS_LIMIT, DATABASE_BYTES, DISK_FREE, DISK_SIZE,
)  # fmt: skip
