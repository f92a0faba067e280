"""The metrics of the webhook receiver, besides what every process has."""

from chassis.metrics import LEDGER, Metric

REQUESTS = Metric(
    "placar_webhook_requests_total",
    "counter",
    "requests",
    "Requests by provider and outcome: accepted, dead_letter, unauthorized, unsupported, malformed, too_large, "
    "overloaded, unavailable, unconfigured, disconnected",
    ("provider", "outcome"),
    after="the first request",
)
ACKNOWLEDGED_SECONDS = Metric(
    "placar_webhook_acknowledged_seconds",
    "histogram",
    "seconds",
    "From the whole request until the broker had acknowledged all of its records",
    ("provider",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, float("inf")),
    after="the first accepted request",
)
REQUESTS_IN_FLIGHT = Metric(
    "placar_webhook_requests_in_flight", "gauge", "requests", "Requests that have no answer yet"
)
BYTES_IN_FLIGHT = Metric(
    "placar_webhook_in_flight_bytes",
    "gauge",
    "bytes",
    "Bodies of requests without an answer, and records that the broker has not acknowledged",
)
METRICS = (*LEDGER, REQUESTS, ACKNOWLEDGED_SECONDS, REQUESTS_IN_FLIGHT, BYTES_IN_FLIGHT)
