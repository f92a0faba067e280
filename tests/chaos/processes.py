"""The processes of a runtime by name: kill -9, and which of them no living TaskManager holds."""

import contextlib
import time

import psutil
import pytest

from tests.runtime import Runtime

PORTS = {
    "kafka": "KAFKA_PORT",
    "jobmanager": "FLINK_REST_PORT",
    "taskmanager1": "FLINK_TASKMANAGER1_PORT",
    "taskmanager2": "FLINK_TASKMANAGER2_PORT",
    "flink_watcher": "FLINK_WATCHER_OPS_PORT",
    "clickhouse": "CLICKHOUSE_HTTP_PORT",
    "clickhouse_sink": "CLICKHOUSE_SINK_OPS_PORT",
    "legacy": "LEGACY_OPS_PORT",
    "webhooks": "WEBHOOKS_OPS_PORT",
    "shopify": "SHOPIFY_OPS_PORT",
    "stripe": "STRIPE_OPS_PORT",
}
TASKMANAGERS = ("taskmanager1", "taskmanager2")
WORKER = "pyflink.fn_execution"


def listening(runtime: Runtime, *names: str, deadline_s: float = 120) -> list[psutil.Process]:
    """The processes of these names, each known by its port; waits until all are there."""
    end = time.monotonic() + deadline_s
    ports = [int(runtime.env[PORTS[name]]) for name in names]
    while True:
        connections = psutil.net_connections("tcp")
        listeners = {c.laddr.port: c.pid for c in connections if c.status == "LISTEN" and c.laddr}
        pids = [listeners.get(port) for port in ports]
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [psutil.Process(pid) for pid in pids if pid is not None]
            if len(processes) == len(names):
                return processes
        assert time.monotonic() < end, f"not listening within {deadline_s:g} s: {names} on {ports}"
        time.sleep(0.2)


def kill(runtime: Runtime, *names: str) -> None:
    """kill -9 of all of them at once; returns when they are gone."""
    processes = listening(runtime, *names)
    for process in processes:
        process.kill()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive, f"still there 30 s after kill -9: {alive}"


def _of_taskmanagers(runtime: Runtime) -> dict[int, tuple[str, str]]:
    """Process id -> TaskManager's name and command line, of everything that a TaskManager of this runtime started."""
    started = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            variables = process.environ()
            if variables.get("PLACAR_RUNTIME") == str(runtime.state_dir) and "PLACAR_TASKMANAGER" in variables:
                started[process.pid] = (variables["PLACAR_TASKMANAGER"], " ".join(process.cmdline()))
    return started


def left_behind(runtime: Runtime) -> dict[int, tuple[str, str]]:
    """What a TaskManager of this runtime started and no living one holds: process id -> its name, command line."""
    held = {
        held.pid
        for process in listening(runtime, *TASKMANAGERS)
        for held in (process, *process.children(recursive=True))
    }
    return {pid: process for pid, process in _of_taskmanagers(runtime).items() if pid not in held}


def workers(runtime: Runtime) -> dict[int, tuple[str, str]]:
    """The Python workers of this runtime's TaskManagers: process id -> TaskManager, command line."""
    return {pid: process for pid, process in _of_taskmanagers(runtime).items() if WORKER in process[1]}


def until_submitting(runtime: Runtime, deadline_s: float) -> psutil.Process:
    """The process that submits the job, as soon as there is one."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                mine = process.environ().get("PLACAR_RUNTIME") == str(runtime.state_dir)
                if mine and "org.apache.flink.client.cli.CliFrontend" in process.cmdline():
                    return process
    pytest.fail(f"nobody submitted the job within {deadline_s:g} s")
