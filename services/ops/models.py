"""What `GET /api/v1/ops` answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from chassis.panels import Measure

State = Literal["ok", "warning", "critical", "unknown"]
PanelState = Literal["ok", "warning", "critical", "unknown", "unjudged"]


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Point(_Answer):
    """The worst value of a panel, `age` seconds before `asOf`."""

    age: int
    value: float


class SeriesValue(_Answer):
    """One series of a panel, by the values of its labels; without a value where it has none now."""

    name: str
    value: float | None = None


class PanelHealth(_Answer):
    """One panel: its values and the worst state of its alerts.

    `state` is `unknown` where there is no value or Prometheus could not evaluate an alert, and `unjudged` where there
    is a value and no alert is about it. `points` has the worst value of each minute of the last hour, oldest first; in
    `series` the worst comes first.
    """

    group: str
    title: str
    meaning: str
    measure: Measure
    state: PanelState
    alerts: tuple[str, ...]
    value: float | None = None
    series: list[SeriesValue]
    points: list[Point]


class ActiveAlert(_Answer):
    """A firing or pending alert; `runbook` is the path of its section, where it has one."""

    name: str
    severity: str
    state: Literal["firing", "pending"]
    since: datetime
    summary: str
    runbook: str | None = None


class PipelineHealth(_Answer):
    """The health of the pipeline; `state` is the worst of all alerts, and of all panels that have one."""

    as_of: datetime
    state: State
    alerts: Annotated[list[ActiveAlert], Field(description="firing before pending, critical before warning")]
    panels: list[PanelHealth]
