"""The manifests in deploy/kubernetes agree with the settings, the catalogue and the native runtime.

They are read as kustomize would build them, by a few lines here, so that no tool is needed. `task kubernetes:validate`
runs the same tests on what kustomize itself built (KUBERNETES_BUILT names the folder).
"""

import importlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree as ET

import kubernetes_validate
import pytest
import yaml
from pydantic_settings import BaseSettings

from chassis import lineage, ops, unit
from chassis.asgi import DRAIN_S
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.settings import (
    ClickHouseSettings,
    ConnectSettings,
    KafkaSettings,
    LegacySoapSettings,
    LineageSettings,
    PostgresSettings,
    PrometheusSettings,
    RegistrySettings,
    S3Settings,
    TopicSettings,
)
from chassis.stream import STOP_TIMEOUT_S
from contracts.catalogue import catalogue
from contracts.windows import window_lengths
from deploy.kubernetes import generate
from deploy.kubernetes.validate import KUBERNETES, ValidationError, check, schemas
from deploy.native.processes import UNITS, processes, steps
from deploy.native.settings import PORTS, NativeSettings
from deploy.native.table import TABLE
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import configuration
from services.flink_watcher import bundle

ROOT = Path(__file__).parents[2]
TREE = ROOT / "deploy" / "kubernetes"
KIND = TREE / "overlays" / "kind"
DOCS = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
SETTINGS = generate.settings()

Resource = Mapping[str, Any]
# by what kustomize merges the items of a list
KEYS = {"containers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath", "ports": "containerPort"}
# process or step of the native runtime -> its resource here; any other is a Deployment of its name
RESOURCES = {
    "kafka": ("Kafka", "placar"),
    "registry": ("Deployment", "registry"),
    "connect": ("KafkaConnect", "placar"),
    "clickhouse": ("ClickHouseInstallation", "placar"),
    "postgres": ("StatefulSet", "postgres"),
    "s3": ("StatefulSet", "s3"),
    "jobmanager": ("FlinkDeployment", "ranking"),
    "taskmanager1": ("FlinkDeployment", "ranking"),
    "taskmanager2": ("FlinkDeployment", "ranking"),
    "prometheus": ("PodMonitor", "units"),
    "alertmanager": ("PrometheusRule", "placar"),
    "flink_watcher": ("FlinkDeployment", "ranking"),  # the operator keeps the job running
    "postgres-schema": ("Job", "databases"),
    "contracts": ("Job", "contracts"),
    "tables": ("Job", "tables"),
    "seed": ("Job", "seed"),
    "connector": ("KafkaConnector", "sales-postgres"),
    "ranking-job": ("FlinkDeployment", "ranking"),
}
HERE = sorted(UNITS.keys() - RESOURCES.keys())
STREAMS = sorted(name for name, (module, _) in UNITS.items() if module.startswith("streams."))
# what runs for as long as the cluster, and the steps
RUNS = ("Deployment", "StatefulSet", "Job", "Kafka", "KafkaConnect", "FlinkDeployment", "ClickHouseInstallation")
# server -> the settings class of its clients, and the setting that ends with its port
SERVERS: Mapping[str, tuple[type[BaseSettings], str]] = {
    "kafka": (KafkaSettings, "KAFKA_PORT"),
    "registry": (RegistrySettings, "SCHEMA_REGISTRY_PORT"),
    "connect": (ConnectSettings, "CONNECT_PORT"),
    "postgres": (PostgresSettings, "POSTGRES_PORT"),
    "s3": (S3Settings, "S3_ENDPOINT"),
    "clickhouse": (ClickHouseSettings, "CLICKHOUSE_NATIVE_PORT"),
    "legacy-soap": (LegacySoapSettings, "LEGACY_SOAP_PORT"),
    "lineage": (LineageSettings, "LINEAGE_URL"),
    "prometheus": (PrometheusSettings, "PROMETHEUS_URL"),
}
SECRETS = {
    "POSTGRES_USER", "POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "CLICKHOUSE_PASSWORD", "API_LIVE_TOKEN",
    "SHOPIFY_WEBHOOK_SECRETS", "STRIPE_WEBHOOK_SECRETS", "HUBSPOT_CLIENT_SECRETS",
}  # fmt: skip
# before sales.unified: what fetches, carries and validates
INGESTION = {
    ("KafkaNodePool", "broker"),
    ("Kafka", "placar"),
    ("KafkaConnect", "placar"),
    *(("Deployment", name) for name in ("registry", *STREAMS, "file-poller", "legacy-poller")),
    *(("Deployment", name) for name in ("legacy-soap", "connect-watcher", "webhooks")),
}
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
UNITS_OF_MEMORY = {"Mi": 2**20, "Gi": 2**30, "m": 2**20}
CORE = ("apps/", "batch/", "policy/", "autoscaling/", "networking.k8s.io/", "rbac.authorization.k8s.io/")


def merged(base: Any, patch: Any, name: str = "") -> Any:
    """What kustomize makes of a strategic merge."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merged(base.get(key), value, key) for key, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list) and name in KEYS:
        key = KEYS[name]
        known = {each[key]: each for each in base}
        return list({**known, **{each[key]: merged(known.get(each[key]), each) for each in patch}}.values())
    return patch


def documents(path: Path) -> Iterator[Resource]:
    """The documents of a YAML file."""
    for each in yaml.safe_load_all(path.read_text("utf-8")):
        if each:
            yield each


def read(folder: Path) -> list[Resource]:
    """The resources of a tree with the patches of its components."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    tree: list[Resource] = []
    for name in kustomization.get("resources", []):
        path = folder / name
        tree += read(path) if path.is_dir() else documents(path)
    for component in kustomization.get("components", []):
        for each in yaml.safe_load((folder / component / "kustomization.yaml").read_text("utf-8"))["patches"]:
            key, value = each["target"]["labelSelector"].split("=")
            patch = next(documents(folder / component / each["path"]))
            tree = [
                merged(one, {"spec": patch["spec"]})
                if one["kind"] == each["target"]["kind"] and one["metadata"].get("labels", {}).get(key) == value
                else one
                for one in tree
            ]
    return tree


@cache
def resources() -> Mapping[tuple[str, str], Resource]:
    """Every resource of the overlay for kind, which holds the base, by kind and name."""
    built = os.environ.get("KUBERNETES_BUILT")
    tree = list(documents(Path(built) / "overlays-kind.yaml")) if built else read(KIND)
    named = {(each["kind"], each["metadata"]["name"]): each for each in tree}
    assert len(named) == len(tree)
    return named


def of_kind(*kinds: str) -> dict[str, Resource]:
    """The resources of some kinds by name."""
    return {name: each for (kind, name), each in resources().items() if kind in kinds}


def deployed(unit_name: str) -> Resource:
    """The Deployment of a unit."""
    return resources()["Deployment", unit_name.replace("_", "-")]


def container(resource: Resource) -> Resource:
    """The only container of its pods."""
    (only,) = resource["spec"]["template"]["spec"]["containers"]
    return cast(Resource, only)


def pods() -> dict[tuple[str, str], Resource]:
    """The template of each pod that a manifest describes as Kubernetes does."""
    templates = {key: each["spec"]["template"] for key, each in resources().items() if key[0] in RUNS[:3]}
    (clickhouse,) = resources()["ClickHouseInstallation", "placar"]["spec"]["templates"]["podTemplates"]
    flink = resources()["FlinkDeployment", "ranking"]["spec"]["podTemplate"]
    return {**templates, ("FlinkDeployment", "ranking"): flink, ("ClickHouseInstallation", "placar"): clickhouse}


def labels() -> list[dict[str, str]]:
    """The labels of each pod, with those that operators put on theirs."""
    connect = resources()["KafkaConnect", "placar"]["spec"]["template"]["pod"]["metadata"]["labels"]
    strimzi = {"strimzi.io/cluster": "placar"}
    return [
        *({**pod.get("metadata", {}).get("labels", {})} for pod in pods().values()),
        {**strimzi, "strimzi.io/kind": "Kafka"},
        {**strimzi, "strimzi.io/kind": "KafkaConnect", **connect},
        {"clickhouse.altinity.com/chi": "placar"},
    ]


def selects(selector: Resource) -> list[dict[str, str]]:
    """The pods, by their labels, that a selector finds."""
    assert set(selector) <= {"matchLabels"}
    wanted = selector.get("matchLabels", {}).items()
    return [each for each in labels() if wanted <= each.items()]


def settings_of(unit_name: str) -> type[BaseSettings]:
    """The settings class of a unit."""
    module = importlib.import_module(f"{UNITS[unit_name][0]}.settings")
    (only,) = (
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, BaseSettings) and each.__module__ == module.__name__
    )
    return only


def groups(settings: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    """The class, and those of the groups in it."""
    yield settings
    for field in settings.model_fields.values():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseSettings):
            yield from groups(field.annotation)


def variables(settings: type[BaseSettings]) -> dict[str, Any]:
    """Each variable that the settings and their groups read, with its default."""
    return {
        str(info.validation_alias or f"{group.model_config.get('env_prefix', '')}{field}".upper()): info.default
        for group in groups(settings)
        for field, info in group.model_fields.items()
        if not (inspect.isclass(info.annotation) and issubclass(info.annotation, BaseSettings))
    }


def mebibytes(text: str) -> float:
    """An amount of memory as a number of MiB."""
    number, suffix = re.fullmatch(r"(\d+)(Mi|Gi|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS_OF_MEMORY[suffix] / 2**20


def port_of(server: str) -> int:
    """Where the settings say that a server listens."""
    return int(re.findall(r"\d+$", SETTINGS[SERVERS[server][1]])[0])


def test_each_native_process_has_a_resource_and_the_reverse() -> None:
    """Each process and step of the native runtime is a resource here, and each resource that runs is one of them."""
    native = NativeSettings()
    names = [each.name for each in processes(native)] + [each.name for each in steps(native)]
    expected = {name: RESOURCES.get(name) or ("Deployment", name.replace("_", "-")) for name in names}

    assert set(RESOURCES) <= set(names)
    assert set(expected.values()) <= set(resources())
    assert {key for key in resources() if key[0] in RUNS} <= set(expected.values())


def test_the_base_is_whole_without_the_database_and_the_object_store() -> None:
    """Only the stand-ins of kind, and the steps that fill them, are not in the base."""
    base = {(each["kind"], each["metadata"]["name"]) for each in read(TREE / "base")}
    added = {key for key in resources() if key[0] in RUNS} - base

    assert added == {("StatefulSet", "postgres"), ("StatefulSet", "s3"), ("Job", "databases"), ("Job", "seed")}


@pytest.mark.parametrize("name", HERE)
def test_a_unit_is_deployed_as_its_module_and_settings_say(name: str) -> None:
    """Command, ports, probes, the secrets that it reads, and the servers that it may talk to; nothing more is given."""
    template = deployed(name)["spec"]["template"]
    own = container(deployed(name))
    classes = set(groups(settings_of(name)))

    assert own["command"] == ["python", "-m", UNITS[name][0]]
    ports = {each["name"]: each["containerPort"] for each in own["ports"]}
    assert ports["ops"] == PORTS[f"{name.upper()}_OPS_PORT"][0]
    assert set(ports.values()) == {port for port, process in PORTS.values() if process == name}
    probes = {kind: own[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {kind: {"path": "/readyz" if kind == "readiness" else "/livez", "port": "ops"} for kind in probes}
    references = {each["name"]: dict(each["valueFrom"]["secretKeyRef"]) for each in own.get("env", [])}
    secrets = SECRETS & set(variables(settings_of(name)))
    for reference in references.values():
        reference.pop("optional", None)
    assert references == {key: {"name": "placar", "key": key} for key in secrets}
    uses = {key for key in template["metadata"]["labels"] if key.startswith("uses.placar/")}
    assert uses == {f"uses.placar/{server}" for server, (group, _) in SERVERS.items() if group in classes}


def test_the_probes_ask_what_the_operations_port_answers() -> None:
    """Both paths are routes of every unit's operations port."""
    routes = ops.application(Readiness(), Metrics("api")).router.routes()
    assert {"/livez", "/readyz"} <= {route.resource.canonical for route in routes if route.resource}


def test_a_service_leads_to_the_port_that_clients_are_told() -> None:
    """Each Service selects pods, names a port of theirs, and is at the host and port of the settings."""
    for name, service in of_kind("Service").items():
        (port,) = service["spec"]["ports"]
        chosen = selects({"matchLabels": service["spec"]["selector"]})
        template = next(pod for pod in pods().values() if pod.get("metadata", {}).get("labels") in chosen)
        (open_,) = [each for each in template["spec"]["containers"][0]["ports"] if each["name"] == port["targetPort"]]
        assert open_["containerPort"] == port["port"]
        if name not in ("api", "ops", "webhooks"):  # what is open to people and providers
            assert any(name in value and port["port"] == port_of(name) for value in SETTINGS.values())


def test_every_setting_is_read_by_somebody_and_every_address_is_given() -> None:
    """No variable is a typing error, and no unit expects a server on its own pod."""
    read_by_units = {key: value for name in HERE for key, value in variables(settings_of(name)).items()}
    others = {*bundle.CONFIGURATION, *bundle.STATE_CONFIGURATION, *variables(TopicSettings)}

    assert set(SETTINGS) - set(read_by_units) - others == set()
    local = {key for key, default in read_by_units.items() if "127.0.0.1" in str(default)}
    assert local - set(SETTINGS) == set()


@pytest.mark.parametrize("name", HERE)
def test_the_settings_of_the_pods_are_accepted_by_the_unit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit's own settings class takes settings.env, and finds no server on its own pod."""
    for key, value in SETTINGS.items():
        monkeypatch.setenv(key, value)

    shown = settings_of(name)().model_dump_json()

    assert "127.0.0.1" not in shown


def parts(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a resource, itself included."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from parts(value)


def test_no_secret_is_written_down() -> None:
    """There is no Secret, no password as a value, and the documented command makes every key that is referred to."""
    everything = [part for one in resources().values() for part in parts(one)]
    keys = {
        (each["secretKeyRef"]["name"], each["secretKeyRef"]["key"]) for each in everything if "secretKeyRef" in each
    }
    made = set(re.findall(r"--from-literal=(\w+)=", DOCS))

    assert of_kind("Secret") == {}
    assert {key for name, key in keys if name != "placar"} == set()
    optional = {"API_LIVE_TOKEN", "SHOPIFY_WEBHOOK_SECRETS", "STRIPE_WEBHOOK_SECRETS", "HUBSPOT_CLIENT_SECRETS"}
    assert {key for _, key in keys} - optional == made
    assert {each["key"] for each in everything if each.get("optional") is True} == optional
    assert all(f"`{key}`" in DOCS for key in optional)
    assert SECRETS & set(SETTINGS) == set()
    named = [
        each for each in everything if re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY|USERNAME", str(each.get("name")))
    ]
    assert len(named) > len(HERE)
    assert [each["name"] for each in named if "secretKeyRef" not in each.get("valueFrom", {})] == []
    text = "".join(path.read_text("utf-8") for path in TREE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert "placar-secret" not in text


def policies() -> dict[str, Resource]:
    """What each network policy says, by name."""
    return {name: each["spec"] for name, each in of_kind("NetworkPolicy").items()}


def test_what_no_policy_allows_is_denied() -> None:
    """One policy denies every pod everything in both directions."""
    assert policies()["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_every_policy_is_about_some_pod() -> None:
    """Each selector of a policy finds a pod; one that finds none would be a typing error."""
    for name, policy in policies().items():
        assert selects(policy["podSelector"]), name
        for rule in (*policy.get("ingress", []), *policy.get("egress", [])):
            for peer in (*rule.get("from", []), *rule.get("to", [])):
                if "namespaceSelector" not in peer:
                    assert selects(peer["podSelector"]), name


def test_operators_are_in_the_namespaces_that_the_documentation_makes() -> None:
    """Every namespace that may come in is one that the steps for kind create."""
    peers = [
        peer
        for policy in policies().values()
        for rule in policy.get("ingress", [])
        for peer in rule.get("from", [])
        if "namespaceSelector" in peer
    ]
    listener = resources()["Kafka", "placar"]["spec"]["kafka"]["listeners"][0]["networkPolicyPeers"]
    named = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in (*peers, *listener)
        if "namespaceSelector" in peer
    }

    assert named == {"keda", "monitoring", "flink-operator", "clickhouse-operator"}
    assert [each for each in named if f"--namespace {each}" not in DOCS] == []


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_is_reached_at_the_port_of_the_settings(server: str) -> None:
    """Whoever uses a server may leave for its port, and the server lets them in there."""
    user = {"matchLabels": {f"uses.placar/{server}": "true"}}
    out = policies()[f"to-{server}"]
    assert selects(user)
    assert out["podSelector"] == user
    assert [port["port"] for rule in out["egress"] for port in rule["ports"]] == [port_of(server)]
    if server == "kafka":
        (listener,) = resources()["Kafka", "placar"]["spec"]["kafka"]["listeners"]
        arrives = [(listener["networkPolicyPeers"], [listener["port"]])]
    elif server == "prometheus":  # in a namespace that is not ours
        return
    else:
        arrives = [(rule["from"], [port["port"] for port in rule["ports"]]) for rule in policies()[server]["ingress"]]
    assert any({"podSelector": user} in peers and ports == [port_of(server)] for peers, ports in arrives)


def confined() -> Iterator[tuple[Any, Resource, list[Resource]]]:
    """Each pod's name, its specification and its containers' security contexts; Strimzi's from its own templates."""
    for key, template in pods().items():
        yield key, template["spec"], [each["securityContext"] for each in template["spec"]["containers"]]
    kafka = resources()["Kafka", "placar"]["spec"]
    connect = resources()["KafkaConnect", "placar"]["spec"]["template"]
    for template, name in (
        (kafka["kafka"]["template"], "kafkaContainer"),
        (kafka["entityOperator"]["template"], "topicOperatorContainer"),
        (connect, "connectContainer"),
    ):
        yield name, template["pod"], [template[name]["securityContext"]]


def test_every_pod_keeps_to_the_restricted_standard() -> None:
    """No root, no new privileges, a read-only root file system, no token, no variables of other Services."""
    for key, pod, containers in confined():
        assert pod["securityContext"]["runAsNonRoot"] is True, key
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, key
        # a Service named kafka would else set KAFKA_PORT to an address
        assert pod["enableServiceLinks"] is False, key
        assert containers == [RESTRICTED] * len(containers), key
        if "containers" in pod:  # Strimzi decides the account and the token of its own
            assert pod["securityContext"]["runAsUser"] > 0, key
            assert pod["automountServiceAccountToken"] is (key[0] == "FlinkDeployment"), key


def sized() -> Iterator[tuple[tuple[str, str], int, Resource]]:
    """Whose resources, in how many copies at least, and which."""
    autoscaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"].get("minReplicaCount") or each["spec"]["minReplicas"]
        for each in of_kind("ScaledObject", "HorizontalPodAutoscaler").values()
    }
    for key, template in pods().items():
        if key[0] in ("Deployment", "StatefulSet", "ClickHouseInstallation"):
            copies = resources()[key]["spec"].get("replicas", autoscaled.get(key[1], 1))
            for each in template["spec"]["containers"]:
                yield key, copies, each["resources"]
    pool = resources()["KafkaNodePool", "broker"]["spec"]
    yield ("KafkaNodePool", "broker"), pool["replicas"], pool["resources"]
    operator = resources()["Kafka", "placar"]["spec"]["entityOperator"]["topicOperator"]
    yield ("Kafka", "placar"), 1, operator["resources"]
    connect = resources()["KafkaConnect", "placar"]["spec"]
    yield ("KafkaConnect", "placar"), connect["replicas"], connect["resources"]


def test_every_container_asks_for_what_it_needs() -> None:
    """A request of CPU and memory, and a limit of memory that is no less."""
    for key, _, each in sized():
        assert each["requests"]["cpu"], key
        assert mebibytes(each["requests"]["memory"]) <= mebibytes(each["limits"]["memory"]), key


def test_the_ingestion_part_asks_for_no_more_than_4_gib() -> None:
    """Sources to `sales.unified`, three brokers, Connect and the registry included, at the least number of replicas."""
    requests = {
        key: copies * mebibytes(each["requests"]["memory"]) for key, copies, each in sized() if key in INGESTION
    }

    assert set(requests) == INGESTION
    assert sum(requests.values()) <= 4 * 1024
    assert f"{sum(requests.values()):,.0f} MiB" in DOCS


def test_a_disruption_leaves_somebody_or_a_reason_is_stated() -> None:
    """Each Deployment has a budget for its own pods, or says why not."""
    budgets = {json.dumps(each["spec"]["selector"]) for each in of_kind("PodDisruptionBudget").values()}
    for name, each in of_kind("Deployment").items():
        reason = each["metadata"].get("annotations", {}).get("placar/no-disruption-budget")
        assert (json.dumps(each["spec"]["selector"]) in budgets) != bool(reason), name
    for name, each in of_kind("PodDisruptionBudget").items():
        assert selects(each["spec"]["selector"]), name


def test_what_must_be_alone_is_never_two() -> None:
    """A Deployment of one replica ends before its successor begins, and says why; the others are scaled."""
    scaled = {
        each["spec"]["scaleTargetRef"]["name"] for each in of_kind("ScaledObject", "HorizontalPodAutoscaler").values()
    }
    for name, each in of_kind("Deployment").items():
        spec, why = each["spec"], each["metadata"].get("annotations", {}).get("placar/single")
        if name in scaled:
            assert "replicas" not in spec
            assert not why
        else:
            assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"}), name
            assert why, name
    assert scaled == {*STREAMS, "api", "webhooks"}


@pytest.mark.parametrize("name", STREAMS)
def test_a_streams_unit_follows_the_lag_of_its_own_topic(name: str) -> None:
    """The group and topic are the unit's, and there are never more workers than partitions."""
    module = importlib.import_module(f"{UNITS[name][0]}.agents")
    agent = module.agent(settings_of(name)())
    scaled = resources()["ScaledObject", name]["spec"]
    (trigger,) = scaled["triggers"]

    assert trigger["metadata"]["topic"] == agent.consumes
    assert trigger["metadata"]["consumerGroup"] == name
    assert trigger["metadata"]["bootstrapServers"].startswith(f"{SETTINGS['KAFKA_HOST']}.placar.svc:")
    assert scaled["maxReplicaCount"] == catalogue()[agent.consumes].partitions


@pytest.mark.parametrize("name", HERE)
def test_a_unit_has_time_to_drain(name: str) -> None:
    """SIGKILL comes later than the slowest stop of the chassis: drain, cancellation, last lineage events."""
    spec = deployed(name)["spec"]["template"]["spec"]
    before = container(deployed(name)).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

    slowest = max(STOP_TIMEOUT_S, DRAIN_S) + unit.STOP_PATIENCE_S + lineage.CLOSE_S
    assert spec["terminationGracePeriodSeconds"] - before >= 1.5 * slowest


def test_the_generated_manifests_are_current() -> None:
    """`task kubernetes:generate` would change nothing."""
    old = [path.name for path, text in generate.files().items() if path.read_text("utf-8") != text]
    assert not old, f"run ./taskw kubernetes:generate for {', '.join(old)}"


def test_a_topic_has_a_copy_on_each_broker_of_the_cluster() -> None:
    """Each topic of the catalogue, and of each window length, is the cluster's, in as many copies as it has brokers."""
    replicas = resources()["KafkaNodePool", "broker"]["spec"]["replicas"]
    (cluster,) = of_kind("Kafka")
    topics = of_kind("KafkaTopic")

    assert set(topics) == set(catalogue(window_lengths(SETTINGS["RANKING_WINDOWS"])))
    assert {each["spec"]["replicas"] for each in topics.values()} == {replicas}
    assert {each["metadata"]["labels"]["strimzi.io/cluster"] for each in topics.values()} == {cluster}


def test_watcher_and_strimzi_want_the_same_connector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither would change what the other has made, and the password is in neither's configuration."""
    monkeypatch.setenv("POSTGRES_PASSWORD", "not-to-be-seen")
    template = (TREE / "base" / "servers" / "sales-postgres.json").read_text("utf-8")
    natively = json.loads((ROOT / generate.CONNECTOR).read_text("utf-8"))
    spec = resources()["KafkaConnector", "sales-postgres"]["spec"]

    wanted = configuration(template, WatcherSettings().values)

    assert wanted == {**spec["config"], "connector.class": spec["class"], "tasks.max": str(spec["tasksMax"])}
    assert "not-to-be-seen" not in json.dumps(wanted)
    assert set(wanted) == set(natively)
    changed = {key for key, text in natively.items() if wanted[key] != text and "$" not in text}
    assert changed == {"topic.creation.default.replication.factor"}
    named = set(re.findall(r"\$\{env:(\w+)\}", json.dumps(wanted)))
    given = resources()["KafkaConnect", "placar"]["spec"]["template"]["connectContainer"]["env"]
    assert named == {each["name"] for each in given}


def test_the_alerts_are_those_of_deploy_prometheus() -> None:
    """Every rule is there; only what the reconciler of the job reports natively is reported by Flink."""
    groups_ = resources()["PrometheusRule", "placar"]["spec"]["groups"]
    here = [rule for group in groups_ for rule in group["rules"]]
    natively = [
        {**rule, "expr": rule["expr"].strip()}
        for name in ("recording", "alerts")
        for group in generate.groups_of(name)
        for rule in group["rules"]
    ]

    assert len({group["name"] for group in groups_}) == len(groups_)
    differ = [
        (one, {**one, "expr": other["expr"]} == other)
        for one, other in zip(here, natively, strict=True)
        if one != other
    ]
    assert [(one["alert"], only_by_expression) for one, only_by_expression in differ] == [("FlinkJobNotRunning", True)]


def test_the_monitors_find_what_they_scrape() -> None:
    """Each selects pods, and the port that it names is one of theirs where a manifest of ours opens it."""
    ours = {"unit", "server"}
    for name, each in of_kind("PodMonitor").items():
        assert selects(each["spec"]["selector"]), name
        (endpoint,) = each["spec"]["podMetricsEndpoints"]
        assert endpoint["interval"] == "15s"
        chosen = selects(each["spec"]["selector"])
        for pod in pods().values():
            given = pod.get("metadata", {}).get("labels", {})
            if given in chosen and (given.get("app.kubernetes.io/component") in ours or name == "ranking"):
                named = {port["name"] for one in pod["spec"]["containers"] for port in one["ports"]}
                assert endpoint["port"] in named, name


# what the cluster itself decides here: addresses, ports, folders, sizes of processes, and Flink's own metrics
FLINK_DECIDED_HERE = (
    "jobmanager.rpc.*", "*bind-host", "taskmanager.host", "rest.*", "blob.server.port", "*.memory.process.size",
    "taskmanager.load-balance.mode", "taskmanager.numberOfTaskSlots", "parallelism.default", "*-dir", "*.dir", "*.dirs",
    "metrics.*", "python.*", "jobmanager.memory.jvm-overhead.*", "high-availability.*", "kubernetes.*",
)  # fmt: skip


def test_flink_is_configured_as_natively() -> None:
    """What deploy/flink/config.yaml says holds here too, but for what a cluster decides."""
    text = (ROOT / "deploy" / "flink" / "config.yaml").read_text("utf-8")
    natively = {key: value.strip().strip('"') for key, value in re.findall(r"^([a-z][\w.-]+): (.*)$", text, re.M)}
    natively["env.java.opts.all"] = natively["env.java.opts.all"].split(" -Djava.io.tmpdir")[0]
    natively["env.java.opts.taskmanager"] = f"-XX:+UseParallelGC {TABLE.words['HOT']}"
    here = {
        key: str(value)
        for key, value in resources()["FlinkDeployment", "ranking"]["spec"]["flinkConfiguration"].items()
    }

    def common(values: Mapping[str, str]) -> dict[str, str]:
        return {k: v for k, v in values.items() if not any(fnmatch(k, each) for each in FLINK_DECIDED_HERE)}

    assert common(here) == common(natively)


def test_the_ranking_job_has_two_taskmanagers_and_goes_on_from_its_state() -> None:
    """Two slots, one in each TaskManager; a change is taken over with a savepoint, a dead JobManager's job resumed."""
    spec = resources()["FlinkDeployment", "ranking"]["spec"]
    flink = spec["flinkConfiguration"]
    mounts = {each["mountPath"] for each in spec["podTemplate"]["spec"]["containers"][0]["volumeMounts"]}

    assert spec["job"]["parallelism"] / int(flink["taskmanager.numberOfTaskSlots"]) == 2
    assert (spec["job"]["upgradeMode"], spec["job"]["state"]) == ("savepoint", "running")
    assert spec["job"]["args"][-2:] == ["-pym", "flink.ranking.job"]
    assert flink["high-availability.type"] == "kubernetes"
    for key in ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "high-availability.storageDir"):
        assert Path(flink[key].removeprefix("file://")).parent in {Path(each) for each in mounts}, key


def test_clickhouse_is_configured_as_natively() -> None:
    """Cache, memory, time zone and the user's rights are those of deploy/clickhouse."""
    folder = ROOT / "deploy" / "clickhouse"
    config, users = (
        ET.fromstring(  # noqa: S314 - our own files
            re.sub(r"\$\{(\w+)\}", r"\1", (folder / name).read_text("utf-8")).replace("CLICKHOUSE_LOG_LEVEL", "warning")
        )
        for name in ("config.xml", "users.xml")
    )
    here = resources()["ClickHouseInstallation", "placar"]["spec"]["configuration"]

    for key in ("mark_cache_size", "timezone", "logger/level", "logger/console"):
        assert here["settings"][key] == config.findtext(key)
    assert here["profiles"]["default/max_memory_usage"] == users.findtext("profiles/default/max_memory_usage")
    user = users.find("users/CLICKHOUSE_USER")
    assert user is not None
    for key in ("networks/ip", "profile", "quota"):
        assert here["users"][f"{SETTINGS['CLICKHOUSE_USER']}/{key}"] == user.findtext(key)


def test_the_brokers_and_connect_are_configured_as_natively() -> None:
    """But for the number of copies, and what Strimzi decides."""

    def properties(name: str) -> dict[str, str]:
        lines = (ROOT / "deploy" / name).read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    worker = properties("connect/worker.properties")
    connect = resources()["KafkaConnect", "placar"]["spec"]
    here = {key: str(value) for key, value in connect["config"].items() if not key.startswith("config.providers")}
    fields = {
        "group.id": "groupId",
        "config.storage.topic": "configStorageTopic",
        "offset.storage.topic": "offsetStorageTopic",
        "status.storage.topic": "statusStorageTopic",
    }
    decided = {"bootstrap.servers", "listeners", "rest.advertised.host.name", "rest.advertised.port", "plugin.path"}
    assert {key: connect[field] for key, field in fields.items()} == {key: worker[key] for key in fields}
    assert set(here) == set(worker) - set(fields) - decided
    differ = {key for key in here if here[key] != worker[key]}
    assert differ == {f"{each}.storage.replication.factor" for each in ("config", "offset", "status")}
    brokers = resources()["Kafka", "placar"]["spec"]["kafka"]["config"]
    assert (
        str(brokers["auto.create.topics.enable"]).lower()
        == properties("kafka/server.properties")["auto.create.topics.enable"]
    )
    assert brokers["default.replication.factor"] == int(SETTINGS["KAFKA_REPLICAS"]) > brokers["min.insync.replicas"]


def test_every_image_has_a_version() -> None:
    """Others' in the manifest, ours by kustomize; none is whatever is newest."""
    tags = {
        each["name"]: each["newTag"]
        for each in yaml.safe_load((TREE / "base" / "kustomization.yaml").read_text("utf-8"))["images"]
    }
    assert set(tags) == {"placar/units", "placar/flink", "placar/kafka", "placar/connect"}
    named = {each["image"] for one in resources().values() for each in parts(one) if isinstance(each.get("image"), str)}
    for image in named:
        name, _, tag = image.partition(":")
        assert re.match(r"\d", tag or tags.get(name, "")), image


@pytest.mark.parametrize(
    "key",
    [key for key, each in resources().items() if each["apiVersion"] == "v1" or each["apiVersion"].startswith(CORE)],
)
def test_a_resource_of_kubernetes_own_fits_its_schema(key: tuple[str, str]) -> None:
    """Every field is one that this version of Kubernetes knows, with a value of its type."""
    kubernetes_validate.validate(dict(resources()[key]), KUBERNETES, strict=True)


def test_a_resource_of_an_operator_must_fit_its_definition() -> None:
    """A field or a value that the definition does not know is an error that names the resource and the field."""
    properties = {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}
    spec = {"group": "kafka.strimzi.io", "names": {"kind": "Kafka"}, "versions": [version]}
    definitions = schemas(iter([yaml.safe_dump({"kind": "CustomResourceDefinition", "spec": spec})]))
    kafka = {"apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": {"name": "placar"}}
    others = [
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"},
        {"apiVersion": "apps/v1", "kind": "Deployment"},
    ]

    tree = yaml.safe_dump_all([{**kafka, "spec": {"replicas": 3}}, *others])
    assert check(tree, definitions) == "1 resources of operators are valid; no definition of ScaledObject"
    for wrong in ({"replicas": "three"}, {"replicsa": 3}):
        with pytest.raises(ValidationError, match=r"Kafka placar: \$\.spec.*repli|Kafka placar: .*three"):
            check(yaml.safe_dump({**kafka, "spec": wrong}), definitions)
