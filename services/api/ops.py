"""The health of the pipeline: every panel's values, judged by the alerts that are about it. Unknown is never ok."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from services.api.models import Ops, OpsAlert, OpsPanel, OpsPoint, OpsSeries, OpsState, PanelState
from services.api.panels import GROUPS, Panel
from services.api.prometheus import Prometheus, PrometheusAwayError, Rule, Series

KEPT_S = 5.0
LIMIT_S = 5.0
LENGTH_S = 3600
STEP_S = 60
RUNBOOK = "/ops/runbook"

_WORST_FIRST: Sequence[OpsState] = ("critical", "warning", "unknown", "ok")


def worst(states: Collection[OpsState]) -> OpsState:
    """The worst of the states; `unknown` where there is none."""
    return min(states, key=_WORST_FIRST.index, default="unknown")


def state_of(rule: Rule) -> OpsState:
    """What an alert says: critical or warning when it fires, warning when its cause is there and may go again."""
    if any(alert.state == "firing" for alert in rule.alerts):
        return "critical" if rule.labels.get("severity") == "critical" else "warning"
    if rule.alerts:
        return "warning"
    return "ok" if rule.health == "ok" else "unknown"


def _with_value(judged: OpsState, has_value: bool, has_alerts: bool) -> PanelState:
    if judged in ("critical", "warning"):
        return judged
    if not has_value:
        return "unknown"
    return judged if has_alerts else "unjudged"


def panel_of(group: str, panel: Panel, found: Sequence[Series], end: float, states: Mapping[str, OpsState]) -> OpsPanel:
    """What a panel shows at `end` (seconds since 1970); `states` are those of the alerts by name."""
    pick, sign = (max, -1) if panel.worst == "highest" else (min, 1)
    series = []
    by_age: dict[int, list[float]] = {}
    for one in found:
        by_its_age = {round(end - at): float(f"{known:.6g}") for at, known in one.known().items()}
        for age, known in by_its_age.items():
            by_age.setdefault(age, []).append(known)
        name = " ".join(filter(None, (one.metric.get(label, "") for label in panel.labels)))
        series.append(OpsSeries(name=name, value=by_its_age.get(0)))
    series.sort(key=lambda one: (one.value is None, sign * (one.value or 0), one.name))
    points = [OpsPoint(age=age, value=pick(values)) for age, values in sorted(by_age.items(), reverse=True)]
    value = series[0].value if series else None
    judged = worst([states.get(alert, "unknown") for alert in panel.alerts])
    return OpsPanel(
        group=group,
        title=panel.title,
        meaning=panel.meaning,
        measure=panel.measure,
        state=_with_value(judged, value is not None, bool(panel.alerts)),
        alerts=list(panel.alerts),
        value=value,
        series=series,
        points=points,
    )


def alerts_of(rules: Sequence[Rule], sections: Collection[str]) -> list[OpsAlert]:
    """What fires or is about to, the worst first; `sections` are those of the runbook."""
    active = [
        OpsAlert(
            name=rule.name,
            severity=rule.labels.get("severity", ""),
            state=alert.state,
            since=alert.since,
            summary=alert.annotations.get("summary", ""),
            runbook=f"{RUNBOOK}#{rule.name.lower()}" if rule.name.lower() in sections else None,
        )
        for rule in rules
        for alert in rule.alerts
    ]
    return sorted(active, key=lambda one: (one.state != "firing", one.severity != "critical", one.since))


class Watch:
    """Asks Prometheus at most every KEPT_S seconds, however many ask; a failure is kept as long."""

    def __init__(self, prometheus: Prometheus, sections: Collection[str]) -> None:
        self._prometheus = prometheus
        self._sections = sections
        self._lock = asyncio.Lock()
        self._known: tuple[float, Ops | PrometheusAwayError] | None = None

    async def ops(self) -> Ops:
        """The health of the pipeline.

        Raises:
            PrometheusAwayError: it does not answer, or not within LIMIT_S seconds.
        """
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > KEPT_S:
                found = await self._look()
                self._known = (time.monotonic(), found)
            found = self._known[1]
        if isinstance(found, PrometheusAwayError):
            raise PrometheusAwayError(*found.args)
        return found

    async def _look(self) -> Ops | PrometheusAwayError:
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._ask()
        except TimeoutError:
            return PrometheusAwayError(f"no answer in {LIMIT_S:g} s")
        except PrometheusAwayError as error:
            return error

    async def _ask(self) -> Ops:
        now = datetime.now(UTC)
        end = round(now.timestamp(), 3)
        rules = await self._prometheus.rules()
        states: dict[str, OpsState] = {}
        for rule in rules:
            states[rule.name] = worst([state_of(rule), states.get(rule.name, "ok")])
        panels = [  # one question after the other, so that a page that is left open is no load
            panel_of(group, panel, await self._prometheus.range(panel.query, end, LENGTH_S, STEP_S), end, states)
            for group, of_group in GROUPS.items()
            for panel in of_group
        ]
        judged: list[OpsState] = [panel.state for panel in panels if panel.alerts and panel.state != "unjudged"]
        return Ops(
            as_of=now, state=worst([*states.values(), *judged]), alerts=alerts_of(rules, self._sections), panels=panels
        )
