"""Starts processes and steps in the order of their needs: each as soon as what it needs is ready, no fixed sleep."""

import asyncio
import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from chassis.ops import needs_operator
from deploy.native import supervise
from deploy.native.probes import NotReady
from deploy.native.processes import Node, Process, Step, environment
from deploy.native.settings import NativeSettings

PROBE_INTERVAL_S = 0.5
ALIVE = ("STARTING", "RUNNING", None)
GIVEN_UP = ("FATAL", "UNKNOWN")
WRONG_SETTING = 2  # the exit status of a unit for which no restart helps
ENDS = 4  # a process that ends this many times while it boots is given up
REPORT_INTERVAL_S = 10.0
STEP_ATTEMPTS = 3


class StartError(Exception):
    """Something did not become ready; the message names it, why, and its log."""


def closure(nodes: Mapping[str, Node], wanted: Collection[str]) -> set[str]:
    """The wanted names and all that they need.

    Raises:
        StartError: a name is unknown.
    """
    reached: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in nodes:
            raise StartError(f"unknown process {name!r}; there are {', '.join(sorted(nodes))}")
        if name not in reached:
            reached.add(name)
            pending.extend(nodes[name].needs)
    return reached


class Starter:
    """One `up`: keeps what is ready, and reports how long each took."""

    def __init__(self, settings: NativeSettings, nodes: Sequence[Node]) -> None:
        self._settings = settings
        self._nodes = {node.name: node for node in nodes}
        self._ready = {node.name: asyncio.Event() for node in nodes}
        self._begun = time.monotonic()

    def _report(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begun:5.1f} s] {text}", flush=True)

    async def run(self) -> None:
        """Start everything; returns when all is ready.

        Raises:
            StartError: the first that did not become ready; what runs is left running, so that `up` can continue.
        """
        waiting = asyncio.create_task(self._report_progress())
        try:
            async with asyncio.TaskGroup() as group:
                for node in self._nodes.values():
                    group.create_task(self._start(node))
        except ExceptionGroup as group:
            ours, others = group.split(StartError)
            if others is not None or ours is None:
                raise
            raise StartError("; ".join(str(error) for error in ours.exceptions)) from None
        finally:
            waiting.cancel()

    async def _start(self, node: Node) -> None:
        for need in node.needs:
            if need in self._ready:
                await self._ready[need].wait()
        begun = time.monotonic()
        if isinstance(node, Step):
            await self._step(node)
        else:
            await self._process(node)
        self._ready[node.name].set()
        done = "done" if isinstance(node, Step) else "ready"
        self._report(f"{node.name} {done} ({time.monotonic() - begun:.1f} s)")

    def _log(self, name: str) -> str:
        return str(self._settings.state_dir / "logs" / f"{name}.log")

    async def _step(self, step: Step) -> None:
        """Run a step; each can be repeated, so one that fails (a server is slow at first) is retried."""
        for attempt in range(1, STEP_ATTEMPTS + 1):
            before = _size(self._log(step.name))
            code = await self._run(step)
            if code == 0:
                return
            reason = _tail(self._log(step.name), before)
            if attempt == STEP_ATTEMPTS or needs_operator(reason):
                raise StartError(f"{step.name} failed with status {code}: {reason}")
            self._report(f"{step.name} failed with status {code}, trying again: {reason}")

    async def _run(self, step: Step) -> int:
        with open(self._log(step.name), "ab") as log:  # noqa: ASYNC230, PTH123 - opening a local log does not block
            process = await asyncio.create_subprocess_exec(
                *step.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment(self._settings), **step.environment},
                start_new_session=True,  # so that what it started itself ends with it
            )
            try:
                return await asyncio.wait_for(process.wait(), self._settings.ready_timeout_s)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                limit = f"{self._settings.ready_timeout_s:.0f} s"
                raise StartError(f"{step.name} did not end in {limit}: {_tail(self._log(step.name))}") from None
            except BaseException:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                raise

    async def _process(self, process: Process) -> None:
        await asyncio.to_thread(supervise.start, self._settings, process.name)
        deadline = time.monotonic() + self._settings.ready_timeout_s
        why, ends = "not probed yet", set()
        while time.monotonic() < deadline:
            answers = False
            try:
                await process.probe()
                answers = True
            except NotReady as error:
                why = str(error)
                if needs_operator(why):
                    raise StartError(f"{process.name} is not ready: {why}") from None
            state = (await asyncio.to_thread(supervise.info, self._settings)).get(process.name, {})
            if answers and state.get("statename") == "RUNNING":
                return
            if answers:  # another process on its port, or this one a moment before the supervisor counts it as running
                why = f"its port answers, but it is {state.get('statename', 'unknown').lower()}"
            if state.get("statename") not in ALIVE:
                ends.add(state.get("stop", 0))
                if state.get("statename") in GIVEN_UP or state.get("exitstatus") == WRONG_SETTING or len(ends) >= ENDS:
                    raise StartError(
                        f"{process.name} ended with status {state.get('exitstatus')}: {_tail(self._log(process.name))}"
                    )
            await asyncio.sleep(PROBE_INTERVAL_S)
        limit = self._settings.ready_timeout_s
        raise StartError(f"{process.name} is not ready after {limit:.0f} s: {why} (log: {self._log(process.name)})")

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            started = [
                name
                for name, node in self._nodes.items()
                if not self._ready[name].is_set()
                and all(self._ready[n].is_set() for n in node.needs if n in self._ready)
            ]
            ready = sum(event.is_set() for event in self._ready.values())
            self._report(f"{ready} of {len(self._ready)} ready; waiting for {', '.join(started)}")


def _size(path: str) -> int:
    return Path(path).stat().st_size if Path(path).exists() else 0


def _tail(path: str, start: int = 0) -> str:
    """The last lines of a log from the byte `start` on, in one line, with its path."""
    with open(path, "rb") as log:  # noqa: PTH123 - a path as text
        log.seek(start)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()[-5:] if line.strip()]
    return f"{' | '.join(lines)[-600:]} (log: {path})"
