"""What the pipeline's health is read from, in one table: for the page `/ops` and for Grafana (deploy/dashboards.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Measure = Literal[
    "up", "alerts", "seconds", "records", "records/s", "rows/s", "requests/s", "share", "bytes", "clients",
    "checkpoints", "attempts", "events",
]  # fmt: skip
"""What a value is. `up` is 1 or 0; `share` is a part of 1."""


@dataclass(frozen=True)
class Panel:
    """One question to Prometheus.

    A series is named by the values of its `labels`. `alerts` are those of deploy/prometheus/alerts.yml that judge it.
    `worst` says which of its values an operator should see first.
    """

    title: str
    meaning: str
    measure: Measure
    query: str
    labels: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    worst: Literal["highest", "lowest"] = "highest"


# a zero is known only from those who count
_ZERO_WITH_API = 'or on () 0 * min(up{instance="api"} == 1)'
_ZERO_WITH_UNITS = 'or on () 0 * count(up{job="unit"} == 1)'


def _lately(counter: str, labels: str) -> str:
    """What a counter has counted in five minutes; 0 where it has counted nothing yet and units are there to count.

    `increase` does not see the value that a series begins with, which for a rare event is all there is; so a series
    that is younger than five minutes counts whole.
    """
    return (
        f"sum by ({labels}) (increase({counter}[5m]) and {counter} offset 5m or {counter} unless {counter} offset 5m)"
        f" {_ZERO_WITH_UNITS}"
    )


GROUPS: Mapping[str, tuple[Panel, ...]] = {
    "What runs": (
        Panel(
            "Alerts that fire",
            "Each alert has a section in the runbook",
            "alerts",
            'count by (alertname) (ALERTS{alertstate="firing"}) or on () vector(0)',
            ("alertname",),
        ),
        Panel(
            "Targets",
            "Processes that answer Prometheus",
            "up",
            "up",
            ("instance",),
            ("TargetDown",),
            worst="lowest",
        ),
        Panel(
            "Servers",
            "Servers that answer what is asked of them, and not only the door",
            "up",
            "min by (server) (placar_server_up)",
            ("server",),
            ("ServerDown",),
            worst="lowest",
        ),
        Panel(
            "Connector",
            "The Debezium connector and its task run, and their source is in order",
            "up",
            "min(placar_connector_running)",
            alerts=("ConnectorNotRunning",),
            worst="lowest",
        ),
        Panel(
            "Ranking job",
            "Every task of the ranking job runs",
            "up",
            "min(placar_flink_job_running)",
            alerts=("FlinkJobNotRunning",),
            worst="lowest",
        ),
    ),
    "The way of a sale": (
        Panel(
            "Source to sales.unified, p95",
            "From the commit, upload or call until the sale is in sales.unified; in 19 of 20 cases less than this",
            "seconds",
            "topic:placar_source_delay_seconds:p95_5m",
            ("topic",),
        ),
        Panel(
            "sales.unified to ranking, p95",
            "By how much a provisional ranking's watermark was behind the clock: 5 s of it are meant",
            "seconds",
            "topic:placar_ranking_delay_seconds:p95_5m",
            ("topic",),
        ),
        Panel(
            "Ranking to served, p95",
            "From the ranking's record in its topic until ClickHouse has it, from which the API serves it",
            "seconds",
            "topic:placar_sink_delay_seconds:p95_5m",
            ("topic",),
        ),
        Panel(
            "Watermark lag",
            "How long ago the newest sale of each source happened, and the 5 s of the watermark",
            "seconds",
            "topic:placar_source_watermark_lag_seconds:max",
            ("topic",),
        ),
        Panel(
            "Age of the rankings",
            "How long ago the newest set that is served was built; without sales it only grows",
            "seconds",
            "ranking:placar_ranking_age_seconds:max",
            ("ranking", "length"),
            ("RankingStale",),
        ),
    ),
    "Records": (
        Panel(
            "Consumer lag",
            "Records that wait in a topic for a unit or the ranking job",
            "records",
            "sum by (group, topic) (placar_consumer_lag_records)",
            ("group", "topic"),
            ("ConsumerLag",),
        ),
        Panel(
            "Records by outcome",
            "What the units did with what they received",
            "records/s",
            "sum by (unit, outcome) (topic_outcome:placar_records:rate5m)",
            ("unit", "outcome"),
        ),
        Panel(
            "Batch size, p95",
            "Records that are acknowledged or written together",
            "records",
            "histogram_quantile(0.95, sum by (unit, le) "
            "(rate(placar_batch_records_bucket[5m]) or rate(placar_sink_batch_records_bucket[5m])))",
            ("unit",),
        ),
        Panel(
            "Dead letters, 5 min",
            "Records that could not be used, by topic and reason",
            "records",
            _lately("placar_dead_letters_total", "topic, reason"),
            ("topic", "reason"),
            ("DeadLetterRate",),
        ),
        Panel(
            "Unaccounted records",
            "Received, not in hand, and without an outcome; anything but 0 is a defect",
            "records",
            "sum by (unit, topic) (abs(placar_records_unaccounted))",
            ("unit", "topic"),
            ("RecordsUnaccounted",),
        ),
    ),
    "Flink": (
        Panel(
            "Throughput",
            "Records that the tasks of the ranking job take in",
            "records/s",
            "sum by (job_name) (flink_taskmanager_job_task_numRecordsInPerSecond)",
            ("job_name",),
        ),
        Panel(
            "Checkpoint duration",
            "How long the newest checkpoint took",
            "seconds",
            "max by (job_name) (flink_jobmanager_job_lastCheckpointDuration >= 0) / 1000",
            ("job_name",),
            ("CheckpointSlow",),
        ),
        Panel(
            "Failed checkpoints, 5 min",
            "The job goes on; after a crash it would repeat everything since its last good checkpoint",
            "checkpoints",
            "sum by (job_name) (increase(flink_jobmanager_job_numberOfFailedCheckpoints[5m]))",
            ("job_name",),
            ("CheckpointFailing",),
        ),
    ),
    "Serving": (
        Panel(
            "Inserted into ClickHouse",
            "Rows by table",
            "rows/s",
            "sum by (table) (rate(placar_sink_rows_total[5m]))",
            ("table",),
        ),
        Panel(
            "API p95",
            "19 of 20 requests are answered faster than this; 0 where there was none for five minutes",
            "seconds",
            f"api:placar_http_request_seconds:p95_5m >= 0 {_ZERO_WITH_API}",
            alerts=("ApiSlow",),
        ),
        Panel(
            "API error rate",
            "The share of the requests that is answered with 5xx; 0 where there was none for five minutes",
            "share",
            f"api:placar_http_requests_5xx:ratio_rate5m >= 0 {_ZERO_WITH_API}",
            alerts=("ApiFailing",),
        ),
        Panel(
            "API requests",
            "By status of the answer",
            "requests/s",
            "sum by (status) (rate(placar_http_requests_total[5m]))",
            ("status",),
        ),
        Panel(
            "Live clients",
            "Connected clients of the live stream",
            "clients",
            f"sum by (kind) (placar_live_connections) {_ZERO_WITH_API}",
            ("kind",),
        ),
    ),
    "Room and connections": (
        Panel(
            "WAL retained",
            "The log that Postgres keeps because the slot's reader has not confirmed it",
            "bytes",
            "max by (slot) (placar_postgres_wal_retained_bytes)",
            ("slot",),
            ("WalRetained",),
        ),
        Panel(
            "Disk free",
            "Of the disk that holds the data",
            "share",
            "min(placar_disk_free_bytes / placar_disk_size_bytes)",
            alerts=("DiskFull",),
            worst="lowest",
        ),
        Panel(
            "Failed connections, 5 min",
            "Attempts of a unit to reach a server that did not succeed, reconnects among them",
            "attempts",
            _lately("placar_connection_failures_total", "unit, server"),
            ("unit", "server"),
        ),
        Panel(
            "Lost lineage, 5 min",
            "Events that were dropped or rejected; the data itself is not concerned",
            "events",
            _lately('placar_lineage_events_total{outcome=~"dropped|rejected"}', "unit"),
            ("unit",),
            ("LineageLost",),
        ),
    ),
}
"""The panels by the group in which they are shown; the first groups tell the most."""
