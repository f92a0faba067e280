"""The metrics of the API, besides what every process has."""

from chassis.metrics import Metric

REQUESTS = Metric(
    "placar_http_requests_total",
    "counter",
    "requests",
    "Requests by route template (`unmatched`: no route), method and status",
    ("route", "method", "status"),
    after="the first request",
)
REQUEST_SECONDS = Metric(
    "placar_http_request_seconds",
    "histogram",
    "seconds",
    "Time to the whole answer, by route template",
    ("route",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, float("inf")),
    after="the first request",
)
METRICS = (REQUESTS, REQUEST_SECONDS)
