"""Rules, routes and runbook: what Prometheus and Alertmanager are given."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from chassis.settings import load
from deploy.native import render
from deploy.native.processes import processes, values
from deploy.native.settings import ROOT, NativeSettings
from deploy.native.table import TABLE
from tests.e2e.scrape import METRIC, rules

TESTS = ROOT / "tests" / "alerts" / "rules_test.yml"
BY_EXPORTER = {"postgres", "clickhouse"}  # they serve no metrics; server_exporter asks them


def run(*command: str) -> str:
    """What a tool says; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NativeSettings:
    """Everything rendered into a folder of the test's own."""
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path / "state"))
    return load(NativeSettings)


def rendered(settings: NativeSettings) -> Path:
    """The folder of the rendered configuration."""
    render.servers(settings, values(settings), lambda _: settings.bind_host)
    return settings.state_dir / "conf"


def test_every_alert_fires_and_keeps_quiet_as_its_test_says(configuration: NativeSettings) -> None:
    """`promtool test rules` with the rules as Prometheus gets them, and a test for each alert."""
    assert [one["name"] for one in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]] == [
        rule["alert"] for rule in rules("alerts.yml")
    ]
    cases = shutil.copy(TESTS, rendered(configuration) / "prometheus")
    assert "SUCCESS" in run("promtool", "test", "rules", str(cases))


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """The link of each alert leads to a section with something to do, and no section is of an alert that is gone."""
    text = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules("alerts.yml")}
    assert links == {name: f"docs/runbook.md#{name.lower()}" for name in sections}
    assert all("\n1. " in section and "Fires when" in section for section in sections.values())


def test_the_rules_read_metrics_that_can_be_checked() -> None:
    """Each expression holds a metric's name that the test of the running pipeline checks."""
    for rule in [*rules("alerts.yml"), *rules("recording.yml")]:
        assert METRIC.findall(rule["expr"]), rule
    assert {rule["labels"]["severity"] for rule in rules("alerts.yml")} == {"critical", "warning"}


@pytest.mark.usefixtures("configuration")
def test_prometheus_accepts_its_configuration_and_knows_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`promtool check config`; whatever runs is a target, or asked by the exporter."""
    monkeypatch.setenv("PLACAR_PROFILES", ",".join(TABLE.profiles))
    configuration = load(NativeSettings)
    folder = rendered(configuration) / "prometheus"
    assert "SUCCESS" in run("promtool", "check", "config", str(folder / "prometheus.yml"))
    targets = json.loads((folder / "targets.json").read_text("utf-8"))
    known = {target["labels"]["instance"] for target in targets}
    assert known | BY_EXPORTER == {process.name for process in processes(configuration)}
    assert len({target["targets"][0] for target in targets}) == len(targets)


@pytest.mark.parametrize(("url", "receiver"), [("", "none"), ("http://127.0.0.1:9/hook?token=x", "webhook")])
def test_alerts_go_to_the_webhook_where_there_is_one(
    configuration: NativeSettings, url: str, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ALERT_WEBHOOK_URL Alertmanager posts there, without it nowhere; both are accepted by it."""
    monkeypatch.setenv("ALERT_WEBHOOK_URL", url)
    path = rendered(load(NativeSettings)) / "alertmanager" / "alertmanager.yml"
    run("amtool", "check-config", str(path))
    held = yaml.safe_load(path.read_text("utf-8"))
    assert held["route"]["receiver"] == receiver
    assert {one["name"]: one.get("webhook_configs", []) for one in held["receivers"]}["none"] == []
    assert not url or held["receivers"][1]["webhook_configs"][0]["url"] == url
    assert path.stat().st_mode & 0o077 == 0  # the address may hold a token


def test_an_address_that_is_none_is_rejected(configuration: NativeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong ALERT_WEBHOOK_URL ends the command before anything starts."""
    assert configuration.alert_webhook_url == ""
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "mail@example.org")
    with pytest.raises(SystemExit):
        load(NativeSettings)
