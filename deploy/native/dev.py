"""Units under development: run from here, restarted when a file is saved, given back to the supervisor at the end."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import structlog
from watchfiles import Change, DefaultFilter, watch

from deploy.native import supervise
from deploy.native.nodes import Process
from deploy.native.processes import UNITS, environment
from deploy.native.settings import ROOT, NativeSettings

TURN_MS = 100
PATIENCE_S = 3.0  # a unit that stands in a debugger does not hear that it must stop
ASK_S = 1.0
SHARED = ("chassis", "contracts")
SOURCES = (".py", ".json", ".yaml", ".avsc", ".sql", ".html", ".css", ".js", ".svg")
COLOURS = (36, 32, 33, 34, 35, 96, 92, 93, 94, 95)

Say = Callable[[str], None]


class Saved(DefaultFilter):
    """Sees source files only: an editor's other files come and go."""

    def __call__(self, change: Change, path: str) -> bool:
        """Whether a change is of interest."""
        return path.endswith(SOURCES) and super().__call__(change, path)


def folders(unit: str, root: Path = ROOT) -> list[Path]:
    """What a unit is made of: its own folder, and what all units stand on."""
    return [root / name for name in (UNITS[unit][0].replace(".", "/"), *SHARED)]


def affected(changed: Iterable[str], made_of: Mapping[str, Sequence[Path]]) -> list[str]:
    """The units that a change of these files concerns."""
    paths = [Path(path) for path in changed]
    return [
        unit for unit, own in made_of.items() if any(path.is_relative_to(folder) for path in paths for folder in own)
    ]


class Running:
    """One unit as a process of ours: started, stopped, and asked whether it is ready."""

    def __init__(self, process: Process, variables: Mapping[str, str], ops: tuple[str, int], say: Say) -> None:
        self.name = process.name
        self._command = process.command
        self._variables = variables
        self._ops = ops
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self._since = 0.0
        self._told = True

    def start(self, since: float, **streams: Any) -> IO[str] | None:
        """Start it, because of what happened at `since` (monotonic seconds); returns its output where it is piped."""
        self._process = subprocess.Popen(self._command, cwd=ROOT, env=dict(self._variables), text=True, **streams)
        self._since, self._told = since, False
        return self._process.stdout

    def ask(self) -> None:
        """Stop it, without waiting."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Stop it and wait; a unit that stands in a debugger is killed."""
        self.ask()
        if self._process is not None:
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process, self._told = None, True

    def look(self) -> None:
        """Say once that it is ready, or that it has ended."""
        if self._told or self._process is None:
            return
        status = self._process.poll()
        if status is not None:
            self._told = True
            self._say(f"{self.name} ended with status {status}; it starts again when a file is saved")
        elif self._answers():
            self._told = True
            self._say(f"{self.name} is ready ({time.monotonic() - self._since:.1f} s)")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(*self._ops, timeout=ASK_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


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


def _units(settings: NativeSettings, processes: Sequence[Process], names: Sequence[str], say: Say) -> list[Running]:
    table = {process.name: process for process in processes}
    return [
        Running(
            table[name],
            {**os.environ, **environment(settings), **table[name].environment},
            (settings.bind_host, settings.ports[f"{name.upper()}_OPS_PORT"]),
            say,
        )
        for name in names
    ]


def _changes(made_of: Mapping[str, Sequence[Path]]) -> Iterator[list[str]]:
    """The changed files whenever a save has come to rest, an empty list on every other turn; ends with Ctrl-C."""
    places = sorted({folder for own in made_of.values() for folder in own})
    with contextlib.suppress(KeyboardInterrupt):
        for found in watch(*places, watch_filter=Saved(), rust_timeout=TURN_MS, yield_on_timeout=True):
            yield sorted(path for _, path in found)


def _shown(paths: Sequence[str]) -> str:
    first = Path(paths[0]).relative_to(ROOT)
    return f"{first}" if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def foreground(settings: NativeSettings, processes: Sequence[Process], name: str) -> int:
    """Run one unit with this terminal as its own, so that breakpoint() works, until Ctrl-C."""

    def say(text: str) -> None:
        sys.stderr.write(f"dev: {text}\n")

    (unit,) = _units(settings, processes, [name], say)
    made_of = {name: folders(name)}
    with taken(settings, [name]), same_terminal() as restore:
        if not supervise.running(settings):
            say("the servers do not run: `task up` starts them")
        say(f"{name} restarts when a file below {', '.join(str(f.relative_to(ROOT)) for f in made_of[name])} is saved")
        unit.start(time.monotonic())
        try:
            for changed in _changes(made_of):
                if changed:
                    since = time.monotonic()
                    say(f"{_shown(changed)} was saved")
                    unit.stop()
                    restore()
                    unit.start(since)
                unit.look()
        finally:
            unit.stop()
    return 0


class Log:
    """Lines of many processes on one terminal, each with its name in front, in its own colour."""

    def __init__(self, names: Sequence[str], out: IO[str]) -> None:
        colours = out.isatty() and not os.environ.get("NO_COLOR")
        self._out = out
        self._width = max(map(len, names))
        self._colour = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)} if colours else {}
        self._render = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)
        self._lock = threading.Lock()

    def line(self, name: str, text: str) -> None:
        """Write a line of a process; what is one of our JSON lines is written for people."""
        front = f"{name:<{self._width}} |"
        if name in self._colour:
            front = f"\x1b[{self._colour[name]}m{front}\x1b[0m"
        with self._lock:
            for line in self.readable(text).splitlines():
                self._out.write(f"{front} {line}\n")
            self._out.flush()

    def readable(self, text: str) -> str:
        """A JSON line as time, level, event and what it is about, with the end of its traceback; any other as it is."""
        try:
            told = json.loads(text)
        except ValueError:
            return text
        if not isinstance(told, dict) or "event" not in told:
            return text
        told.pop("unit", None)
        told["timestamp"] = str(told.get("timestamp", ""))[11:23]
        traced = told.pop("exception", [])
        lines = [str(self._render(None, "", told))]
        for error in traced if isinstance(traced, list) else []:
            lines += [f"    {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error["frames"][-5:]]
            lines.append(f"    {error['exc_type']}: {error['exc_value']}")
        return "\n".join(lines)

    def copy(self, name: str, source: IO[str]) -> None:
        """Write every line of a process until its output ends, from a thread of its own."""

        def all_of_it() -> None:
            for line in source:
                self.line(name, line.rstrip("\n"))

        threading.Thread(target=all_of_it, name=f"log of {name}", daemon=True).start()


class Tail:
    """What is appended to log files from now on."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._at = {name: path.stat().st_size if path.exists() else 0 for name, path in files.items()}

    def lines(self) -> Iterator[tuple[str, str]]:
        """The whole lines that have come since the last call, with the name of their file."""
        for name, path in self._files.items():
            size = path.stat().st_size if path.exists() else 0
            if size < self._at[name]:  # the supervisor began a new file
                self._at[name] = 0
            if size == self._at[name]:
                continue
            with path.open("rb") as log:
                log.seek(self._at[name])
                whole = log.read(size - self._at[name]).rpartition(b"\n")[0]
            if whole:
                self._at[name] += len(whole) + 1
                for line in whole.decode(errors="replace").splitlines():
                    yield name, line


def together(settings: NativeSettings, processes: Sequence[Process], names: Sequence[str], out: IO[str]) -> int:
    """Run units under one log, with what the servers log from now on, until Ctrl-C."""
    servers = [process.name for process in processes if process.name not in UNITS]
    log = Log(["dev", *names, *servers], out)
    units = {unit.name: unit for unit in _units(settings, processes, names, lambda text: log.line("dev", text))}
    made_of = {name: folders(name) for name in names}

    def start(chosen: Iterable[str], since: float) -> None:
        for name in chosen:
            output = units[name].start(
                since, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
            )
            if output is not None:
                log.copy(name, output)

    def stop(chosen: Sequence[str]) -> None:
        for name in chosen:
            units[name].ask()
        for name in chosen:
            units[name].stop()

    with taken(settings, names):
        tail = Tail({name: settings.state_dir / "logs" / f"{name}.log" for name in servers})
        start(names, time.monotonic())
        try:
            for changed in _changes(made_of):
                concerned = affected(changed, made_of)
                if concerned:
                    since = time.monotonic()
                    log.line("dev", f"{_shown(changed)} was saved: {', '.join(concerned)}")
                    stop(concerned)
                    start(concerned, since)
                for name, line in tail.lines():
                    log.line(name, line)
                for unit in units.values():
                    unit.look()
        finally:
            log.line("dev", "stopping")
            stop(names)
    return 0
