"""`python -m deploy.kubernetes.generate`: the manifests that follow from contracts, connector and alert rules."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from contracts.catalogue import catalogue
from contracts.windows import window_lengths

ROOT = Path(__file__).resolve().parents[2]
BASE = Path(__file__).parent / "base"
MADE = "# Made by `task kubernetes:generate`; change {source} instead.\n"
LABELS = {"strimzi.io/cluster": "placar"}
CONNECTOR = "deploy/connect/sales-postgres.json"
REPLICATION = "topic.creation.default.replication.factor"
# What natively the watcher says of itself the operator does not; Flink says it.
OTHER_RULES: Mapping[str, str] = {"FlinkJobNotRunning": "(sum(flink_jobmanager_numRunningJobs) or vector(0)) < 1"}


def settings() -> dict[str, str]:
    """The settings that all pods have."""
    lines = (BASE / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _documents(source: str, documents: Sequence[Mapping[str, Any]]) -> str:
    return MADE.format(source=source) + "---\n".join(
        yaml.safe_dump(each, sort_keys=False, allow_unicode=True, width=1000) for each in documents
    )


def topics(configured: Mapping[str, str]) -> str:
    """A KafkaTopic for each topic of the catalogue, and of each further window length."""
    return _documents(
        "contracts/topics",
        [
            {
                "apiVersion": "kafka.strimzi.io/v1",
                "kind": "KafkaTopic",
                "metadata": {"name": topic.name, "labels": LABELS},
                "spec": {
                    "partitions": topic.partitions,
                    "replicas": int(configured["KAFKA_REPLICAS"]),
                    "config": topic.broker_settings,
                },
            }
            for topic in catalogue(window_lengths(configured["RANKING_WINDOWS"])).values()
        ],
    )


def connector() -> dict[str, str]:
    """The connector's configuration, in which Connect fills in each value from its own environment.

    So no password is in a resource, in the topic of configurations, or in an answer of Connect.
    """
    given: dict[str, str] = json.loads((ROOT / CONNECTOR).read_text("utf-8"))
    registry = "http://${env:SCHEMA_REGISTRY_HOST}:${env:SCHEMA_REGISTRY_PORT}/apis/registry/v2"

    def place(found: re.Match[str]) -> str:
        return registry if found[1] == "SCHEMA_REGISTRY_NATIVE_URL" else f"${{env:{found[1]}}}"

    filled = {key: re.sub(r"\$\{(\w+)\}", place, text) for key, text in given.items()}
    return {**filled, REPLICATION: "-1"}  # as many copies as the brokers say


def connector_template() -> str:
    """The same for connect_watcher, which takes `$$` for a dollar."""
    return json.dumps({key: text.replace("$", "$$") for key, text in connector().items()}, indent=2) + "\n"


def connector_resource() -> str:
    """The same as Strimzi's KafkaConnector, which has two of the keys as fields."""
    config = connector()
    spec = {"class": config.pop("connector.class"), "tasksMax": int(config.pop("tasks.max")), "config": config}
    metadata = {"name": "sales-postgres", "labels": LABELS}
    resource = {"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaConnector", "metadata": metadata, "spec": spec}
    return _documents(CONNECTOR, [resource])


def rules() -> str:
    """The recording and alert rules of deploy/prometheus as one PrometheusRule."""
    groups = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / f"{name}.yml").read_text("utf-8"))["groups"]
    ]
    groups = [{**group, "name": f"{group['name']}-{number}"} for number, group in enumerate(groups, 1)]
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["expr"] = OTHER_RULES.get(rule.get("alert", ""), rule["expr"]).strip()
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "placar"},
        "spec": {"groups": groups},
    }
    return _documents("deploy/prometheus", [resource])


def files() -> dict[Path, str]:
    """Each made file with what it must hold."""
    return {
        BASE / "servers" / "topics.yaml": topics(settings()),
        BASE / "servers" / "connector.yaml": connector_resource(),
        BASE / "servers" / "sales-postgres.json": connector_template(),
        BASE / "rules.yaml": rules(),
    }


def main() -> int:
    """Write them, and name those that changed."""
    for path, text in files().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
