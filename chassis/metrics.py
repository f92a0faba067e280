"""Prometheus metrics of a process: declared once, labelled with the unit, rendered on the operations port."""

from collections.abc import Sequence
from typing import Literal

from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.renderer import render

Outcome = Literal["received", "published", "dead_letter", "ignored"]


class Metrics:
    """The metrics of one process. Every series carries `unit`; names begin with `placar_`."""

    def __init__(self, unit: str) -> None:
        self._registry = Registry()
        self._labels = {"unit": unit}
        self._records = self.counter(
            "placar_records_total", "Records by topic and outcome; received = the sum of the others"
        )
        self._unreachable = self.counter(
            "placar_connection_failures_total", "Failed attempts to reach a server, by server"
        )

    def counter(self, name: str, meaning: str) -> Counter:
        """A value that only grows."""
        return Counter(name, meaning, const_labels=self._labels, registry=self._registry)

    def gauge(self, name: str, meaning: str) -> Gauge:
        """A value that goes up and down."""
        return Gauge(name, meaning, const_labels=self._labels, registry=self._registry)

    def histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        """A distribution; `buckets` are upper bounds in the metric's unit."""
        return Histogram(name, meaning, const_labels=self._labels, registry=self._registry, buckets=buckets)

    def record(self, topic: str, outcome: Outcome, count: int = 1) -> None:
        """Enter `count` records of `topic` into the ledger."""
        self._records.add({"topic": topic, "outcome": outcome}, count)

    def connection_failed(self, server: str) -> None:
        """Count one failed attempt to reach `server`."""
        self._unreachable.inc({"server": server})

    def render(self, accept: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        """The exposition text and its HTTP headers, in the format that `accept` (Accept header values) asks for."""
        content, headers = render(self._registry, list(accept))
        return content, dict(headers)
