"""The operations dashboard has the metrics of every process and none of its own."""

from chassis.metrics import Metric

METRICS: tuple[Metric, ...] = ()
