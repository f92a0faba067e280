"""Units under development: run from here, restarted when a file is saved, given back to the supervisor at the end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import structlog
from watchfiles import Change, DefaultFilter, watch

from deploy.native import supervise
from deploy.native.probes import NotReady
from deploy.native.processes import UNITS, Process, environment
from deploy.native.settings import ROOT, NativeSettings

POLL_MS = 100
STOP_TIMEOUT_S = 3.0  # a unit that waits in a debugger does not react to SIGTERM
PROBE_TIMEOUT_S = 1.0
SHARED = ("chassis", "contracts")
SOURCES = (".py", ".json", ".yaml", ".avsc", ".sql", ".html", ".css", ".js", ".svg")
COLOURS = (36, 32, 33, 34, 35, 96, 92, 93, 94, 95)

Emit = Callable[[str], None]


class Saved(DefaultFilter):
    """Passes source files only: an editor's other files come and go."""

    def __call__(self, change: Change, path: str) -> bool:
        """Whether a change is of interest."""
        return path.endswith(SOURCES) and super().__call__(change, path)


def folders(unit: str, root: Path = ROOT) -> list[Path]:
    """The source folders of a unit: its own, and those that all units share."""
    return [root / name for name in (UNITS[unit][0].replace(".", "/"), *SHARED)]


def affected(changed: Iterable[str], sources: Mapping[str, Sequence[Path]]) -> list[str]:
    """The units to which any of the changed files belongs."""
    paths = [Path(path) for path in changed]
    return [unit for unit, own in sources.items() if any(path.is_relative_to(each) for path in paths for each in own)]


class Log:
    """Lines of many processes on one terminal, each with its name in front, in its own colour."""

    def __init__(self, names: Sequence[str], out: IO[str]) -> None:
        colours = out.isatty() and not os.environ.get("NO_COLOR")
        self._out = out
        self._width = max(map(len, names))
        self._colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)} if colours else {}
        self._render = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)
        self._lock = threading.Lock()

    def line(self, name: str, text: str) -> None:
        """Write a line of a process; one of our JSON lines is rendered for people."""
        front = f"{name:<{self._width}} |"
        if name in self._colour:
            front = f"\x1b[{self._colour[name]}m{front}\x1b[0m"
        with self._lock:
            for line in self.readable(text).splitlines():
                self._out.write(f"{front} {line}\n")
            self._out.flush()

    def readable(self, text: str) -> str:
        """A JSON line as time, level, event and values, with the end of its traceback; any other line as it is."""
        try:
            record = json.loads(text)
        except ValueError:
            return text
        if not isinstance(record, dict) or "event" not in record:
            return text
        record.pop("unit", None)
        record["timestamp"] = str(record.get("timestamp", ""))[11:23]
        exceptions = record.pop("exception", [])
        lines = [str(self._render(None, "", record))]
        for error in exceptions if isinstance(exceptions, list) else []:
            lines += [f"    {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error["frames"][-5:]]
            lines.append(f"    {error['exc_type']}: {error['exc_value']}")
        return "\n".join(lines)

    def start(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process and write each line of its output, from a thread of its own."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", **options
        )

        def copy() -> None:
            for line in process.stdout or ():
                self.line(name, line.rstrip("\n"))

        threading.Thread(target=copy, name=f"log of {name}", daemon=True).start()
        return process


class Unit:
    """A unit as a process of ours: in this terminal, or with its output in `log`."""

    def __init__(self, process: Process, variables: Mapping[str, str], emit: Emit, log: Log | None) -> None:
        self._process = process
        self._options: dict[str, Any] = {"cwd": ROOT, "env": dict(variables)}
        self._emit = emit
        self._log = log
        self._running: subprocess.Popen[str] | None = None
        self._since = 0.0
        self._reported = True

    def start(self, since: float) -> None:
        """Start it; `since` is when the reason for it happened (monotonic seconds)."""
        command = self._process.command
        if self._log is None:
            self._running = subprocess.Popen(command, text=True, **self._options)
        else:
            self._running = self._log.start(self._process.name, command, stderr=subprocess.STDOUT, **self._options)
        self._since, self._reported = since, False

    def terminate(self) -> None:
        """Tell it to stop, without waiting."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()

    def stop(self) -> None:
        """Stop it and wait; a unit that waits in a debugger is killed."""
        self.terminate()
        if self._running is not None:
            try:
                self._running.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
        self._running, self._reported = None, True

    def report(self) -> None:
        """Report once that it is ready, or that it has ended."""
        if self._reported or self._running is None:
            return
        name, status = self._process.name, self._running.poll()
        if status is not None:
            self._reported = True
            self._emit(f"{name} ended with status {status}; it starts again when a file is saved")
        elif self._ready():
            self._reported = True
            self._emit(f"{name} is ready ({time.monotonic() - self._since:.1f} s)")

    def _ready(self) -> bool:
        try:
            asyncio.run(asyncio.wait_for(self._process.probe(), PROBE_TIMEOUT_S))
        except (NotReady, TimeoutError):
            return False
        return True


@contextmanager
def taken(settings: NativeSettings, names: Sequence[str]) -> Iterator[None]:
    """The supervised instances of these units are stopped while the context lasts; those that were up start again."""
    known = supervise.info(settings)
    up = [name for name in names if known.get(name, {}).get("statename") in supervise.UP]
    if up:
        supervise.stop(settings, up)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave them stopped
        if supervise.running(settings):
            for name in up:
                supervise.start(settings, name)


@contextmanager
def same_terminal() -> Iterator[Callable[[], None]]:
    """A function that undoes what a killed debugger did to the terminal; called at the end too."""
    before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None

    def restore() -> None:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)

    try:
        yield restore
    finally:
        restore()


@contextmanager
def server_logs(settings: NativeSettings, processes: Sequence[Process], log: Log) -> Iterator[None]:
    """What the servers log from now on is written to `log` while the context lasts."""
    folder = settings.state_dir / "logs"
    tails = [
        log.start(
            each.name,
            ("tail", "-F", "-n", "0", "-s", "0.2", str(folder / f"{each.name}.log")),
            stderr=subprocess.DEVNULL,
        )
        for each in processes
        if each.name not in UNITS
    ]
    try:
        yield
    finally:
        for tail in tails:
            tail.terminate()
            tail.wait()


def _changes(sources: Mapping[str, Sequence[Path]]) -> Iterator[list[str]]:
    """The changed files whenever a save has come to rest, an empty list on every other poll; ends with Ctrl-C."""
    watched = sorted({folder for own in sources.values() for folder in own})
    with suppress(KeyboardInterrupt):
        for changes in watch(*watched, watch_filter=Saved(), rust_timeout=POLL_MS, yield_on_timeout=True):
            yield sorted(path for _, path in changes)


def _summary(paths: Sequence[str]) -> str:
    first = Path(paths[0]).relative_to(ROOT)
    return f"{first}" if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _until_interrupted(settings: NativeSettings, units: Mapping[str, Unit], emit: Emit) -> None:
    """Run the units in place of the supervised ones and restart those that a saved file concerns."""
    sources = {name: folders(name) for name in units}
    with taken(settings, [*units]), same_terminal() as restore:
        for unit in units.values():
            unit.start(time.monotonic())
        try:
            for changed in _changes(sources):
                concerned = affected(changed, sources)
                if concerned:
                    since = time.monotonic()
                    emit(f"{_summary(changed)} was saved: {', '.join(concerned)}")
                    _stop([units[name] for name in concerned])
                    restore()
                    for name in concerned:
                        units[name].start(since)
                for unit in units.values():
                    unit.report()
        finally:
            _stop([*units.values()])


def _stop(units: Sequence[Unit]) -> None:
    for unit in units:
        unit.terminate()
    for unit in units:
        unit.stop()


def run(settings: NativeSettings, processes: Sequence[Process], names: Sequence[str], log: Log | None) -> None:
    """Run units until Ctrl-C: under one log with the servers', or without a log one unit with this terminal as its own.

    Only with the terminal does breakpoint() work.
    """

    def emit(text: str) -> None:
        if log is None:
            sys.stderr.write(f"dev: {text}\n")
        else:
            log.line("dev", text)

    variables = {**os.environ, **environment(settings)}
    table = {each.name: each for each in processes}
    units = {name: Unit(table[name], {**variables, **table[name].environment}, emit, log) for name in names}
    if not supervise.running(settings):
        emit("the servers are not running: `task up` starts them")
    if log is None:
        _until_interrupted(settings, units, emit)
    else:
        with server_logs(settings, processes, log):
            _until_interrupted(settings, units, emit)
