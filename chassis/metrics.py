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
        self._in_hand = self.gauge("placar_records_in_hand", "Records being worked on, by topic")
        self._unaccounted = self.gauge(
            "placar_records_unaccounted", "By topic: received, not in hand, and without an outcome; never other than 0"
        )
        self._entered: dict[tuple[str, str], int] = {}
        self._open: dict[str, int] = {}
        self._held: dict[str, int] = {}
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
        self._entered[topic, outcome] = self.recorded(topic, outcome) + count
        self._open[topic] = self._open.get(topic, 0) + (count if outcome == "received" else -count)
        self._check(topic)

    def recorded(self, topic: str, outcome: str) -> int:
        """How many records of `topic` have been entered with this outcome."""
        return self._entered.get((topic, outcome), 0)

    def in_hand(self, topic: str, change: int) -> None:
        """So many more records of `topic` are being worked on, or fewer: those have their outcome now.

        Counted where the work begins and ends, apart from the outcomes, so that a record that lost its way between is
        seen in `placar_records_unaccounted`. A batch that fails ends the process, and its counters with it.
        """
        self._held[topic] = self._held.get(topic, 0) + change
        self._in_hand.set({"topic": topic}, self._held[topic])
        self._check(topic)

    def _check(self, topic: str) -> None:
        self._unaccounted.set({"topic": topic}, self._open.get(topic, 0) - self._held.get(topic, 0))

    def connection_failed(self, server: str) -> None:
        """Count one failed attempt to reach `server`."""
        self._unreachable.inc({"server": server})

    def render(self, accept: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        """The exposition text and its HTTP headers, in the format that `accept` (Accept header values) asks for."""
        content, headers = render(self._registry, list(accept))
        return content, dict(headers)
