"""The metrics of the sink, besides what every process has."""

from chassis import batches
from chassis.metrics import Metric

ROWS = Metric("placar_sink_rows_total", "counter", "rows", "Rows inserted", ("table",), after="the first insert")
DELAY = Metric(
    "placar_sink_delay_seconds",
    "histogram",
    "seconds",
    "From a record's timestamp in its topic to its confirmed insert, which is when the API serves it",
    ("topic",),
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, float("inf")),
    after="the first insert",
)
BATCH_RECORDS = Metric(
    "placar_sink_batch_records",
    "histogram",
    "records",
    "Records written together",
    ("topic",),
    (1, 10, 100, 250, 500, 1000, 2000),
    after="the first insert",
)
RANKING_DELAY = Metric(
    "placar_ranking_delay_seconds",
    "histogram",
    "seconds",
    "By how much a provisional ranking's watermark was behind the clock when it was built: 5 s, the way from "
    "sales.unified through the job, and how long the source had nothing newer",
    ("topic",),
    (5.5, 6.0, 7.0, 8.0, 10.0, 15.0, 30.0, 60.0, 300.0, float("inf")),
    after="the first provisional ranking",
)
METRICS = (*batches.METRICS, ROWS, DELAY, BATCH_RECORDS, RANKING_DELAY)
