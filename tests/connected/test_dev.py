"""`task dev:<unit>` and `task dev` on a copy of the tree: units that need no server are enough."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import httpx
import pytest

from deploy.native import supervise
from deploy.native.settings import NativeSettings
from tests.runtime import ROOT, Runtime, new_runtime, start_runtime

pytestmark = pytest.mark.timeout(400)

DEADLINE_S = 120
FOLDERS = ("chassis", "contracts", "deploy", "flink", "services", "streams", "tools")
READY = r"{} is ready \((\d+\.\d) s\)"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, for files to be saved in."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def settings() -> Mapping[str, str]:
    """The settings of the runtime and its units: installed software is shared, no lineage, no generated sales."""
    home = str(NativeSettings().home.resolve())
    return {"PLACAR_HOME": home, "LINEAGE_TRANSPORT": "off", "LEGACY_SOAP_RATE_PER_MINUTE": "0", "TERM": "dumb"}


@pytest.fixture(scope="module")
def runtime(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The copy's runtime with the one unit that needs no server."""
    with start_runtime(tmp_path_factory.mktemp("state"), ["legacy_soap"], settings(), tree) as started:
        yield started


class Terminal:
    """A process in its own terminal, as a user sees and types."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self._ours = ours
        self._output = ""

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until it shows the pattern; what was shown up to its end is not looked at again."""
        match = self._until_it_shows(pattern)
        self._output = self._output[match.end() :]
        return match

    def shows_in_any_order(self, *patterns: str) -> None:
        """Wait until it shows each pattern; what was shown up to the end of the last one is not looked at again."""
        self._output = self._output[max([self._until_it_shows(pattern).end() for pattern in patterns]) :]

    def _until_it_shows(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + DEADLINE_S
        while (match := re.search(pattern, self._output)) is None:
            assert time.monotonic() < end, f"no {pattern!r} in {self._output[-3000:]!r}"
            assert select.select([self._ours], [], [], DEADLINE_S)[0], f"silent before {pattern!r}: {self._output!r}"
            self._output += os.read(self._ours, 65536).decode(errors="replace").replace("\r", "")
        return match

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, f"{text}\n".encode())

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it does unless something has changed that."""
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit status."""
        os.write(self._ours, b"\x03")
        end = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, self._output[-3000:]
            if select.select([self._ours], [], [], 0.1)[0]:
                with suppress(OSError):  # EIO: it has ended
                    self._output += os.read(self._ours, 65536).decode(errors="replace")
        return self.process.returncode


@contextmanager
def dev(runtime: Runtime, names: Sequence[str]) -> Iterator[Terminal]:
    """`dev` of these units in a terminal; ended at the end if it still runs."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.native", "dev", *names],
        cwd=runtime.root,
        env=dict(runtime.env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509 - makes it the terminal of the session
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(DEADLINE_S)
        os.close(ours)


def save(file: Path, before: str, after: str) -> None:
    """Change a file as an editor does: the whole of it is written beside and then moved over it."""
    text = file.read_text("utf-8")
    assert before in text
    beside = file.with_name(f"{file.name}.swp")
    beside.write_text(text.replace(before, after, 1), "utf-8")
    beside.rename(file)


def state(runtime: Runtime) -> str:
    """The supervisor's state of the unit."""
    with mock.patch.dict(os.environ, runtime.env):
        return str(supervise.info(NativeSettings())["legacy_soap"]["statename"])


def test_a_unit_restarts_on_save_and_stops_in_a_debugger(runtime: Runtime, tree: Path) -> None:
    """The saved code runs; breakpoint() has the terminal, and a save ends it too; at the end the supervisor's runs."""
    app = tree / "services" / "legacy_soap" / "app.py"
    line = "        app = asgi("
    stops, wrong = f"        breakpoint()\n{line}", f"        nonsense(\n{line}"
    assert state(runtime) == "RUNNING"
    with dev(runtime, ["legacy_soap"]) as terminal:
        terminal.shows(READY.format("legacy_soap"))
        assert state(runtime) == "STOPPED"

        save(app, line, stops)
        terminal.shows(r"services/legacy_soap/app.py was saved: legacy_soap")
        terminal.shows(r"\(Pdb\) ")
        terminal.type("6 * 7")
        terminal.shows(r"\n42\n")
        save(app, stops, line)
        terminal.shows(READY.format("legacy_soap"))
        assert terminal.echoes()
        assert httpx.get(f"http://127.0.0.1:{runtime.env['LEGACY_SOAP_PORT']}/ws/sales?wsdl").status_code == 200

        save(app, line, wrong)
        terminal.shows(r"SyntaxError")
        terminal.shows(r"legacy_soap ended with status 1; it starts again when a file is saved")
        save(app, wrong, line)
        terminal.shows(READY.format("legacy_soap"))

        assert terminal.interrupt() == 0
    assert state(runtime) in supervise.UP


def test_units_under_one_log_restart_one_by_one(tree: Path, tmp_path: Path) -> None:
    """Each line has its unit's name in front and is readable; a save restarts the unit that it concerns, or all."""
    runtime = new_runtime(tmp_path / "state", settings(), tree)
    with dev(runtime, ["legacy_soap", "legacy_poller"]) as terminal:
        terminal.shows_in_any_order(
            r"legacy_poller \|\x1b\[0m [^\n]*unreachable", r"dev +\|\x1b\[0m " + READY.format("legacy_soap")
        )

        save(tree / "services" / "legacy_poller" / "app.py", '"""', '"""Changed. ')
        terminal.shows(r"services/legacy_poller/app.py was saved: legacy_poller\n")
        starting = terminal.shows(r"\x1b\[\d+m(\w+) +\|\x1b\[0m [^\n]*starting")
        assert starting[1] == "legacy_poller"

        save(tree / "chassis" / "unit.py", '"""', '"""Changed. ')
        terminal.shows(r"chassis/unit.py was saved: legacy_soap, legacy_poller\n")
        terminal.shows(READY.format("legacy_soap"))
        assert terminal.interrupt() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{runtime.env['LEGACY_SOAP_OPS_PORT']}/readyz")
