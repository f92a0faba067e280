"""Writes the servers' configuration and the supervisor's into the state folder, from the templates in deploy/."""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.native import postgres, webhook_secrets
from deploy.native.processes import Process, environment, values
from deploy.native.settings import PORTS, ROOT, NativeSettings
from deploy.native.table import CONFIGURATION, TABLE, fill

# the host of a process, by its name
Host = Callable[[str], str]

# scratch files of servers, which a killed server leaves behind
SCRATCH = ("run/flink", "run/java")
FOLDERS = (
    "data",
    "logs",
    "logs/flink",
    "run",
    *SCRATCH,
    "lineage",
    "flink/checkpoints",
    "flink/savepoints",
    "data/s3",
)

# the settings of ours in the caller's environment: a changed one restarts the processes (a secret of webhooks only the
# unit that the table gives it to)
SETTING_PREFIXES = (
    "API_", "BIND_", "CDC_", "CLICKHOUSE_", "CONNECT_", "FILES_", "FILE_POLLER_", "FLINK_", "KAFKA_", "LEGACY_",
    "LINEAGE_", "LOG_LEVEL", "MARQUEZ_", "OPS_", "POSTGRES_", "PROMETHEUS_", "RANKING_", "REJECTED_", "REPORTING_",
    "S3_", "SCHEMA_REGISTRY_", "SERVER_EXPORTER_", "SHOPIFY_", "STRIPE_", "WEBHOOKS_",
)  # fmt: skip


def targets(settings: NativeSettings, host: Host) -> list[dict[str, Any]]:
    """What Prometheus scrapes, in the form of its file_sd: `job` is the kind of server, `instance` the process."""
    scraped = {f"{unit.upper()}_OPS_PORT": "unit" for unit in TABLE.units}
    for server in TABLE.servers.values():
        scraped.update(server.scraped)
    absent = TABLE.without(settings.profiles)
    return [
        {
            "targets": [f"{host(PORTS[port][1])}:{settings.ports[port]}"],
            "labels": {"job": job, "instance": PORTS[port][1]},
        }
        for port, job in scraped.items()
        if PORTS[port][1] not in absent
    ]


def alertmanagers(settings: NativeSettings, host: Host) -> list[dict[str, Any]]:
    """Where Prometheus sends alerts."""
    return [{"targets": [f"{host('alertmanager')}:{settings.ports['ALERTMANAGER_PORT']}"]}]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


def configuration(settings: NativeSettings, processes: Sequence[Process]) -> Path:
    """Write everything; returns the supervisor's configuration file.

    Raises:
        KeyError: a template names a value that does not exist.
    """
    state = settings.state_dir
    for folder in FOLDERS:
        (state / folder).mkdir(parents=True, exist_ok=True)
    filled = values(settings)
    servers(settings, filled, lambda _: settings.bind_host)
    _postgres(settings, filled)
    path = state / "conf" / "supervisord.conf"
    _write(path, _supervisor(settings, processes))
    return path


def servers(settings: NativeSettings, filled: Mapping[str, str], host: Host) -> None:
    """The files of every server but Postgres, filled with these values; `host` names where a process is found.

    Raises:
        KeyError: a template names a value that does not exist.
    """
    conf = settings.state_dir / "conf"
    for name in CONFIGURATION:
        _write(conf / name, template(name, filled))
    for name, addresses in (("targets", targets(settings, host)), ("alertmanagers", alertmanagers(settings, host))):
        _write(conf / "prometheus" / f"{name}.json", json.dumps(addresses, indent=1))
    client_log = Path(filled["FLINK_HOME"]) / "conf" / "log4j-cli.properties"
    _write(conf / "flink" / client_log.name, client_log.read_text("utf-8"))


def template(name: str, filled: Mapping[str, str]) -> str:
    """The text of a file of deploy/ with its ${NAME} filled in."""
    return fill((ROOT / "deploy" / name).read_text("utf-8"), filled)


def _postgres(settings: NativeSettings, filled: Mapping[str, str]) -> None:
    """Postgres' own folder, with its script and configuration beside the data: its account may not enter ours."""
    folder = postgres.data_dir(settings).parent
    postgres.own(folder)
    start = (ROOT / "deploy" / "postgres" / "start.sh").read_text("utf-8")
    configured = template("postgres/postgresql.conf", filled)
    for name, text, mode in (("postgresql.conf", configured, 0o644), ("start.sh", start, 0o755)):
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(mode)


def _supervisor(settings: NativeSettings, processes: Sequence[Process]) -> str:
    state = settings.state_dir
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(SETTING_PREFIXES) and name not in webhook_secrets.NAMES
    }
    text = template("native/supervisord.conf", {"SOCKET": str(settings.socket), "STATE": str(state), "ROOT": str(ROOT)})
    for process in processes:
        script = state / "conf" / "processes" / f"{process.name}.sh"
        _write(script, _script(process, {**ours, **environment(settings), **process.environment}))
        program = {
            "NAME": process.name,
            # the supervisor expands % in its configuration
            "COMMAND": shlex.join(["/bin/sh", str(script)]).replace("%", "%%"),
            "DIRECTORY": process.directory,
            "DIGEST": digest([script, *(state / "conf" / name for name in process.configuration)]),
            "SIGNAL": process.stop_signal,
            "AS_GROUP": "false" if process.stop_signal == "INT" else "true",
            "STATE": str(state),
        }
        text += template("native/program.conf", program)
    return text


def digest(files: Sequence[Path]) -> str:
    """A digest of the contents of files, in their order."""
    sha256 = hashlib.sha256()
    for path in files:
        sha256.update(path.read_bytes())
    return sha256.hexdigest()


def _script(process: Process, variables: Mapping[str, str]) -> str:
    """A script that becomes the process: a shell reads any value, the supervisor's own syntax does not."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    return "\n".join(["#!/bin/sh", *exports, f"exec {shlex.join(process.command)}", ""])
