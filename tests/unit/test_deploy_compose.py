"""compose.yaml: valid, complete, and consistent with the native runtime, the settings and the images."""

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic_settings import BaseSettings

from chassis.settings import (
    ClickHouseSettings,
    KafkaSettings,
    PostgresSettings,
    RankingSettings,
    RegistrySettings,
    load,
)
from deploy import compose, containers
from deploy.native import jars
from deploy.native.processes import UNITS, Process, Step, processes, steps
from deploy.native.settings import PORTS, ROOT, NativeSettings
from deploy.native.table import TABLE
from flink.ranking import configuration as job
from tests.unit.test_deploy_settings import DOCUMENTED

FILE = ROOT / "compose.yaml"
TEXT = FILE.read_text("utf-8")
SERVICES: Mapping[str, Any] = yaml.safe_load(TEXT)["services"]
IMAGES = ROOT / "deploy" / "images"
ONLY_HERE = {"configuration", "grafana", "marquez", "marquez-database", "marquez_web", "traffic"}
ONE_SHOT = {name for name, service in SERVICES.items() if service["healthcheck"].get("disable")}
LIMIT_MIB = 8 * 1024
INSIDE = {
    "KAFKA_CONTROLLER_PORT", "CLICKHOUSE_INTERSERVER_PORT", "FLINK_RPC_PORT", "FLINK_BLOB_PORT",
    *(name for name in PORTS if name.startswith("FLINK_TASKMANAGER") and not name.endswith("METRICS_PORT")),
    *(name for name in PORTS if name.startswith("S3_") and name not in {"S3_PORT", "S3_METRICS_PORT"}),
}  # fmt: skip
"""Ports that are not needed outside the containers."""
DOCUMENTED_BY_THE_IMAGE = {
    "postgres": {"POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"},
    "registry": {
        "APICURIO_STORAGE_KIND", "APICURIO_STORAGE_SQL_KIND", "APICURIO_DATASOURCE_URL",
        "APICURIO_DATASOURCE_USERNAME", "APICURIO_DATASOURCE_PASSWORD", "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE",
        "APICURIO_DATASOURCE_JDBC_MIN_SIZE", "APICURIO_DATASOURCE_JDBC_MAX_SIZE",
    },
    "s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOMEMLIMIT"},
    "clickhouse": {"CLICKHOUSE_WATCHDOG_ENABLE"},
    "jobmanager": {"PATH", "FLINK_ENV_JAVA_OPTS_JM"},
    "taskmanager1": {"PATH", "FLINK_ENV_JAVA_OPTS_TM"},
    "taskmanager2": {"PATH", "FLINK_ENV_JAVA_OPTS_TM"},
    "marquez-database": {"PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD"},
    "marquez_web": {"MARQUEZ_HOST", "MARQUEZ_PORT", "WEB_PORT"},
}  # fmt: skip
GRAFANA = re.compile(r"PROMETHEUS_URL|GF_[A-Z_]+")
SET_BY_THE_IMAGE = {"PLACAR_HOME", "PLACAR_STATE", "FLINK_HOME"}


def variables(settings: type[BaseSettings]) -> Iterator[str]:
    """Each variable that a settings class and its groups read."""
    prefix = settings.model_config.get("env_prefix", "")
    for field, info in settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseSettings):
            yield from variables(kind)
        else:
            yield str(info.validation_alias or f"{prefix}{field}").upper()


def of_module(module: str) -> set[str]:
    """The variables that a unit reads."""
    folder = importlib.import_module(f"{module}.settings")
    own = [
        each
        for each in vars(folder).values()
        if isinstance(each, type) and issubclass(each, BaseSettings) and each.__module__ == folder.__name__
    ]
    return {name for each in own for name in variables(each)}


class Queried(dict[str, str]):
    """An environment that notes what it is queried for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        """The default of every variable."""
        self.names.add(name)
        return default


def read_by(name: str) -> set[str]:
    """The variables that a service of ours reads."""
    queried = Queried()
    job.read(queried)
    internal = {"RANKING_SHADOW", "RANKING_STATE_SINCE_MS"}
    steps_read: Mapping[str, set[str]] = {
        "configuration": {*variables(NativeSettings), "FLINK_REST_HOST"},
        "postgres-schema": set(variables(PostgresSettings)),
        "contracts": {*variables(KafkaSettings), *variables(RegistrySettings), *variables(RankingSettings)},
        "tables": {*variables(ClickHouseSettings), *variables(RankingSettings)},
        "seed": of_module("tools.traffic"),
        "traffic": of_module("tools.traffic"),
        "connector": of_module("services.connect_watcher"),
        "ranking-job": of_module("services.flink_watcher") | queried.names - internal,
        "flink_watcher": of_module("services.flink_watcher") | queried.names - internal,
    }
    return steps_read[name] if name in steps_read else of_module(UNITS[name][0])


def words(service: Mapping[str, Any]) -> list[str]:
    """Entry point and command, as given."""
    return [*service.get("entrypoint", []), *service.get("command", [])]


def test_the_file_keeps_to_the_compose_specification() -> None:
    """The schema of the specification accepts it."""
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"

    jsonschema.validate(yaml.safe_load(TEXT), json.loads(schema.read_text("utf-8")))


def test_both_runtimes_have_the_same_servers_steps_and_units(settings: NativeSettings) -> None:
    """Every native process is a service of the same name, and the services that are only here are known."""
    native = {process.name for process in processes(settings)} | {step.name for step in steps(settings)}

    assert native == set(SERVICES) - ONLY_HERE
    assert {step.name for step in steps(settings)} == ONE_SHOT - ONLY_HERE


def test_whatever_needs_something_natively_waits_for_it_here(settings: NativeSettings) -> None:
    """Each need is a condition, of health or of completion, at the service or at one that it waits for."""
    nodes: list[Process | Step] = [*processes(settings), *steps(settings)]

    def waits_for(name: str) -> set[str]:
        needs = SERVICES[name].get("depends_on", {})
        return set(needs).union(*(waits_for(need) for need in needs))

    for node in nodes:
        assert set(node.needs) <= waits_for(node.name), node.name
    for name, service in SERVICES.items():
        for need, how in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if need in ONE_SHOT else "service_healthy"
            assert how == {"condition": done}, (name, need)


def test_a_service_needs_only_what_its_profile_starts() -> None:
    """Each profile can be started with core alone, or without it where it needs nothing of it."""
    for name, service in SERVICES.items():
        for need in service.get("depends_on", {}):
            assert {"core", *service["profiles"]} & set(SERVICES[need]["profiles"]), (name, need)
    assert {profile for service in SERVICES.values() for profile in service["profiles"]} == {
        "core", "observability", "marquez", "dev", *TABLE.profiles,
    }  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_watched(name: str) -> None:
    """Health check, memory limit, own account, no capability, read-only root, and a restart after a failure."""
    service = SERVICES[name]

    assert service["mem_limit"].endswith("m")
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["networks"]
    if name in ONE_SHOT:
        assert service["restart"].startswith("on-failure")
        assert any(name in other.get("depends_on", {}) for other in SERVICES.values()), "no service waits for its end"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


def test_memory_is_limited_to_eight_gibibytes() -> None:
    """The limits of all that stays, but for profiles to be chosen, fit; what ends takes no more than what awaits it."""
    limit = {name: int(service["mem_limit"].removesuffix("m")) for name, service in SERVICES.items()}

    def waiting(step: str) -> set[str]:
        direct = {name for name, service in SERVICES.items() if step in service.get("depends_on", {})}
        return direct.union(*(waiting(name) for name in direct))

    chosen = {name for name, service in SERVICES.items() if set(service["profiles"]) <= {*TABLE.profiles}}
    total = sum(limit[name] for name in set(SERVICES) - ONE_SHOT - chosen)
    assert total <= LIMIT_MIB, f"mem_limit in compose.yaml: {total} MiB; lower one, or raise this and docs/runtimes.md"
    for step in ONE_SHOT:
        assert limit[step] <= sum(limit[name] for name in waiting(step) - ONE_SHOT), step


def test_images_are_pinned() -> None:
    """Every image has a version, none is `latest`, and each of ours is built from one Dockerfile."""
    built = {(service["image"], service["build"]["dockerfile"]) for service in SERVICES.values() if "build" in service}
    own = {service["image"] for service in SERVICES.values() if service["image"].startswith(compose.OWN)}

    assert sorted(image for image, _ in built) == sorted(own)
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-z/]+[a-z-]*:(v?\d+\.\d+[.\w-]*|\$\{PLACAR_VERSION:-[\d.]+\})", service["image"]), name
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        if service["image"] in own:
            assert service["pull_policy"] == "never"


def test_every_mounted_file_exists_and_every_volume_is_declared() -> None:
    """No mount makes an empty folder by mistake, and no volume is left over."""
    named = set()
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert mount.endswith(":ro"), f"{name}: {mount}"
            else:
                named.add(source)
        for watch in service.get("develop", {}).get("watch", []):
            assert (ROOT / watch["path"]).is_dir()
            assert watch["action"] == "rebuild"
            assert "build" in service
    assert named == set(yaml.safe_load(TEXT)["volumes"])
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(
        yaml.safe_load(TEXT)["networks"]
    )


@pytest.mark.parametrize("name", [*UNITS, *sorted(ONE_SHOT - {"marquez-database"}), "traffic"])
def test_a_unit_is_given_its_settings_and_nothing_else(name: str) -> None:
    """Each variable is read, and each setting can be made; ports are fixed inside, where each container has its own."""
    given = set(SERVICES[name]["environment"])
    known = read_by(name)

    assert given <= known
    if name != "configuration":  # of the servers' files; what else the native runtime reads has no meaning here
        assert known - given - SET_BY_THE_IMAGE - set(PORTS) == set()


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(UNITS) - ONE_SHOT | {"marquez-database"}))
def test_a_server_is_given_only_what_its_image_documents(name: str) -> None:
    """No variable is made up."""
    given = set(SERVICES[name].get("environment", {}))

    if name == "grafana":
        assert all(GRAFANA.fullmatch(variable) for variable in given)
    elif name == "marquez":
        text = (ROOT / "deploy" / "marquez" / "marquez.yml").read_text("utf-8")
        assert given == {"MARQUEZ_CONFIG", "JAVA_OPTS", *re.findall(r"\$\{(\w+)\}", text)}
    elif name != "traffic":
        assert given == DOCUMENTED_BY_THE_IMAGE.get(name, set())


def test_every_port_is_published_where_its_setting_says() -> None:
    """`BIND_HOST:SETTING:default` of the process that owns it, for every port that is used from outside."""
    published = set()
    for name, service in SERVICES.items():
        for mapping in service.get("ports", []):
            match = re.fullmatch(r"\$\{BIND_HOST:-127\.0\.0\.1\}:\$\{(\w+):-(\d+)\}:(\d+)", mapping)
            assert match, f"{name}: {mapping}"
            setting, default, inside = match.groups()
            published.add(setting)
            assert DOCUMENTED[setting] == default
            if setting in PORTS:
                assert PORTS[setting] == (int(default), name)
            assert inside == default or (setting == "KAFKA_PORT" and f"HOST://0.0.0.0:{inside}" in TEXT)
    assert published == set(PORTS) - INSIDE | {"GRAFANA_PORT", "MARQUEZ_UI_PORT"}


def test_a_unit_runs_its_module_and_is_asked_at_its_operations_port(settings: NativeSettings) -> None:
    """The same module as natively, and the same question for its health."""
    for name, (module, _) in UNITS.items():
        port = PORTS[f"{name.upper()}_OPS_PORT"][0]
        assert words(SERVICES[name])[-1] == module
        assert SERVICES[name]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/readyz"
    for step in steps(settings):
        assert ["python", *step.command[1:]] == words(SERVICES[step.name])


def test_every_python_module_of_a_command_exists() -> None:
    """Every module of `python -m` exists, in the image's copy of the tree too."""
    for name, service in SERVICES.items():
        command = words(service)
        modules = [command[at + 1] for at, word in enumerate(command[:-1]) if word == "-m"] or (
            command if "/units" in service["image"] else []
        )
        for module in modules:
            spec = importlib.util.find_spec(module)
            assert spec is not None, f"{name}: {module}"
            assert spec.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__"), module
    for service in SERVICES.values():
        for script in re.findall(r"deploy/\w+\.py", str(service["healthcheck"])):
            assert (ROOT / script).is_file()


def test_every_variable_of_the_file_is_documented_with_its_default() -> None:
    """What the file fills in has the default of .env.example, or the address of a service instead of this machine's."""
    references = set(re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}", TEXT))
    elsewhere = {
        "S3_ENDPOINT": "http://s3:9000",
        "LINEAGE_URL": "http://lineage:5000",
        "PROMETHEUS_URL": "http://prometheus:9090",
        **dict.fromkeys(compose.configuration_digests(), ""),
    }

    assert dict(references) == {name: elsewhere.get(name, DOCUMENTED.get(name)) for name, _ in references}
    handed_on = {
        name for service in SERVICES.values() for name, value in service.get("environment", {}).items() if value is None
    }
    assert handed_on <= set(DOCUMENTED)


def test_java_servers_run_as_natively(settings: NativeSettings) -> None:
    """The same heap, the same options, the agent that the lock names at the port that Prometheus asks."""
    dockerfile = (IMAGES / "kafka.Dockerfile").read_text("utf-8")
    agent = next(path for path in jars.read_lock(jars.LOCK.read_text("utf-8")) if path.startswith("agent/"))

    shared = {name: text.split() for name, text in TABLE.words.items()}

    assert " ".join(shared["JAVA"][1:]) in dockerfile
    assert f"AGENT=/opt/placar/jars/{agent}" in dockerfile
    for server in processes(settings):
        text = " ".join(words(SERVICES[server.name])) + str(SERVICES[server.name].get("environment", ""))
        own = " ".join((*server.command, *server.environment.values()))
        for option in set(re.findall(r"-X(?:mx\w+|X:[+\w=]+)", own)) - set(shared["JAVA"]):
            assert option in text, server.name
        for option in (shared["QUICK"][0], *shared["HOT"]):
            assert (option in own) == (option in text), server.name
        if "-javaagent" in own:
            ports = {str(port) for name, (port, owner) in PORTS.items() if owner == server.name and "METRICS" in name}
            assert set(re.findall(r"=0\.0\.0\.0:(\d+):\S+/jmx\.yml", text)) == ports
            assert "$$AGENT" in text or f"/opt/placar/jars/{agent}" in text


def test_the_object_store_is_told_the_same_as_natively(settings: NativeSettings) -> None:
    """Every flag of the S3 server but those of folders and addresses."""
    (native,) = [process for process in processes(settings) if process.name == "s3"]
    excluded = ("-dir", "-ip", "localSocket")

    def flags(command: list[str]) -> set[str]:
        return {word for word in command if word.startswith("-") and not any(each in word for each in excluded)}

    filled = [word.replace("${S3_BUCKET:-sales-data}", "sales-data") for word in words(SERVICES["s3"])]
    assert flags(filled) == flags(list(native.command))


@pytest.mark.usefixtures("settings")
def test_the_configuration_for_containers_is_whole_and_names_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ${NAME} is filled in, every scraped host is a service, and every file that a service reads is written."""
    for name, value in SERVICES["configuration"]["environment"].items():
        if value is not None:
            monkeypatch.setenv(name, value)
    folder = containers.configuration(load(NativeSettings))

    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = set(re.findall(r"/var/lib/placar/conf/([\w/]+\.\w+)", TEXT)) | {"kafka/jmx.yml", "kafka/server.properties"}
    assert wanted <= written
    for name in written - {"flink/log4j-cli.properties", "prometheus/alerts.yml"}:
        text = (folder / name).read_text("utf-8")
        assert "127.0.0.1" not in text.replace("1@127.0.0.1:9094", "").replace("CONTROLLER://127.0.0.1", "").replace(
            "http://127.0.0.1/", ""
        ), name
        if not name.endswith("jmx.yml") and "prometheus" not in name:
            assert "${" not in text.replace("${sys:", ""), name  # the logging library's own syntax
    targets = json.loads((folder / "prometheus" / "targets.json").read_text("utf-8"))
    assert {each["targets"][0].split(":")[0] for each in targets} <= set(SERVICES)
    assert all(path.stat().st_mode & 0o044 for path in folder.rglob("*"))


def test_the_command_line_is_that_of_the_native_runtime(
    settings: NativeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same words become arguments of docker compose; what it cannot do is rejected."""
    calls: list[tuple[str, ...]] = []

    def record(*arguments: str) -> int:
        calls.append(arguments)
        return 0

    monkeypatch.setattr(compose, "_compose", record)

    assert compose.run(settings, "run", ["connector", "--", "--resnapshot"]) == 0
    assert compose.run(settings, "logs", ["api", "-f", "-n", "5"]) == 0
    assert compose.run(settings, "up", ["--only", "api,cdc"]) == 0
    assert compose.run(settings, "build", []) == 0

    assert calls[0][-2:] == ("connector", "--resnapshot")
    assert calls[1][-4:] == ("--tail", "5", "--follow", "api")
    assert calls[2][-2:] == ("api", "cdc")
    assert compose.run(settings, "up", ["--without", "api"]) == 2
    assert "--without is an option of the native runtime" in capsys.readouterr().err


def folders_of(process: Process) -> set[str]:
    """Whose files of deploy/ a process reads."""
    return {"POSTGRES" if path.startswith("/") else path.partition("/")[0].upper() for path in process.configuration}


def test_a_changed_configuration_file_recreates_the_containers_that_read_it(
    tmp_path: Path, settings: NativeSettings
) -> None:
    """Each server has the digest of its files as a label, of the files that its native process reads."""
    labels = {
        name: set(re.findall(r"\$\{(\w+)_CONFIGURATION:-\}", service["labels"]["placar.configuration"]))
        for name, service in SERVICES.items()
        if "labels" in service
    }
    assert labels == {each.name: folders_of(each) for each in processes(settings) if each.configuration}

    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    before = compose.configuration_digests(tmp_path / "deploy")
    assert set(before) == {f"{name}_CONFIGURATION" for names in labels.values() for name in names}
    with (tmp_path / "deploy" / "clickhouse" / "users.xml").open("a") as file:
        file.write("\n")
    after = compose.configuration_digests(tmp_path / "deploy")
    assert {name for name, value in after.items() if value != before[name]} == {"CLICKHOUSE_CONFIGURATION"}


@pytest.mark.parametrize("path", sorted(IMAGES.glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_an_image_has_a_pinned_base_labels_and_an_account(path: Path) -> None:
    """Each image is built from the one pinned base in stages, has labels, and does not run as root."""
    text = path.read_text("utf-8")
    final = text[text.rindex("\nFROM ") :]

    assert f"ARG BASE={compose.BASE_IMAGE}\n" in text
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= {"${BASE}", "build"}
    for label in ("title", "description", "version", "revision", "base.name"):
        assert f"org.opencontainers.image.{label}=" in final
    assert "\nUSER 10001:10001\n" in final
    assert not re.search(r"apt-get install[^&]*\b(gcc|build-essential|maven|python3-pip|git)\b", final)


def test_the_builder_is_sent_all_that_the_images_copy() -> None:
    """Every file of a COPY is let in by .dockerignore, and nothing secret or large is."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]

    for path in IMAGES.glob("*.Dockerfile"):
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text("utf-8"), re.M):
            for source in sources.split():
                assert source == "." or any(source == each or source.startswith(f"{each}/") for each in kept), source
                assert source == "." or (ROOT / source).exists(), source
    assert all((ROOT / each).exists() for each in kept)
    assert not {".env", ".git", ".placar", "tests"} & set(kept)


def test_the_file_holds_no_secret_but_the_documented_defaults() -> None:
    """Passwords come from the environment."""
    secrets = [line for line in TEXT.splitlines() if re.search(r"PASSWORD|SECRET|TOKEN", line)]

    assert secrets
    for line in secrets:
        handed_on = r"(PASSWORD|TOKEN|SECRET_KEY|_SECRETS): *(\}|,|$)"
        default = r"\$\{(\w+_PASSWORD|S3_SECRET_KEY):-(placar|placar-secret)\}"
        assert re.search(f"{handed_on}|{default}", line), line
