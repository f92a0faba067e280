"""The operations dashboard over HTTP, with a Prometheus in memory: states, values, and what is not known."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from chassis import logs
from chassis.panels import groups
from services.ops import health, runbook
from services.ops.prometheus import Prometheus
from services.ops.routes import application
from tests.e2e.scrape import rules

PANELS = {panel.title: panel for panels in groups().values() for panel in panels}
HOUR_AGO = 3600


def rule(name: str, *states: str, severity: str = "critical", health: str = "ok") -> dict[str, Any]:
    """An alerting rule as Prometheus describes it, with an alert in each of the states."""
    alerts = [
        {
            "labels": {"alertname": name, "severity": severity},
            "annotations": {"summary": f"summary of {name}", "runbook_url": f"docs/runbook.md#{name.lower()}"},
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
    urls: list[httpx.URL] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.urls.append(request.url)
        if self.answer is not None:
            return self.answer(request)
        query = request.url.params
        if request.url.path == "/api/v1/rules":
            return self.data({"groups": [{"name": "placar", "rules": list(self.rules.values())}]})
        end, start = float(query["end"]), float(query["start"])
        assert (end - start) % float(query["step"]) == pytest.approx(0, abs=0.001)
        (title,) = (title for title, panel in PANELS.items() if panel.query == query["query"])
        series = self.series.get(title, [({}, {0: "1"})])
        result = [
            {"metric": labels, "values": [[end - age, value] for age, value in sorted(values.items(), reverse=True)]}
            for labels, values in series
        ]
        return self.data({"resultType": "matrix", "result": result})

    @staticmethod
    def data(data: Any) -> httpx.Response:
        """A successful answer."""
        return httpx.Response(200, json={"status": "success", "data": data})


@asynccontextmanager
async def dashboard(prometheus: Callable[[httpx.Request], Any]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the dashboard over this Prometheus."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(prometheus), base_url="http://prometheus") as queried:
        cache = health.HealthCache(Prometheus(queried), runbook.sections(runbook.text()))
        transport = httpx.ASGITransport(application(cache, logs.configure("ops", "error")))
        async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
            yield client


def assert_problem(response: httpx.Response, status: int) -> None:
    """An RFC 9457 problem with this status."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"]


async def answered(prometheus: FakePrometheus) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The answer, and its panels by title."""
    async with dashboard(prometheus) as client:
        response = await client.get("/api/v1/ops")
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    return body, {panel["title"]: panel for panel in body["panels"]}


async def test_a_pipeline_in_order() -> None:
    """With every rule evaluated and a value for each panel all is ok, and panels that no alert judges say so."""
    body, panels = await answered(FakePrometheus())
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
    with_lag = quiet if of_lag is None else {**quiet, "ConsumerLag": of_lag}
    body, panels = await answered(FakePrometheus(with_lag, {"Consumer lag": [({"group": "cdc"}, values)]}))
    assert panels["Consumer lag"]["state"] == state
    assert panels["Disk free"]["state"] == "ok"
    assert body["state"] == state


async def test_no_rules_is_unknown() -> None:
    """A Prometheus that was given no rules cannot say that all is well."""
    body, panels = await answered(FakePrometheus({}))
    assert body["state"] == "unknown"
    assert {panel["state"] for panel in panels.values()} == {"unknown", "unjudged"}


async def test_a_panel_that_nobody_judges_without_a_value() -> None:
    """Where a quantile has had nothing to count its panel is unknown; the verdict is that of the others."""
    title = "Ranking to ClickHouse, p95"
    body, panels = await answered(FakePrometheus(series={title: [({"topic": "rankings.city"}, {0: "NaN", 60: "NaN"})]}))
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
    _, panels = await answered(FakePrometheus(series={"Consumer lag": lag, "Targets": targets}))
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


async def test_alerts_link_to_the_runbook() -> None:
    """Firing alerts come first, critical before warning, each with its section of the runbook where there is one."""
    by_name = {
        **ALL_QUIET,
        "WalRetained": rule("WalRetained", "pending"),
        "DeadLetterRate": rule("DeadLetterRate", "firing", severity="warning"),
        "TargetDown": rule("TargetDown", "firing", "firing"),
        "Undocumented": rule("Undocumented", "firing", severity="warning"),
    }
    body, _ = await answered(FakePrometheus(by_name))
    assert [(one["name"], one["state"], one.get("runbook")) for one in body["alerts"]] == [
        ("TargetDown", "firing", "runbook#targetdown"),
        ("TargetDown", "firing", "runbook#targetdown"),
        ("DeadLetterRate", "firing", "runbook#deadletterrate"),
        ("Undocumented", "firing", None),
        ("WalRetained", "pending", "runbook#walretained"),
    ]
    assert body["alerts"][0]["since"] == "2026-02-19T10:00:00.123456Z"
    assert body["alerts"][0]["summary"] == "summary of TargetDown"
    assert body["state"] == "critical"


def unreachable(request: httpx.Request) -> httpx.Response:
    """Nobody listens."""
    raise httpx.ConnectError("no connection to 10.1.2.3", request=request)


@pytest.mark.parametrize(
    "answer",
    [
        unreachable,
        lambda _: httpx.Response(422, json={"status": "error", "error": "of 10.1.2.3"}),
        lambda _: httpx.Response(200, text="<html>another server, 10.1.2.3</html>"),
        lambda _: httpx.Response(200, json={"status": "success", "data": {"groups": [{"of": "10.1.2.3"}]}}),
    ],
)
async def test_without_prometheus(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    """Where Prometheus is down, or something else is there, the answer is a 503 problem that shows nothing of it."""
    prometheus = FakePrometheus(answer=answer)
    async with dashboard(prometheus) as client:
        for _ in range(3):
            response = await client.get("/api/v1/ops")
            assert_problem(response, 503)
            assert response.headers["retry-after"]
            assert "10.1.2.3" not in response.text
        assert (await client.get("/")).status_code == 200
    assert len(prometheus.urls) == 1


async def test_a_prometheus_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after the limit."""
    monkeypatch.setattr(health, "LIMIT_S", 0.05)

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with dashboard(hang) as client:
        begun = time.monotonic()
        assert_problem(await client.get("/api/v1/ops"), 503)
    assert time.monotonic() - begun < 5


async def test_many_clients_are_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus is queried once for all requests of five seconds, and again after them."""
    prometheus = FakePrometheus()
    async with dashboard(prometheus) as client:
        answers = await asyncio.gather(*(client.get("/api/v1/ops") for _ in range(5)))
        assert len({answer.text for answer in answers}) == 1
        assert len(prometheus.urls) == 1 + len(PANELS)
        monkeypatch.setattr(health, "CACHE_S", 0)
        await client.get("/api/v1/ops")
        assert len(prometheus.urls) == 2 * (1 + len(PANELS))


async def test_a_browser_cannot_query_prometheus() -> None:
    """Parameters are rejected: a browser cannot have a query of its own run."""
    prometheus = FakePrometheus()
    async with dashboard(prometheus) as client:
        assert_problem(await client.get("/api/v1/ops", params={"query": "up"}), 422)
        assert_problem(await client.get("/nowhere"), 404)
        assert_problem(await client.post("/api/v1/ops"), 405)
    assert prometheus.urls == []


async def test_page() -> None:
    """The page and every file that it names are served, under a policy that allows nothing from elsewhere."""
    async with dashboard(FakePrometheus()) as client:
        answers = {"": await client.get("/")}
        linked = re.findall(r'<(?:link|script) .*?(?:src|href)="([^"]+)"', answers[""].text)
        while linked:
            path = linked.pop()
            if path not in answers:
                answers[path] = await client.get(f"/{path}")
                linked += re.findall(r'from "\./([^"]+)"', answers[path].text)
        assert (await client.head("/")).status_code == 200
        assert (await client.get("/%2e%2e/routes.py")).status_code == 404
    assert set(answers) == {"", "ops.css", "ops.js", "figures.js", "theme.js", "icon.svg"}
    for path, answer in answers.items():
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy
        assert not {part for part in policy if "unsafe" in part or "http" in part or "*" in part}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), path
        assert "javascript" in answer.headers["content-type"] or not path.endswith(".js")


def test_every_alert_judges_a_panel() -> None:
    """Every alert is shown beside the figure that it is about, and no panel names an alert that does not exist."""
    titles = [panel.title for panels in groups().values() for panel in panels]
    assert len(set(titles)) == len(titles)
    judging = [alert for panel in PANELS.values() for alert in panel.alerts]
    assert sorted(judging) == sorted(one["alert"] for one in rules("alerts.yml"))


async def test_the_runbook_is_a_page() -> None:
    """Each alert's link leads to its section; a link leads to a section, or elsewhere on the web, and not to a file."""
    async with dashboard(FakePrometheus()) as client:
        page = await client.get("/runbook")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    ids = re.findall(r'<h2 id="(\w+)">', page.text)
    assert sorted(ids) == sorted(one["alert"].lower() for one in rules("alerts.yml"))
    assert runbook.SLOT not in page.text
    links = re.findall(r'href="([^"]*)"', page.text.partition("<main")[2].partition("</main>")[0])
    assert links
    assert {link for link in links if link.removeprefix("#") not in ids} == set()


def test_markup_in_the_runbook_is_text() -> None:
    """HTML is shown as it is written; a link to a file keeps its words only."""
    page = runbook.html("## One\n\n<b>x</b> [file](metrics.md) [web](https://example.org) [down](#one)", runbook.SLOT)
    assert page == (
        '<h2 id="one">One</h2>\n<p>&lt;b&gt;x&lt;/b&gt; file <a href="https://example.org">web</a> '
        '<a href="#one">down</a></p>\n'
    )


async def test_without_a_runbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed there is no such page, and alerts have no link to it."""
    monkeypatch.setattr(runbook, "FILE", runbook.FILE.with_name("none.md"))
    async with dashboard(FakePrometheus({**ALL_QUIET, "TargetDown": rule("TargetDown", "firing")})) as client:
        assert_problem(await client.get("/runbook"), 404)
        assert "runbook" not in (await client.get("/api/v1/ops")).json()["alerts"][0]
