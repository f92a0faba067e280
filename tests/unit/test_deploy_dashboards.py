"""Grafana's dashboard and its provisioning, without a Grafana: what it would reject or not show."""

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.panels import groups
from deploy import dashboards, metrics
from deploy.native.processes import UNITS
from deploy.native.settings import ROOT
from tests.e2e.scrape import METRIC, rules

PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
COLUMNS = 24


@pytest.fixture
def board() -> dict[str, Any]:
    """The committed dashboard."""
    read: dict[str, Any] = json.loads(dashboards.FILE.read_text("utf-8"))
    return read


def provisioned(file: str) -> dict[str, Any]:
    """A provisioning file."""
    read: dict[str, Any] = yaml.safe_load((PROVISIONING / file).read_text("utf-8"))
    assert read["apiVersion"] == 1
    return read


def test_the_dashboard_is_up_to_date() -> None:
    """The file follows from the panels: after a change run `task docs:dashboards`."""
    assert dashboards.FILE.read_text("utf-8") == dashboards.text() == dashboards.text()


def test_it_has_every_panel_and_no_other(board: dict[str, Any]) -> None:
    """Each panel has its title, query and the names of its series, in a row of its group."""
    held: dict[str, list[tuple[str, str, str]]] = {}
    for panel in board["panels"]:
        if panel["type"] == "row":
            of_row = held.setdefault(panel["title"], [])
        else:
            (target,) = panel["targets"]
            of_row.append((panel["title"], target["expr"], target["legendFormat"]))
    assert held == {
        group: [
            (one.title, one.query, " ".join("{{" + label + "}}" for label in one.labels) or one.title) for one in panels
        ]
        for group, panels in groups().items()
    }


def test_what_spec_asks_for_is_there() -> None:
    """The panels that the specification names, and those of an end-to-end latency."""
    queries = " ".join(panel.query for panels in groups().values() for panel in panels)
    for metric in (
        "placar_consumer_lag_records",
        "flink_taskmanager_job_task_numRecordsInPerSecond",
        "flink_jobmanager_job_lastCheckpointDuration",
        "placar_sink_rows_total",
        "api:placar_http_request_seconds:p95_5m",
        "api:placar_http_requests_5xx:ratio_rate5m",
        "topic:placar_source_delay_seconds:p95_5m",
        "topic:placar_ranking_delay_seconds:p95_5m",
        "topic:placar_sink_delay_seconds:p95_5m",
    ):
        assert metric in queries, metric


def test_grafana_can_show_it(board: dict[str, Any]) -> None:
    """Known kinds of panels, ids of their own, inside the grid, none over another, each with its data source."""
    assert board["uid"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["type"] in {"row", "timeseries", "state-timeline"}, panel["title"]
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_provisioning_says_where_things_are() -> None:
    """Prometheus' address comes from the environment; the dashboards are a folder of files."""
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert source["url"] == "${PROMETHEUS_URL}"
    (provider,) = provisioned("dashboards/placar.yml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_every_metric_is_exported_or_recorded() -> None:
    """A panel reads metrics that a unit declares, a recording rule computes, or Flink and Prometheus export."""
    declared = {metric.name for unit in UNITS for metric in metrics.declared(unit)}
    recorded = {rule["record"] for rule in rules("recording.yml")}
    for panel in (panel for panels in groups().values() for panel in panels):
        named = METRIC.findall(panel.query)
        assert named or "ALERTS" in panel.query, panel.title
        ours = {re.sub(r"_bucket$", "", name) for name in named if not name.startswith("flink_") and name != "up"}
        assert ours <= declared | recorded, panel.title


def seen(values: str, series: str, query: str, minute: int, *expected: tuple[str, float]) -> dict[str, Any]:
    """A case for `promtool test rules`: `series` with one of the `values` each minute, and what the query has then."""
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values}, {"series": UNIT, "values": "1x30"}],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected],
            }
        ],
    }


UNIT = 'up{job="unit", instance="cdc"}'
DEAD_LETTERS = 'placar_dead_letters_total{unit="cdc", topic="sales.postgres", reason="amount_range"}'
BY_REASON = '{topic="sales.postgres", reason="amount_range"}'


def test_the_first_dead_letter_is_seen(tmp_path: Path) -> None:
    """`promtool test rules`: a rare event counts from the first on, only lately, and nothing is 0 or unknown."""
    query = next(panel.query for panel in groups()["Records"] if panel.title.startswith("Dead letters"))
    down = seen("_x30", DEAD_LETTERS, query, 3)
    down["input_series"][1]["values"] = "0x30"
    cases = [
        seen("_x30", DEAD_LETTERS, query, 3, ("{}", 0)),  # none has ever come
        down,  # no process is up to count
        seen("_ _ _ _ _ _ _ _ 2x20", DEAD_LETTERS, query, 9, (BY_REASON, 2)),  # the first ones
        seen("2x20", DEAD_LETTERS, query, 12, (BY_REASON, 0)),  # long ago
        seen("2x10 6x10", DEAD_LETTERS, query, 13, (BY_REASON, 4)),  # more of them
    ]
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": cases}), "utf-8")
    done = subprocess.run(("promtool", "test", "rules", str(file)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_prometheus_can_read_the_queries(tmp_path: Path) -> None:
    """`promtool check rules`, with each query as a recording rule."""
    queries = [panel.query for panels in groups().values() for panel in panels]
    rules = [{"record": f"panel:{number}:now", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    done = subprocess.run(("promtool", "check", "rules", str(file)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(queries)} rules found" in done.stdout
