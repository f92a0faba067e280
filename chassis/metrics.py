"""Prometheus metrics of a process: each declared once, labelled with the unit, rendered on the operations port.

Metrics of every process are declared here, those of a unit in its `metrics.py`; docs/metrics.md is generated from the
declarations (deploy/metrics.py).
"""

from bisect import bisect_right
from collections import Counter as Counts
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aioprometheus import histogram
from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.metricdict import MetricDict
from aioprometheus.renderer import render

Outcome = Literal["received", "published", "dead_letter", "ignored"]
Series = list[tuple[dict[str, str], float]]
"""The values of a metric by their labels."""
Kind = Literal["counter", "gauge", "histogram"]

COLLECTORS: Mapping[Kind, type] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


@dataclass(frozen=True)
class Metric:
    """A declaration. Every series also carries the label `unit`.

    `measure` is what the value counts or the unit it is in. `buckets` are a histogram's upper bounds in that unit.
    `after` names the event before which there is no series; empty: there is one from the start.
    """

    name: str
    kind: Kind
    measure: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    after: str = ""


CONNECTION_FAILURES = Metric(
    "placar_connection_failures_total",
    "counter",
    "attempts",
    "Failed attempts to reach a server, first ones and reconnects",
    ("server",),
    after="a server that did not answer",
)
LINEAGE_EVENTS = Metric(
    "placar_lineage_events_total",
    "counter",
    "events",
    "OpenLineage events by outcome: sent, rejected by the server, dropped because it was unavailable for too long",
    ("outcome",),
)
LINEAGE_FAILURES = Metric(
    "placar_lineage_failures_total", "counter", "attempts", "Failed attempts to send an OpenLineage event"
)
READY = Metric("placar_ready", "gauge", "1 or 0", "1 while the process is ready: /readyz answers 200")
WAITING = Metric(
    "placar_waiting",
    "gauge",
    "1 or 0",
    "1 while the process is not ready because of this need; /readyz has the reason",
    ("need",),
)
EVERY = (READY, WAITING, CONNECTION_FAILURES, LINEAGE_EVENTS, LINEAGE_FAILURES)

RECORDS = Metric(
    "placar_records_total",
    "counter",
    "records",
    "Records by topic and outcome: received = published + dead_letter + ignored",
    ("topic", "outcome"),
    after="the first record",
)
IN_FLIGHT = Metric(
    "placar_records_in_flight",
    "gauge",
    "records",
    "Records being processed",
    ("topic",),
    after="the first batch of a consumer",
)
UNACCOUNTED = Metric(
    "placar_records_unaccounted",
    "gauge",
    "records",
    "Received, not in flight, and without an outcome; anything but 0 is a defect",
    ("topic",),
    after="the first record",
)
DEAD_LETTERS = Metric(
    "placar_dead_letters_total",
    "counter",
    "records",
    "Records sent to sales.dlq, by their topic and reason",
    ("topic", "reason"),
    after="the first dead letter",
)
LEDGER = (RECORDS, IN_FLIGHT, UNACCOUNTED, DEAD_LETTERS)


class Metrics:
    """The metrics of one process; those `declared` exist from the start, some of them without a value."""

    def __init__(self, unit: str, declared: Collection[Metric] = ()) -> None:
        self._registry = Registry()
        self._labels = {"unit": unit}
        self._collectors: dict[Metric, Any] = {}
        self._records: Counts[tuple[str, str]] = Counts()
        for metric in declared:
            self[metric]

    def __getitem__(self, metric: Metric) -> Any:
        """The collector of a declaration: `inc`, `add` a counter, `set` a gauge, `observe` a value."""
        if metric not in self._collectors:
            more = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
            collector = COLLECTORS[metric.kind](
                metric.name, metric.meaning, const_labels=self._labels, registry=self._registry, **more
            )
            if metric.kind == "counter" and not metric.labels:
                collector.set({}, 0)
            self._collectors[metric] = collector
        return self._collectors[metric]

    def observe(self, metric: Metric, labels: dict[str, str], values: Collection[float]) -> None:
        """Observe many values of a histogram at once, much faster than one after the other."""
        if not values:
            return
        collector = self[metric]
        try:
            series: histogram.Histogram = collector.get_value(labels)
        except KeyError:
            series = histogram.Histogram(*metric.buckets)
            collector.set_value(labels, series)
        ordered = sorted(values)
        for bound in series.buckets:
            series.buckets[bound] += bisect_right(ordered, bound)
        series.sum += sum(ordered)
        series.observations += len(ordered)

    def replace(self, metric: Metric, series: Series) -> None:
        """Give the metric these series and no others: for values that are read from another server."""
        collector = self[metric]
        collector.values = MetricDict()  # type: ignore[no-untyped-call]  # aioprometheus has no types for it
        for labels, value in series:
            collector.set(labels, value)

    def record(self, topic: str, outcome: Outcome, count: int = 1) -> None:
        """Count records of `topic` with this outcome."""
        self[RECORDS].add({"topic": topic, "outcome": outcome}, count)
        self._records[topic, outcome] += count
        self._export_unaccounted(topic)

    def recorded(self, topic: str, outcome: str) -> int:
        """How many records of `topic` have been counted with this outcome."""
        return self._records[topic, outcome]

    def in_flight(self, topic: str, change: int) -> None:
        """Add `change` (negative when they are done) to the records of `topic` that are being processed.

        Counted where processing begins and ends, apart from the outcomes, so that `placar_records_unaccounted` shows a
        record that has none. A batch that fails ends the process, and its counters with it.
        """
        self._records[topic, "in_flight"] += change
        self[IN_FLIGHT].set({"topic": topic}, self._records[topic, "in_flight"])
        self._export_unaccounted(topic)

    def _export_unaccounted(self, topic: str) -> None:
        done = sum(self._records[topic, state] for state in ("published", "dead_letter", "ignored", "in_flight"))
        self[UNACCOUNTED].set({"topic": topic}, self._records[topic, "received"] - done)

    def dead_letter(self, topic: str, reason: str) -> None:
        """Count one record of `topic` that went to `sales.dlq`."""
        self[DEAD_LETTERS].inc({"topic": topic, "reason": reason})

    def connection_failed(self, server: str) -> None:
        """Count one failed attempt to reach `server`."""
        self[CONNECTION_FAILURES].inc({"server": server})

    def render(self, accept: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        """The exposition text and its HTTP headers, in the format that `accept` (Accept header values) asks for."""
        content, headers = render(self._registry, list(accept))
        return content, dict(headers)
