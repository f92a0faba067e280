"""The pipeline's health: the values of every panel, judged by the alerts about it. Unknown is never ok."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from chassis.panels import Panel, groups
from services.ops.models import ActiveAlert, PanelHealth, PanelState, PipelineHealth, Point, SeriesValue, State
from services.ops.prometheus import Prometheus, PrometheusUnavailableError, Rule, Series

CACHE_S = 5.0
LIMIT_S = 5.0
LENGTH_S = 3600
STEP_S = 60

_WORST_FIRST: Sequence[State] = ("critical", "warning", "unknown", "ok")


def worst(states: Collection[State]) -> State:
    """The worst of the states; `unknown` where there is none."""
    return min(states, key=_WORST_FIRST.index, default="unknown")


def rule_state(rule: Rule) -> State:
    """The state of an alerting rule: its severity while it fires, warning while it is pending."""
    if any(alert.state == "firing" for alert in rule.alerts):
        return "critical" if rule.labels.get("severity") == "critical" else "warning"
    if rule.alerts:
        return "warning"
    return "ok" if rule.health == "ok" else "unknown"


def panel_health(
    group: str, panel: Panel, result: Sequence[Series], end: float, states: Mapping[str, State]
) -> PanelHealth:
    """A panel at `end` (seconds since 1970); `states` are those of the alerts by name."""
    pick, sign = (max, -1) if panel.worst == "highest" else (min, 1)
    series = []
    by_age: dict[int, list[float]] = {}
    for one in result:
        values = {round(end - at): float(f"{value:.6g}") for at, value in one.finite().items()}
        for age, number in values.items():
            by_age.setdefault(age, []).append(number)
        name = " ".join(filter(None, (one.metric.get(label, "") for label in panel.labels)))
        series.append(SeriesValue(name=name, value=values.get(0)))
    series.sort(key=lambda one: (one.value is None, sign * (one.value or 0), one.name))
    value = series[0].value if series else None
    judged = worst([states.get(alert, "unknown") for alert in panel.alerts])
    state: PanelState = judged if panel.alerts else "unjudged"
    if value is None and judged not in ("critical", "warning"):
        state = "unknown"
    return PanelHealth(
        group=group,
        title=panel.title,
        meaning=panel.meaning,
        measure=panel.measure,
        state=state,
        alerts=panel.alerts,
        value=value,
        series=series,
        points=[Point(age=age, value=pick(values)) for age, values in sorted(by_age.items(), reverse=True)],
    )


def active_alerts(rules: Sequence[Rule], sections: Collection[str]) -> list[ActiveAlert]:
    """The firing and pending alerts, the worst first; `sections` are those of the runbook."""
    active = [
        ActiveAlert(
            name=rule.name,
            severity=rule.labels.get("severity", ""),
            state=alert.state,
            since=alert.since,
            summary=alert.annotations.get("summary", ""),
            runbook=f"runbook#{rule.name.lower()}" if rule.name.lower() in sections else None,
        )
        for rule in rules
        for alert in rule.alerts
    ]
    return sorted(active, key=lambda one: (one.state != "firing", one.severity != "critical", one.since))


class HealthCache:
    """The health of the pipeline; Prometheus is queried at most every CACHE_S seconds, and a failure is cached too."""

    def __init__(self, prometheus: Prometheus, sections: Collection[str]) -> None:
        self._prometheus = prometheus
        self._sections = sections
        self._lock = asyncio.Lock()
        self._cached: tuple[float, PipelineHealth | str] | None = None

    async def get(self) -> PipelineHealth | str:
        """The health, at most CACHE_S seconds old; or why Prometheus gives none within LIMIT_S seconds."""
        async with self._lock:
            if self._cached is None or time.monotonic() - self._cached[0] > CACHE_S:
                health: PipelineHealth | str
                try:
                    async with asyncio.timeout(LIMIT_S):
                        health = await self._query()
                except TimeoutError:
                    health = f"no answer in {LIMIT_S:g} s"
                except PrometheusUnavailableError as error:
                    health = str(error)
                self._cached = (time.monotonic(), health)
            return self._cached[1]

    async def _query(self) -> PipelineHealth:
        now = datetime.now(UTC)
        end = round(now.timestamp(), 3)
        rules = await self._prometheus.rules()
        states: dict[str, State] = {}
        for rule in rules:
            states[rule.name] = worst([rule_state(rule), states.get(rule.name, "ok")])
        panels = [  # one query after the other, so that a page that is left open is no load
            panel_health(group, panel, await self._prometheus.range(panel.query, end, LENGTH_S, STEP_S), end, states)
            for group, of_group in groups().items()
            for panel in of_group
        ]
        judged: list[State] = [panel.state for panel in panels if panel.alerts and panel.state != "unjudged"]
        alerts = active_alerts(rules, self._sections)
        return PipelineHealth(as_of=now, state=worst([*states.values(), *judged]), alerts=alerts, panels=panels)
