"""Talks to the supervisor: starts it, applies a changed table, starts and stops processes, finds leftovers."""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from deploy.native.processes import Process, environment
from deploy.native.render import SCRATCH
from deploy.native.settings import NativeSettings

STOP_TIMEOUT_S = 15.0
UP = ("STARTING", "RUNNING", "BACKOFF")


class SupervisorError(Exception):
    """The supervisor failed or declined; the message says what and where to look."""


def _rpc(settings: NativeSettings) -> Any:
    return ServerProxy("http://127.0.0.1", SupervisorTransport(None, None, f"unix://{settings.socket}")).supervisor


def running(settings: NativeSettings) -> bool:
    """Whether our supervisor answers."""
    try:
        return bool(_rpc(settings).getState()["statename"] == "RUNNING")
    except (OSError, http.client.HTTPException):
        return False


def info(settings: NativeSettings) -> dict[str, dict[str, Any]]:
    """The supervisor's state of each process: statename, pid, start, now, exitstatus; empty when it is down."""
    try:
        return {each["name"]: each for each in _rpc(settings).getAllProcessInfo()}
    except (OSError, http.client.HTTPException):
        return {}


def pids(settings: NativeSettings) -> set[int]:
    """The supervisor and everything below it."""
    try:
        supervisor = psutil.Process(_rpc(settings).getPID())
        return {supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))}
    except (OSError, http.client.HTTPException, psutil.NoSuchProcess):
        return set()


def leftovers(settings: NativeSettings) -> list[psutil.Process]:
    """Processes of this state folder that no supervisor of ours holds: a killed supervisor's, or orphaned workers."""
    held = pids(settings) | {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    mark = str(settings.state_dir)
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.pid not in held and process.environ().get("PLACAR_RUNTIME") == mark:
                orphans.append(process)
    return orphans


def end(processes: Sequence[psutil.Process]) -> None:
    """Terminate, and kill what has not ended in ten seconds."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def launch(settings: NativeSettings, configuration: Path) -> None:
    """Start the supervisor, or let the running one take over a changed table (changed processes are stopped).

    Raises:
        SupervisorError: it did not start.
    """
    if running(settings):
        _apply(settings)
        return
    end(leftovers(settings))
    settings.socket.unlink(missing_ok=True)
    for scratch in SCRATCH:
        shutil.rmtree(settings.state_dir / scratch, ignore_errors=True)
        (settings.state_dir / scratch).mkdir(parents=True)
    # the supervisor carries the same mark as its processes
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
    result = subprocess.run(
        command, env={**os.environ, **environment(settings)}, capture_output=True, text=True, check=False
    )
    for _ in _until(10.0):
        if running(settings):
            return
        if result.returncode != 0:
            break
    raise SupervisorError(f"the supervisor did not start: {(result.stderr or result.stdout).strip()[-500:]}")


def _until(seconds: float) -> Iterator[None]:
    """Yields every tenth of a second until the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)


def _apply(settings: NativeSettings) -> None:
    rpc = _rpc(settings)
    added, changed, removed = rpc.reloadConfig()[0]
    for name in [*changed, *removed]:
        rpc.stopProcessGroup(name)
        rpc.removeProcessGroup(name)
    for name in [*added, *changed]:
        rpc.addProcessGroup(name)


def start(settings: NativeSettings, name: str) -> None:
    """Start a process that is not up; returns at once.

    Raises:
        SupervisorError: the supervisor cannot start it.
    """
    try:
        _rpc(settings).startProcess(name, False)
    except Fault as fault:
        if fault.faultCode != Faults.ALREADY_STARTED:
            raise SupervisorError(f"{name} does not start: {fault.faultString}") from fault


def stop(settings: NativeSettings, names: Sequence[str]) -> None:
    """Stop processes together and wait for them.

    Raises:
        SupervisorError: one is still up after the time that a kill takes.
    """
    rpc = _rpc(settings)
    for name in names:
        with contextlib.suppress(Fault):  # NOT_RUNNING: it is what we want
            rpc.stopProcess(name, False)
    for _ in _until(STOP_TIMEOUT_S):
        up = [name for name, each in info(settings).items() if name in names and each["statename"] in (*UP, "STOPPING")]
        if not up:
            return
    raise SupervisorError(f"still running: {', '.join(up)}")


def shutdown(settings: NativeSettings, processes: Sequence[Process]) -> None:
    """Stop everything, units first and stores last, then the supervisor, then whatever was left behind."""
    if running(settings):
        known = info(settings)
        for wave in sorted({process.wave for process in processes}):
            stop(settings, [process.name for process in processes if process.wave == wave and process.name in known])
        supervisor = psutil.Process(_rpc(settings).getPID())
        _rpc(settings).shutdown()
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor.wait(timeout=10)
    end(leftovers(settings))
    settings.socket.unlink(missing_ok=True)
