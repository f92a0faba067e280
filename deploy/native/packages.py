"""System packages: which servers the machine has, and how the missing ones are installed by apt, once.

`task doctor` reads it before anything is installed, so it needs Python 3.8 and the standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
APT_TIMEOUT_S = 900.0


class InstallError(Exception):
    """Something is missing and could not be installed; the message says why and what to do."""


@dataclass(frozen=True)
class Requirement:
    """A server or tool: what it is called, the least version, Debian's package, its daemon, and how to find ours."""

    name: str
    least: tuple[int, ...]
    package: str
    daemon: str | None
    find: Callable[[], tuple[int, ...] | None]


def version(text: str) -> tuple[int, ...] | None:
    """The first version number in the output of a program."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)  # Maven writes its name in bold
    match = re.search(r"\d+(?:\.\d+)*", plain)
    return tuple(int(part) for part in match.group().split(".")) if match else None


def _version_of(*command: str) -> tuple[int, ...] | None:
    """The version that a command prints; None where there is no such command or it fails."""
    program = shutil.which(command[0], path=SEARCH_PATH)
    if program is None:
        return None
    try:
        run = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return version(run.stdout or run.stderr)


def debian_postgres() -> list[tuple[int, Path]]:
    """The versions of Debian's Postgres with the folder of their programs, the newest last."""
    return sorted((int(path.parts[-3]), path.parent) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def _postgres() -> tuple[int, ...] | None:
    debian = debian_postgres()
    return debian[-1][:1] if debian else _version_of("initdb", "--version")


def _clickhouse() -> tuple[int, ...] | None:
    # the server of 18.16 does not know --version; its client, of the same package version, does
    for server, tool in (
        ("clickhouse-server", ("clickhouse-client", "--version")),
        ("clickhouse", ("clickhouse", "local", "--version")),
    ):
        if shutil.which(server, path=SEARCH_PATH):
            return _version_of(*tool)
    return None


def _alertmanager() -> tuple[int, ...] | None:
    return _version_of("prometheus-alertmanager", "--version") or _version_of("alertmanager", "--version")


PROGRAMS = (
    "java", "mvn", "clickhouse-server", "clickhouse", "initdb", "prometheus", "prometheus-alertmanager", "alertmanager",
    "chromium",
)  # fmt: skip
REQUIREMENTS = (
    Requirement("Java", (17,), "default-jre-headless", None, lambda: _version_of("java", "--version")),
    Requirement("Maven", (3,), "maven", None, lambda: _version_of("mvn", "--version")),
    Requirement("Postgres", (15,), "postgresql", "postgresql", _postgres),
    Requirement("ClickHouse", (18, 16), "clickhouse-server clickhouse-client", "clickhouse-server", _clickhouse),
    Requirement("Prometheus", (2, 42), "prometheus", "prometheus", lambda: _version_of("prometheus", "--version")),
    Requirement("Alertmanager", (0, 25), "prometheus-alertmanager", "prometheus-alertmanager", _alertmanager),
)

FOR_TESTS = (Requirement("Chromium", (123,), "chromium", None, lambda: _version_of("chromium", "--version")),)
"""What only the tests need: the page is looked at in a browser."""


def missing(requirements: Sequence[Requirement] = REQUIREMENTS) -> list[Requirement]:
    """What the machine does not have in a supported version."""
    return [each for each in requirements if (each.find() or ()) < each.least]


def script(wanted: Sequence[Requirement]) -> str:
    """The shell commands that install the packages and leave no daemon of theirs running."""
    packages = " ".join(each.package for each in wanted)
    daemons = " ".join(each.daemon for each in wanted if each.daemon)
    # Debian asks this script before it starts a service at installation; an administrator's own is left alone
    lines = [
        "set -e",
        "guard=/usr/sbin/policy-rc.d",
        'if [ ! -e "$guard" ]; then',
        '    printf \'#!/bin/sh\\nexit 101\\n\' > "$guard"; chmod 755 "$guard"; trap \'rm -f "$guard"\' EXIT',
        "fi",
        "apt-get update",
        f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {packages}",
    ]
    if daemons:
        lines.append(f"[ ! -d /run/systemd/system ] || systemctl disable --now {daemons} || true")
    return "\n".join(lines) + "\n"


def by_hand(wanted: Sequence[Requirement]) -> str:
    """The one command for a user who may type a password."""
    packages = " ".join(each.package for each in wanted)
    daemons = " ".join(each.daemon for each in wanted if each.daemon)
    stop = f" && sudo systemctl disable --now {daemons}" if daemons else ""
    return f"sudo apt-get update && sudo apt-get install -y {packages}{stop}"


def _has_apt() -> bool:
    return shutil.which("apt-get") is not None


def _administrator() -> list[str] | None:
    """What goes before a command to run it as root without a question; None where that is impossible."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def fingerprint() -> str:
    """The programs that would be used, with their times: asking each for its version takes seconds."""
    programs = [shutil.which(name, path=SEARCH_PATH) for name in PROGRAMS]
    paths = [Path(path).resolve() for path in programs if path] + [folder / "initdb" for _, folder in debian_postgres()]
    return "".join(f"{path} {path.stat().st_mtime_ns}\n" for path in paths)


def ensure(stamp: Path, requirements: Sequence[Requirement] = REQUIREMENTS) -> bool:
    """Have every requirement met; returns whether anything had to be installed.

    The file `stamp` keeps which programs were checked.

    Raises:
        InstallError: it cannot be installed from here, or is still too old afterwards.
    """
    if stamp.is_file() and stamp.read_text("utf-8") == fingerprint():
        return False
    wanted = missing(requirements)
    if wanted:
        _install(wanted)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(fingerprint(), "utf-8")
    return bool(wanted)


def _install(wanted: Sequence[Requirement]) -> None:
    names = ", ".join(f"{each.name} >= {'.'.join(map(str, each.least))}" for each in wanted)
    administrator = _administrator()
    if administrator is None or not _has_apt():
        why = "installing needs root" if _has_apt() else "this machine has no apt-get"
        raise InstallError(f"missing: {names}; {why}. Type this once, then repeat:\n  {by_hand(wanted)}")
    print(f"system packages: installing {names} ...", flush=True)
    run = subprocess.run(
        [*administrator, "sh", "-c", script(wanted)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=APT_TIMEOUT_S,
    )  # fmt: skip
    if run.returncode != 0:
        raise InstallError(f"apt could not install {names}:\n{run.stdout[-1500:]}\nBy hand:\n  {by_hand(wanted)}")
    if still := missing(wanted):
        old = ", ".join(f"{each.name} {each.find()}" for each in still)
        raise InstallError(f"after installing, still not in the version that is needed: {old}; needed: {names}")
