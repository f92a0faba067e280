"""`python -m deploy.metrics [--check]`: docs/metrics.md, generated from the declarations of every unit."""

import importlib
from collections.abc import Sequence

from chassis.metrics import EVERY, Metric
from deploy import generated
from deploy.native.processes import UNITS
from deploy.native.settings import ROOT

PAGE = ROOT / "docs" / "metrics.md"
HEAD = """\
# Metrics

Generated from the declarations by `task docs:metrics`; tests compare it with them, and them with what a running
pipeline exports. Every service serves its metrics at `/metrics` of its operations port, with the label `unit`.
The manuals of Flink, Kafka, Connect, the registry and the S3 server explain their own metrics; `deploy/kafka/jmx.yml`,
`deploy/connect/jmx.yml` and `deploy/flink/jmx.yml` select those that are collected.
"""


def declared(unit: str) -> tuple[Metric, ...]:
    """The metrics of a unit, including those of every process."""
    package = UNITS[unit][0]  # the streams services have the same metrics
    module = importlib.import_module("chassis.stream" if package.startswith("streams.") else f"{package}.metrics")
    return (*EVERY, *module.METRICS)


def row(metric: Metric, units: Sequence[str]) -> str:
    """A metric as a row of the table."""
    of = "all" if len(units) == len(UNITS) else ", ".join(units)
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    text = metric.meaning + (f". From {metric.after} on" if metric.after else "")
    bounds = ", ".join(f"{bound:g}" for bound in metric.buckets if bound != float("inf"))
    text += f". Buckets: {bounds}" if bounds else ""
    return f"| `{metric.name}` | {metric.kind} | {metric.measure} | {labels} | {text} | {of} |"


def page() -> str:
    """The whole document."""
    units: dict[Metric, list[str]] = {}
    for unit in UNITS:
        for metric in declared(unit):
            units.setdefault(metric, []).append(unit)
    names = [metric.name for metric in units]
    if ambiguous := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"declared differently by several units: {', '.join(ambiguous)}")
    rows = [row(metric, of) for metric, of in sorted(units.items(), key=lambda pair: pair[0].name)]
    table = ["| name | kind | unit | labels | meaning | exported by |", "|---|---|---|---|---|---|", *rows]
    return f"{HEAD}\n" + "\n".join(table) + "\n"


if __name__ == "__main__":
    raise SystemExit(generated.main({PAGE: page()}, "docs:metrics"))
