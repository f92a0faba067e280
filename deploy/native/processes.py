"""The processes and steps of processes.yaml, filled in with the settings."""

import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chassis.settings import REGISTRY_DATABASE
from deploy.native import packages, postgres, probes, webhook_secrets
from deploy.native.settings import ROOT, NativeSettings, secret
from deploy.native.table import TABLE, Described, fill

PROBES: Mapping[str, Callable[..., probes.Probe]] = {
    "http": probes.http,
    "kafka": probes.kafka,
    "command": probes.command,
    "taskmanager": probes.taskmanager,
}
CLICKHOUSE_LEVELS = {"debug": "debug", "info": "information", "warning": "warning", "error": "error"}
UNITS: Mapping[str, tuple[str, Sequence[str]]] = {name: (each.module, each.needs) for name, each in TABLE.units.items()}
"""Unit -> its module, and what must be ready first."""


@dataclass(frozen=True)
class Process:
    """Something that the supervisor keeps running; ready when `probe` no longer raises.

    `configuration` names files below the state's conf/ (absolute paths are allowed): a changed one restarts the process
    at the next `up`. `wave` orders the shutdown: 0 stops first.
    """

    name: str
    command: Sequence[str]
    probe: probes.Probe
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: Sequence[str] = ()
    directory: str = str(ROOT)
    stop_signal: str = "TERM"
    wave: int = 0
    profile: str = ""


@dataclass(frozen=True)
class Step:
    """A command that runs once to its end; done when it exits with 0."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    profile: str = ""


Node = Process | Step


def _program(*names: str) -> str:
    """The first of these commands that the machine has, with its path; the last name where it has none."""
    return next(filter(None, (shutil.which(name, path=packages.SEARCH_PATH) for name in names)), names[-1])


def clickhouse_command() -> tuple[str, ...]:
    """The server's command: Debian's binary, or the single binary of the vendor's packages."""
    program = _program("clickhouse-server", "clickhouse")
    return (program,) if program.endswith("clickhouse-server") else (program, "server")


def _jar(settings: NativeSettings, pattern: str) -> str:
    """The one jar of a pattern that the lock fixes; the pattern itself before it is installed."""
    return str(next((settings.home / "jars").glob(pattern), settings.home / "jars" / pattern))


def values(settings: NativeSettings) -> dict[str, str]:
    """What the ${NAME} of the templates in deploy/, and of processes.yaml, are filled with."""
    state, flink = settings.state_dir, settings.home / "flink-venv"
    level = settings.log_level_servers.replace("warning", "warn")  # as Log4j and Prometheus spell it
    return {
        **{name: str(port) for name, port in settings.ports.items()},
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "ROOT": str(ROOT),
        "PLACAR_HOME": str(settings.home),
        "PLUGIN_DIR": str(settings.home / "jars" / "plugins"),
        "AGENT_JAR": _jar(settings, "agent/jmx_prometheus_javaagent-*.jar"),
        "STATE_DIR": str(state),
        "DATA_DIR": str(state / "data"),
        "CONF": str(state / "conf"),
        "BIND_HOST": settings.bind_host,
        "LEVEL": level or "info",
        "LEVEL_UPPER": (level or "info").upper(),
        "LEVEL_QUIET": level or "warn",
        "KAFKA_HOST": settings.kafka.host,
        "CONNECT_HOST": settings.connect.host,
        "REGISTRY_JAR": _jar(settings, "registry/*-runner.jar"),
        "REGISTRY_DATABASE": REGISTRY_DATABASE,
        "POSTGRES_HOST": settings.postgres.host,
        "POSTGRES_USER": settings.postgres.user,
        "POSTGRES_PASSWORD": secret(settings.postgres.password),
        "POSTGRES_BIN": str(postgres.bin_dir()),
        "POSTGRES_DIR": str(postgres.data_dir(settings).parent),
        "WEED": str(Path(sys.executable).parent / "weed"),
        "S3_BUCKET": settings.s3.bucket,
        "S3_ACCESS_KEY": settings.s3.access_key,
        "S3_SECRET_KEY": secret(settings.s3.secret_key),
        "S3_SOCKET": str(settings.unix_socket("s3")),
        "FILER_SOCKET": str(settings.unix_socket("filer")),
        "CLICKHOUSE_LOG_LEVEL": CLICKHOUSE_LEVELS[settings.log_level_servers or "warning"],
        "CLICKHOUSE_USER": settings.clickhouse.user,
        "CLICKHOUSE_PASSWORD_SHA256": hashlib.sha256(secret(settings.clickhouse.password).encode()).hexdigest(),
        "JOBMANAGER_HOST": "127.0.0.1",
        "FLINK_BIND_HOST": "127.0.0.1",
        "FLINK_REST_HOST": os.environ.get("FLINK_REST_HOST", settings.bind_host),
        "FLINK_HOME": str(flink / "lib" / "python3.11" / "site-packages" / "pyflink"),
        "FLINK_PYTHON": str(flink / "bin" / "python"),
        "ALERTMANAGER": _program("prometheus-alertmanager", "alertmanager"),
        # an address must be well-formed even where no alert is sent to it
        "ALERT_RECEIVER": "webhook" if settings.alert_webhook_url else "none",
        "ALERT_WEBHOOK_URL": settings.alert_webhook_url or "http://127.0.0.1/",
        "ALERT_SILENT_HOURS": str(settings.alert_silent_hours),
        **webhook_secrets.known(settings),
    }


class _Filler:
    """Fills in the texts of the table; an unknown ${NAME} in one is a KeyError."""

    def __init__(self, settings: NativeSettings) -> None:
        self._plain = values(settings)
        self._quoted = {name: shlex.quote(value) for name, value in self._plain.items()}
        self._quoted["AS_POSTGRES"] = shlex.join(postgres.account())
        self._quoted["CLICKHOUSE"] = shlex.join(clickhouse_command())
        for known in (self._plain, self._quoted):
            known.update({name: fill(text, known) for name, text in TABLE.words.items()})

    def words(self, text: str) -> tuple[str, ...]:
        """A command as its words."""
        return tuple(shlex.split(fill(text, self._quoted)))

    def text(self, text: str) -> str:
        """Any other text."""
        return fill(text, self._plain)

    def environment(self, described: Described) -> dict[str, str]:
        """The variables of a process."""
        return {name: self.text(value) for name, value in described.environment.items()}


def steps(settings: NativeSettings) -> list[Step]:
    """The one-shot steps."""
    filler = _Filler(settings)
    return [
        Step(name, filler.words(described.command), described.needs, filler.environment(described), described.profile)
        for name, described in TABLE.steps.items()
    ]


def _process(name: str, described: Described, filler: _Filler) -> Process:
    probe, *arguments = filler.words(
        described.probe or f"http http://${{BIND_HOST}}:${{{name.upper()}_OPS_PORT}}/readyz"
    )
    return Process(
        name,
        filler.words(described.command or f"${{PYTHON}} -m {described.module}"),
        PROBES[probe](*arguments),
        described.needs,
        filler.environment(described),
        [filler.text(path) for path in described.configuration],
        filler.text(described.directory),
        described.stop_signal,
        described.wave,
        described.profile,
    )


def processes(settings: NativeSettings) -> list[Process]:
    """Every server and unit, of every profile."""
    filler = _Filler(settings)
    return [_process(name, described, filler) for name, described in TABLE.processes.items()]


def chosen(settings: NativeSettings) -> list[Process]:
    """The servers and units that run: those without a profile, and those of a chosen one."""
    return [process for process in processes(settings) if process.name not in TABLE.without(settings.profiles)]


def environment(settings: NativeSettings) -> dict[str, str]:
    """What every process gets besides the environment of `up`: where the state is."""
    state = settings.state_dir
    return {
        "PLACAR_HOME": str(settings.home),
        "PLACAR_STATE": str(state),
        "PLACAR_RUNTIME": str(state),  # marks our processes, for when the supervisor is gone
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "LINEAGE_FILE_DIR": os.environ.get("LINEAGE_FILE_DIR", str(state / "lineage")),
        "SERVER_EXPORTER_DISK": os.environ.get("SERVER_EXPORTER_DISK", str(state)),
        "LEGACY_SOAP_DATA_DIR": os.environ.get("LEGACY_SOAP_DATA_DIR", str(state / "data" / "legacy_soap")),
    }
