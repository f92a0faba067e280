"""The metrics of the legacy poller, besides what every process has."""

from chassis.metrics import LEDGER, Metric

CALLS = Metric(
    "placar_legacy_calls_total",
    "counter",
    "calls",
    "Calls of the SOAP service, answered or failed",
    ("outcome",),
    after="the first call",
)
METRICS = (*LEDGER, CALLS)
