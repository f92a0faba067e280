"""The panels of the pipeline's dashboards, read from deploy/grafana/panels.yaml."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

FILE = Path(__file__).parents[1] / "deploy" / "grafana" / "panels.yaml"
Measure = Literal[
    "up", "alerts", "seconds", "records", "records/s", "rows/s", "requests/s", "share", "bytes", "clients",
    "checkpoints", "attempts", "events",
]  # fmt: skip
"""What a value is. `up` is 1 or 0; `share` is a fraction of 1."""


class Panel(BaseModel):
    """One query to Prometheus.

    A series is named by the values of its `labels`. `alerts` are the alerts of deploy/prometheus/alerts.yml about it.
    `worst` says which of its values an operator should see first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    meaning: str
    measure: Measure
    query: str
    labels: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    worst: Literal["highest", "lowest"] = "highest"


@cache
def groups() -> Mapping[str, tuple[Panel, ...]]:
    """The panels by their group, in the order in which they are shown.

    Raises:
        OSError | pydantic.ValidationError: the file is missing, or a panel has a wrong field.
    """
    return TypeAdapter(dict[str, tuple[Panel, ...]]).validate_python(yaml.safe_load(FILE.read_text("utf-8")))
