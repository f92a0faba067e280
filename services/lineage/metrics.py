"""The metrics of the lineage service, besides those of every process."""

from chassis.metrics import Metric

RECEIVED = Metric(
    "placar_lineage_received_total",
    "counter",
    "events",
    "OpenLineage events received, by outcome: stored, repeated (received before), rejected",
    ("outcome",),
    after="the first event",
)
METRICS = (RECEIVED,)
