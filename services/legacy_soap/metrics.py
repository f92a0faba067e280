"""The metrics of the legacy service, besides what every process has."""

from chassis.metrics import Metric

CALLS = Metric(
    "placar_soap_calls_total", "counter", "calls", "SOAP calls by operation", ("operation",), after="the first call"
)
MADE_UP = Metric("placar_made_up_sales_total", "counter", "sales", "Sales that the legacy service made up")
METRICS = (CALLS, MADE_UP)
