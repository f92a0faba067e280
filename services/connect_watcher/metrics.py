"""The metrics of the connector's watcher, besides what every process has."""

from chassis.metrics import Metric

RUNNING = Metric(
    "placar_connector_running", "gauge", "1 or 0", "1 while the connector and its task run and its source is in order"
)
INTERVENTIONS = Metric(
    "placar_connector_interventions_total",
    "counter",
    "interventions",
    "Times the connector was created or restarted",
    ("action",),
    after="the first intervention",
)
METRICS = (RUNNING, INTERVENTIONS)
