"""The metrics of the lineage service, besides what every process has."""

from chassis.metrics import Metric

TAKEN = Metric(
    "placar_lineage_taken_total",
    "counter",
    "events",
    "OpenLineage events that came, by what became of them: taken, known (sent again), rejected",
    ("outcome",),
    after="the first event",
)
METRICS = (TAKEN,)
