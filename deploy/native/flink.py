"""Flink's processes: a JobManager and two TaskManagers, from the wheel of PyFlink."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.native import probes
from deploy.native.java import QUICK, log_options, metrics_agent
from deploy.native.nodes import Process
from deploy.native.settings import ROOT, NativeSettings

# only what runs for every record is worth the optimising compiler: at its usual thresholds (a tenth of these) it takes
# a quarter of all CPU of the first minutes, mostly for what a start does once
HOT = (
    "-XX:+UseParallelGC",
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
FLINK_CONFIGURATION = ("flink/config.yaml", "flink/jmx.yml", "flink/log4j-console.properties")


def flink_environment(settings: NativeSettings) -> dict[str, str]:
    """What Flink's scripts need to run from the wheel, untouched, with our configuration."""
    venv = settings.home / "flink-venv"
    home = venv / "lib" / "python3.11" / "site-packages" / "pyflink"
    state = settings.state_dir
    return {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(state / "conf" / "flink"),
        "FLINK_LOG_DIR": str(state / "logs" / "flink"),
        "FLINK_LIB_DIR": str(settings.home / "flink-lib"),
        "FLINK_PLUGINS_DIR": str(home / "plugins"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PID_DIR": str(state / "run"),
        "FLINK_PYTHON": str(venv / "bin" / "python"),
        "FLINK_CHECKPOINTS_DIR": str(state / "flink" / "checkpoints"),
        "FLINK_SAVEPOINTS_DIR": str(state / "flink" / "savepoints"),
    }


def _flink(
    settings: NativeSettings, name: str, command: Sequence[str], probe: probes.Probe, options: Mapping[str, str]
) -> Process:
    """A process of Flink; `options` is the variable with its Java options."""
    flink = flink_environment(settings)
    path = f"{Path(flink['FLINK_PYTHON']).parent}:{os.environ['PATH']}"
    environment = {**flink, "PATH": path, **options}
    return Process(name, command, probe, environment=environment, configuration=FLINK_CONFIGURATION, wave=1)


def jobmanager(settings: NativeSettings) -> Process:
    """Flink's coordinator. It never computes: the quick compiler halves what its boot costs."""
    script = f"{flink_environment(settings)['FLINK_HOME']}/bin/jobmanager.sh"
    agent = metrics_agent(settings, "flink", "FLINK_JOBMANAGER_METRICS_PORT")
    options = {"FLINK_ENV_JAVA_OPTS_JM": " ".join((QUICK[0], *log_options(settings, "jobmanager"), agent))}
    probe = probes.http(f"http://{settings.bind_host}:{settings.ports['FLINK_REST_PORT']}/overview")
    return _flink(settings, "jobmanager", (script, "start-foreground"), probe, options)


def _taskmanager(settings: NativeSettings, name: str) -> Process:
    """Started beside the JobManager; the probe waits for the registration."""
    port = f"FLINK_{name.upper()}"
    command = (
        str(ROOT / "deploy" / "flink" / "taskmanager.sh"),
        name,
        "-Dtaskmanager.host=127.0.0.1",
        f"-Dtaskmanager.rpc.port={settings.ports[f'{port}_PORT']}",
        f"-Dtaskmanager.data.port={settings.ports[f'{port}_DATA_PORT']}",
    )
    agent = metrics_agent(settings, "flink", f"{port}_METRICS_PORT")
    options = {"FLINK_ENV_JAVA_OPTS_TM": " ".join((*HOT, *log_options(settings, name), agent))}
    probe = probes.taskmanager(f"http://{settings.bind_host}:{settings.ports['FLINK_REST_PORT']}", name)
    return _flink(settings, name, command, probe, options)


def taskmanager1(settings: NativeSettings) -> Process:
    """The first of two workers of Flink."""
    return _taskmanager(settings, "taskmanager1")


def taskmanager2(settings: NativeSettings) -> Process:
    """The second of two workers of Flink."""
    return _taskmanager(settings, "taskmanager2")
