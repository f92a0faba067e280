"""`python -m deploy.runtime up|down|...`: passes the command to the chosen runtime, and prints which and why.

Both runtimes run the same servers, steps and units under the same names and ports; see deploy/native and compose.yaml.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from chassis.settings import load
from deploy import compose
from deploy.native import __main__ as native
from deploy.native import state
from deploy.native.settings import NativeSettings

RUNTIMES = ("native", "compose")
STARTS = ("up", "build")
"""The commands that choose a runtime where none has data yet."""


class RuntimeSettings(BaseSettings):
    """Which runtime is wanted."""

    runtime: Literal["auto", "native", "compose"] = Field("auto", validation_alias="RUNTIME")


@dataclass(frozen=True)
class Choice:
    """A runtime, and why it is the one."""

    runtime: str
    why: str


def choose(wanted: str, last: str, command: str, missing: Callable[[], str | None]) -> Choice:
    """The runtime for a command: the wanted one, else the one that has the data, else compose where it can run.

    Args:
        wanted: RUNTIME, or `auto`.
        last: the runtime of the last `up`, empty where there was none since the data was removed.
        command: only those that start something ask what can run.
        missing: why compose cannot run here, None where it can. Asked last, because it takes time.
    """
    if wanted in RUNTIMES:
        return Choice(wanted, "RUNTIME says so")
    if last in RUNTIMES:
        return Choice(last, "the last `up` was there, and so is the data")
    if command not in STARTS:
        return Choice("native", "nothing was started yet")
    why = missing()
    if why is None:
        return Choice("compose", "a Docker engine with Compose answers and the images are available")
    return Choice("native", why)


def _native(command: str, rest: Sequence[str]) -> int:
    """Install what is missing where something starts, then run the native runtime's command."""
    if command in STARTS:
        code = native.main(["install"])
        if code != 0 or command == "build":
            return code
    return native.main([command, *rest])


def main(argv: Sequence[str]) -> int:
    """Choose the runtime and run one command there; returns its exit status."""
    wanted, settings = load(RuntimeSettings).runtime, load(NativeSettings)
    command, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if command not in compose.COMMANDS:
        sys.stderr.write(f"{command!r} is no command; there are {', '.join(compose.COMMANDS)}\n")
        return 2
    remembered = settings.state_dir / state.RUNTIME
    last = remembered.read_text("utf-8").strip() if remembered.is_file() else ""
    choice = choose(wanted, last, command, compose.missing)
    if command in STARTS:
        sys.stdout.write(f"runtime: {choice.runtime} ({choice.why}; RUNTIME=native or RUNTIME=compose decides)\n")
        sys.stdout.flush()
    if command == "up":
        try:
            state.claim(settings.state_dir, "PLACAR_STATE")
        except state.StateError as error:
            sys.stderr.write(f"up: {error}\n")
            return 1
        remembered.write_text(choice.runtime, "utf-8")
    if choice.runtime == "native":
        return _native(command, rest)  # its `clean` removes the whole folder
    code = compose.run(settings, command, rest)
    if command == "clean" and code == 0:
        remembered.unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    native.interrupt_on_stop_signals()
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
