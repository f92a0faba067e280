"""The table of processes and steps: servers, one-shot steps and units, each with what it needs to start."""

import os
import sys
from collections.abc import Mapping, Sequence

from deploy.native import probes
from deploy.native.flink import flink_environment
from deploy.native.nodes import Process, Step
from deploy.native.servers import SERVERS
from deploy.native.settings import ROOT, NativeSettings

# unit -> (module, what must be ready first; it waits for its other servers by itself)
UNITS: Mapping[str, tuple[str, Sequence[str]]] = {
    "cdc": ("streams.cdc", ("contracts",)),
    "files": ("streams.files", ("contracts",)),
    "legacy": ("streams.legacy", ("contracts",)),
    "legacy_soap": ("services.legacy_soap", ()),
    "file_poller": ("services.file_poller", ("contracts", "s3")),
    "legacy_poller": ("services.legacy_poller", ("contracts", "legacy_soap")),
    "clickhouse_sink": ("services.clickhouse_sink", ("contracts", "tables")),
    "api": ("services.api", ("contracts", "tables")),
    "ops": ("services.ops", ()),
    "lineage": ("services.lineage", ("postgres-schema",)),
    "connect_watcher": ("services.connect_watcher", ("connector",)),
    "flink_watcher": ("services.flink_watcher", ("ranking-job",)),
    "server_exporter": ("services.server_exporter", ("kafka", "postgres-schema", "tables")),
}


def steps(settings: NativeSettings) -> list[Step]:
    """The one-shot steps."""
    python = sys.executable
    return [
        Step("postgres-schema", (python, "-m", "deploy.native.postgres"), ("postgres",)),
        Step("contracts", (python, "-m", "chassis.publish"), ("kafka", "registry")),
        Step("tables", (python, "-m", "services.clickhouse_sink.ddl"), ("clickhouse",)),
        Step("seed", (python, "-m", "tools", "seed", "--initial"), ("postgres-schema", "s3")),
        Step(
            "connector",
            (python, "-m", "services.connect_watcher", "--once"),
            ("connect", "contracts", "postgres-schema"),
        ),
        Step(
            "ranking-job",
            (python, "-m", "services.flink_watcher", "--once"),
            ("jobmanager", "taskmanager1", "taskmanager2", "contracts"),
            environment=flink_environment(settings),
        ),
    ]


def processes(settings: NativeSettings) -> list[Process]:
    """Every server and unit."""
    host = settings.bind_host
    units = [
        Process(
            name,
            (sys.executable, "-m", module),
            probes.http(f"http://{host}:{settings.ports[f'{name.upper()}_OPS_PORT']}/readyz"),
            needs,
            environment=flink_environment(settings) if name == "flink_watcher" else {},
            configuration=("flink/config.yaml",) if name == "flink_watcher" else (),
            wave=1 if name == "lineage" else 0,  # it stops after the units that send it events
        )
        for name, (module, needs) in UNITS.items()
    ]
    return [*(server(settings) for server in SERVERS), *units]


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
