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
CONNECTIONS = Metric(
    "placar_live_connections",
    "gauge",
    "clients",
    "Connected clients of the live stream, by kind: websocket, sse",
    ("kind",),
    after="the first client",
)
FRAMES_SENT = Metric(
    "placar_live_frames_sent_total",
    "counter",
    "frames",
    "Frames sent to clients of the live stream, by kind of client and type",
    ("kind", "type"),
    after="the first client",
)
SENT_SECONDS = Metric(
    "placar_live_sent_seconds",
    "histogram",
    "seconds",
    "From asOf of a ranking until it was sent to a client of the live stream",
    ("kind",),
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, float("inf")),
    after="the first change that a client was sent",
)
SLOW_CLIENTS = Metric(
    "placar_live_slow_clients_total",
    "counter",
    "clients",
    "Clients of the live stream that were closed because they did not keep up",
    ("kind",),
    after="the first of them",
)
REJECTED = Metric(
    "placar_live_rejected_total",
    "counter",
    "connections",
    "Connections to the live stream that were rejected",
    ("reason",),
    after="the first of them",
)
RESUMES = Metric(
    "placar_live_resumes_total",
    "counter",
    "snapshots",
    "Snapshots that a client asked for with `since`, by whether they went on from there",
    ("resumed",),
    after="the first of them",
)
LAG = Metric(
    "placar_live_lag_records",
    "gauge",
    "records",
    "Revisions in rankings.* that the live stream has not applied yet",
    ("topic",),
    after="the first record",
)
LIVE_RECORDS = Metric(
    "placar_live_records_total",
    "counter",
    "records",
    "Records of rankings.* that the live stream read, by outcome: applied, older, empty, undecodable",
    ("topic", "outcome"),
    after="the first record",
)
METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    CONNECTIONS,
    FRAMES_SENT,
    SENT_SECONDS,
    SLOW_CLIENTS,
    REJECTED,
    RESUMES,
    LAG,
    LIVE_RECORDS,
)
