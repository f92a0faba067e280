"""The unit `legacy` without its metrics, for `task bench:streams`: what they cost is the difference."""

import os
from collections.abc import Collection
from typing import Any

from chassis import stream, unit
from chassis.metrics import Metric, Metrics, Outcome, Series
from streams.legacy.agents import agent
from streams.legacy.settings import Settings


class Nothing:
    """Stands for any collector."""

    def inc(self, *_: object) -> None:
        """Count nothing."""

    add = set = observe = inc


class Unmeasured(Metrics):
    """Metrics that hold no value."""

    def __getitem__(self, _: Metric) -> Any:
        """A collector of nothing."""
        return Nothing()

    def observe(self, metric: Metric, labels: dict[str, str], values: Collection[float]) -> None:
        """Enter nothing."""

    def replace(self, metric: Metric, series: Series) -> None:
        """Enter nothing."""

    def record(self, topic: str, outcome: Outcome, count: int = 1) -> None:
        """Enter nothing."""

    def in_flight(self, topic: str, change: int) -> None:
        """Enter nothing."""


if __name__ == "__main__":
    os.environ["LEGACY_OPS_PORT"] = os.environ["UNMEASURED_OPS_PORT"]
    unit.Metrics = Unmeasured  # type: ignore[attr-defined]
    stream.Worker.observe = lambda *_: None  # type: ignore[method-assign]
    stream.run_stream("legacy", Settings, agent)
