"""The health of the pipeline over HTTP, with a Prometheus in memory: states, values, and what is not known."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from services.api import ops, runbook
from services.api.panels import GROUPS
from tests.e2e.scrape import rules
from tests.unit.test_api_http import api, assert_problem

PANELS = {panel.title: panel for panels in GROUPS.values() for panel in panels}
HOUR_AGO = 3600


def rule(name: str, *states: str, severity: str = "critical", health: str = "ok") -> dict[str, Any]:
    """An alerting rule as Prometheus tells it, with an alert in each of the states."""
    alerts = [
        {
            "labels": {"alertname": name, "severity": severity},
            "annotations": {"summary": f"{name} is so", "runbook_url": f"docs/runbook.md#{name.lower()}"},
            "state": state,
            "activeAt": "2026-02-19T10:00:00.123456789Z",
            "value": "1e+00",
        }
        for state in states
    ]
    return {"name": name, "labels": {"severity": severity}, "alerts": alerts, "health": health, "type": "alerting"}


ALL_QUIET = {one["alert"]: rule(one["alert"]) for one in rules("alerts.yml")}


@dataclass
class FakePrometheus:
    """Answers each panel with its `series`: labels and values by age in seconds; or whatever `answer` says."""

    rules: Mapping[str, Any] = field(default_factory=lambda: ALL_QUIET)
    series: Mapping[str, list[tuple[dict[str, str], dict[int, str]]]] = field(default_factory=dict)
    answer: Callable[[httpx.Request], httpx.Response] | None = None
    asked: list[httpx.URL] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.asked.append(request.url)
        if self.answer is not None:
            return self.answer(request)
        asked = request.url.params
        if request.url.path == "/api/v1/rules":
            return self.data({"groups": [{"name": "placar", "rules": list(self.rules.values())}]})
        end, start = float(asked["end"]), float(asked["start"])
        assert (end - start) % float(asked["step"]) == pytest.approx(0, abs=0.001)
        (title,) = (title for title, panel in PANELS.items() if panel.query == asked["query"])
        found = self.series.get(title, [({}, {0: "1"})])
        result = [
            {"metric": labels, "values": [[end - age, value] for age, value in sorted(values.items(), reverse=True)]}
            for labels, values in found
        ]
        return self.data({"resultType": "matrix", "result": result})

    @staticmethod
    def data(data: Any) -> httpx.Response:
        """A successful answer."""
        return httpx.Response(200, json={"status": "success", "data": data})


@asynccontextmanager
async def asking(prometheus: FakePrometheus) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over this Prometheus."""
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(prometheus), base_url="http://prometheus") as asked,
        api([], prometheus=asked) as (client, _),
    ):
        yield client


async def told(prometheus: FakePrometheus) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What the API answers, and its panels by title."""
    async with asking(prometheus) as client:
        response = await client.get("/api/v1/ops")
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    return body, {panel["title"]: panel for panel in body["panels"]}


async def test_a_pipeline_in_order() -> None:
    """With every rule evaluated and a value for each panel all is ok, and panels that no alert judges say so."""
    body, panels = await told(FakePrometheus())
    assert body["state"] == "ok"
    assert body["alerts"] == []
    assert list(panels) == list(PANELS)
    assert {title: panel["state"] for title, panel in panels.items()} == {
        title: "ok" if panel.alerts else "unjudged" for title, panel in PANELS.items()
    }
    assert panels["API p95"] == {
        "group": "Serving",
        "title": "API p95",
        "meaning": PANELS["API p95"].meaning,
        "measure": "seconds",
        "state": "ok",
        "alerts": ["ApiSlow"],
        "value": 1.0,
        "series": [{"name": "", "value": 1.0}],
        "points": [{"age": 0, "value": 1.0}],
    }


@pytest.mark.parametrize(
    ("of_lag", "values", "state"),
    [
        (rule("ConsumerLag"), {0: "5"}, "ok"),
        (rule("ConsumerLag", "pending"), {0: "5"}, "warning"),
        (rule("ConsumerLag", "pending", "firing"), {0: "5"}, "critical"),
        (rule("ConsumerLag", "firing", severity="warning"), {0: "5"}, "warning"),
        (rule("ConsumerLag", health="err"), {0: "5"}, "unknown"),
        (rule("ConsumerLag", health="unknown"), {0: "5"}, "unknown"),
        (None, {0: "5"}, "unknown"),
        (rule("ConsumerLag"), {}, "unknown"),
        (rule("ConsumerLag"), {0: "NaN"}, "unknown"),
        (rule("ConsumerLag"), {60: "5"}, "unknown"),
        (rule("ConsumerLag", "firing"), {}, "critical"),
    ],
)
async def test_a_panel_is_as_its_alert(of_lag: dict[str, Any] | None, values: dict[int, str], state: str) -> None:
    """Firing is critical or warning, pending warning; no value, no rule, or a rule that fails, is never ok."""
    quiet = {name: one for name, one in ALL_QUIET.items() if name != "ConsumerLag"}
    found = quiet if of_lag is None else {**quiet, "ConsumerLag": of_lag}
    body, panels = await told(FakePrometheus(found, {"Consumer lag": [({"group": "cdc"}, values)]}))
    assert panels["Consumer lag"]["state"] == state
    assert panels["Disk free"]["state"] == "ok"
    assert body["state"] == state


async def test_no_rules_is_unknown() -> None:
    """A Prometheus that was given no rules cannot say that all is well."""
    body, panels = await told(FakePrometheus({}))
    assert body["state"] == "unknown"
    assert {panel["state"] for panel in panels.values()} == {"unknown", "unjudged"}


async def test_a_panel_that_nobody_judges_without_a_value() -> None:
    """Where a quantile has had nothing to count its panel is unknown; the verdict is that of the others."""
    title = "Ranking to served, p95"
    body, panels = await told(FakePrometheus(series={title: [({"topic": "rankings.city"}, {0: "NaN", 60: "NaN"})]}))
    assert panels[title]["state"] == "unknown"
    assert "value" not in panels[title]
    assert panels[title]["series"] == [{"name": "rankings.city"}]
    assert panels[title]["points"] == []
    assert body["state"] == "ok"


async def test_the_worst_comes_first() -> None:
    """Series, figure and line show the highest, or of what should be high the lowest; what is unknown comes last."""
    lag = [
        ({"group": "cdc", "topic": "sales.postgres"}, {0: "1", 60: "7", HOUR_AGO: "3"}),
        ({"group": "files", "topic": "sales.files"}, {60: "9"}),
        ({"group": "legacy", "topic": "sales.legacy", "unit": "x"}, {0: "2.00000001", 60: "+Inf"}),
    ]
    targets = [({"instance": "kafka"}, {0: "1", 60: "0"}), ({"instance": "api"}, {0: "0", 60: "1"})]
    _, panels = await told(FakePrometheus(series={"Consumer lag": lag, "Targets": targets}))
    shown = panels["Consumer lag"]
    assert shown["series"] == [
        {"name": "legacy sales.legacy", "value": 2.0},
        {"name": "cdc sales.postgres", "value": 1.0},
        {"name": "files sales.files"},
    ]
    assert shown["value"] == 2.0
    assert shown["points"] == [
        {"age": HOUR_AGO, "value": 3.0},
        {"age": 60, "value": 9.0},
        {"age": 0, "value": 2.0},
    ]
    assert panels["Targets"]["value"] == 0.0
    assert [one["name"] for one in panels["Targets"]["series"]] == ["api", "kafka"]
    assert [point["value"] for point in panels["Targets"]["points"]] == [0.0, 0.0]


async def test_alerts_are_told_with_what_to_do() -> None:
    """What fires comes first, critical before warning, each with its section of the runbook where there is one."""
    found = {
        **ALL_QUIET,
        "WalRetained": rule("WalRetained", "pending"),
        "DeadLetterRate": rule("DeadLetterRate", "firing", severity="warning"),
        "TargetDown": rule("TargetDown", "firing", "firing"),
        "Unheard": rule("Unheard", "firing", severity="warning"),
    }
    body, _ = await told(FakePrometheus(found))
    assert [(one["name"], one["state"], one.get("runbook")) for one in body["alerts"]] == [
        ("TargetDown", "firing", "/ops/runbook#targetdown"),
        ("TargetDown", "firing", "/ops/runbook#targetdown"),
        ("DeadLetterRate", "firing", "/ops/runbook#deadletterrate"),
        ("Unheard", "firing", None),
        ("WalRetained", "pending", "/ops/runbook#walretained"),
    ]
    assert body["alerts"][0]["since"] == "2026-02-19T10:00:00.123Z"
    assert body["alerts"][0]["summary"] == "TargetDown is so"
    assert body["state"] == "critical"


def rejected(request: httpx.Request) -> httpx.Response:
    """Nobody listens."""
    raise httpx.ConnectError("rejected at 10.1.2.3", request=request)


@pytest.mark.parametrize(
    "answer",
    [
        rejected,
        lambda _: httpx.Response(422, json={"status": "error", "error": "of 10.1.2.3"}),
        lambda _: httpx.Response(200, text="<html>another server, 10.1.2.3</html>"),
        lambda _: httpx.Response(200, json={"status": "success", "data": {"groups": [{"of": "10.1.2.3"}]}}),
    ],
)
async def test_without_prometheus(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    """Where Prometheus is down, or something else is there, the answer is a 503 problem that shows nothing of it."""
    prometheus = FakePrometheus(answer=answer)
    async with asking(prometheus) as client:
        for _ in range(3):
            response = await client.get("/api/v1/ops")
            assert_problem(response, 503)
            assert response.headers["retry-after"]
            assert "10.1.2.3" not in response.text
        assert (await client.get("/api/v1/health")).status_code == 200
    assert len(prometheus.asked) == 1


async def test_a_prometheus_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after the limit."""
    monkeypatch.setattr(ops, "LIMIT_S", 0.05)

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(hang), base_url="http://prometheus") as asked,
        api([], prometheus=asked) as (client, _),
    ):
        begun = time.monotonic()
        assert_problem(await client.get("/api/v1/ops"), 503)
    assert time.monotonic() - begun < 5


async def test_many_askers_are_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus is asked once for all who ask within five seconds, and anew after them."""
    prometheus = FakePrometheus()
    async with asking(prometheus) as client:
        answers = await asyncio.gather(*(client.get("/api/v1/ops") for _ in range(5)))
        assert len({answer.text for answer in answers}) == 1
        assert len(prometheus.asked) == 1 + len(PANELS)
        monkeypatch.setattr(ops, "KEPT_S", 0)
        await client.get("/api/v1/ops")
        assert len(prometheus.asked) == 2 * (1 + len(PANELS))


async def test_nobody_asks_prometheus_anything_else() -> None:
    """A browser cannot have a query of its own run."""
    prometheus = FakePrometheus()
    async with asking(prometheus) as client:
        body = assert_problem(await client.get("/api/v1/ops", params={"query": "up"}), 422)
    assert body["errors"][0]["field"] == "query"
    assert prometheus.asked == []


def test_every_alert_judges_a_panel() -> None:
    """What can fire is seen beside the figure that it is about, and no panel names an alert that is gone."""
    titles = [panel.title for panels in GROUPS.values() for panel in panels]
    assert len(set(titles)) == len(titles)
    judging = [alert for panel in PANELS.values() for alert in panel.alerts]
    assert sorted(judging) == sorted(one["alert"] for one in rules("alerts.yml"))


async def test_the_runbook_is_a_page() -> None:
    """Each alert's link leads to its section; a link leads to a section, or elsewhere on the web, and not to a file."""
    async with asking(FakePrometheus()) as client:
        page = await client.get("/ops/runbook")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    ids = re.findall(r'<h2 id="(\w+)">', page.text)
    assert sorted(ids) == sorted(one["alert"].lower() for one in rules("alerts.yml"))
    assert runbook.PLACE not in page.text
    links = re.findall(r'href="([^"]*)"', page.text.partition("<main")[2].partition("</main>")[0])
    assert links
    assert {link for link in links if link.removeprefix("#") not in ids} == set()


def test_markup_in_the_runbook_is_text() -> None:
    """HTML is shown as it is written; a link to a file keeps its words only."""
    made = runbook.html("## One\n\n<b>x</b> [file](metrics.md) [web](https://example.org) [down](#one)", runbook.PLACE)
    assert made == (
        '<h2 id="one">One</h2>\n<p>&lt;b&gt;x&lt;/b&gt; file <a href="https://example.org">web</a> '
        '<a href="#one">down</a></p>\n'
    )


async def test_without_a_runbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed there is no such page, and alerts have no link to it."""
    monkeypatch.setattr(runbook, "FILE", runbook.FILE.with_name("none.md"))
    async with asking(FakePrometheus({**ALL_QUIET, "TargetDown": rule("TargetDown", "firing")})) as client:
        assert_problem(await client.get("/ops/runbook"), 404)
        assert "runbook" not in (await client.get("/api/v1/ops")).json()["alerts"][0]
