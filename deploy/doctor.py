"""`python3 deploy/doctor.py`: what this machine lacks for Placar, and how to get it. Installs and changes nothing.

Exit status: 0 nothing is missing, 1 something is. Needs Python 3.8 and its standard library only: it runs before
anything is installed.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import locale
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError, ServerProxy, Transport

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python knows its folder only
    sys.path.insert(0, str(ROOT))

from deploy.native import packages  # noqa: E402 - its table of requirements needs no more than this module

OK, NOTE, MISSING = "ok", "note", "MISSING"
GIB = 2**30
INSTALLED_GIB = 5  # jars, two Python environments, tools, and what their downloads take meanwhile
KEPT_GIB = 1
MEMORY_GIB = 6  # `task status` summed up 4.1 GiB of a pipeline that has just started
FILES = 1024  # the supervisor does not start with fewer
PYTHON = (3, 8)
TOOLS = ("uv", "task")
IN_CONTAINERS = ("GRAFANA_PORT", "MARQUEZ_UI_PORT")
UP = ("STARTING", "RUNNING")
SHOWN = 5
ENGINE_S = 5
NATIVE = {"Flink's environment", "jars", "setpriv", *(each.name for each in packages.REQUIREMENTS)}
"""What the servers need that containers bring with them."""
LISTEN = "0A"  # of /proc/net/tcp


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, what was found, and where it is not right, how to get it."""

    level: str
    name: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Place:
    """Where this checkout keeps what is installed and its state, and the settings of `.env` and the environment."""

    settings: Mapping[str, str]
    home: Path
    state: Path

    @property
    def in_containers(self) -> bool:
        """Whether the pipeline runs by compose.yaml: RUNTIME says so, or the last `up` did."""
        wished, note = self.settings.get("RUNTIME", ""), self.state / "runtime"
        if wished in ("native", "compose"):
            return wished == "compose"
        return note.is_file() and note.read_text("utf-8").strip() == "compose"


def dotenv(text: str) -> dict[str, str]:
    """The variables of a `.env` file; quotes around a value and comments after it are dropped."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)$", line)
        if match:
            quoted = re.match(r"""\s*(["'])(.*?)\1""", match[2])
            found[match[1]] = quoted[2] if quoted else re.split(r"\s#", match[2])[0].strip()
    return found


def place(environment: Mapping[str, str]) -> Place:
    """This checkout's folders and settings; the environment wins over `.env`."""
    file = ROOT / ".env"
    settings = {**(dotenv(file.read_text("utf-8")) if file.is_file() else {}), **environment}
    home = (ROOT / (settings.get("PLACAR_HOME") or ".placar")).resolve()
    state = (ROOT / (settings.get("PLACAR_STATE") or home / "state")).resolve()
    return Place(settings, home, state)


def ports(settings: Mapping[str, str]) -> dict[str, str]:
    """Every port of the native runtime by its setting: the defaults are those of `.env.example`."""
    documented = re.findall(r"^#([A-Z0-9_]+_PORT)=(\d+)", (ROOT / ".env.example").read_text("utf-8"), re.M)
    return {name: settings.get(name) or default for name, default in documented if name not in IN_CONTAINERS}


def machine() -> Iterator[Finding]:
    """The system and its Python."""
    linux = sys.platform == "linux"
    remedy = "" if linux else "run Placar on Linux, in a virtual machine or in containers"
    yield Finding(OK if linux else MISSING, "Linux", f"{platform.system()} {platform.release()}", remedy)
    version = ".".join(map(str, sys.version_info[:3]))
    enough = sys.version_info >= PYTHON
    remedy = "" if enough else "apt-get install python3 (Placar's own Python 3.11 comes with it)"
    yield Finding(OK if enough else MISSING, "python3", f"{version} ({sys.executable})", remedy)


def installed(at: Place) -> Iterator[Finding]:
    """What Placar installs by itself, into its own folder."""
    lacking = [name for name in TOOLS if not (at.home / "tools" / "bin" / name).is_file() and not shutil.which(name)]
    if not lacking:
        yield Finding(OK, "tools", " and ".join(TOOLS))
    elif importlib.util.find_spec("pip") is None:
        yield Finding(MISSING, "pip", "not there", "apt-get install python3-pip; ./taskw brings uv and task by it")
    else:
        yield Finding(MISSING, "tools", f"no {' and no '.join(lacking)}", "./taskw build brings them")
    for name, folder, lock in (
        ("Python environment", "venv", "requirements.lock"),
        ("Flink's environment", "flink-venv", "flink/requirements.lock"),
    ):
        stamp = at.home / folder / "lock"
        if not stamp.is_file():
            yield Finding(MISSING, name, f"not in {at.home / folder}", "./taskw build makes it")
        elif stamp.read_bytes() != (ROOT / lock).read_bytes():
            yield Finding(MISSING, name, f"not that of {lock}", "./taskw build brings it up to date")
        else:
            yield Finding(OK, name, f"as in {lock}")
    jars = at.home / "jars"
    if any(jars.glob("*/*.jar")):
        yield Finding(OK, "jars", f"{len(list(jars.glob('**/*.jar')))} in {jars}")
    else:
        yield Finding(MISSING, "jars", f"none in {jars}", "./taskw build brings them")


def _requirement(each: packages.Requirement, level: str) -> Finding:
    found, least = each.find(), ".".join(map(str, each.least))
    if (found or ()) >= each.least:
        return Finding(OK, each.name, ".".join(map(str, found or ())))
    said = "not there" if found is None else ".".join(map(str, found))
    return Finding(level, each.name, f"{said}; {least} or newer is needed", packages.by_hand([each]))


def programs() -> Iterator[Finding]:
    """Servers and tools of the system's packages."""
    for each in packages.REQUIREMENTS:
        yield _requirement(each, MISSING)
    for each in packages.FOR_TESTS:
        yield _requirement(each, NOTE)
    if packages.missing():
        by_itself = shutil.which("apt-get") is not None and (os.geteuid() == 0 or shutil.which("sudo") is not None)
        said = f"{'installs' if by_itself else 'cannot install'} these by itself, which takes apt-get and root or sudo"
        yield Finding(NOTE, "./taskw build", said)
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv", path=packages.SEARCH_PATH)
        remedy = "" if setpriv else "apt-get install util-linux (Postgres does not run as root)"
        yield Finding(OK if setpriv else MISSING, "setpriv", setpriv or "not there", remedy)


def _free_gib(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / GIB


def _memory_gib() -> float:
    """The machine's memory, or the limit of the container that this runs in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            said = Path(file).read_text("ascii").strip()
        except OSError:
            continue
        if said.isdigit():
            total = min(total, int(said))
    return total / GIB


def room(at: Place) -> Iterator[Finding]:
    """Disk, memory, files, and whether the folders may be written."""
    there = (at.home / "flink-venv" / "lock").is_file()
    for name, folder, least in (
        ("disk, software", at.home, KEPT_GIB if there else INSTALLED_GIB),
        ("disk, data", at.state, KEPT_GIB),
    ):
        free = _free_gib(folder)
        remedy = "" if free >= least else f"make room: {least} GiB at {folder}, or choose another in .env"
        yield Finding(OK if free >= least else MISSING, name, f"{free:.1f} GiB free at {folder}", remedy)
        near = folder
        while not near.exists():
            near = near.parent
        if not os.access(near, os.W_OK):
            yield Finding(MISSING, name, f"{near} may not be written", "choose PLACAR_HOME and PLACAR_STATE in .env")
    memory = _memory_gib()
    enough = memory >= MEMORY_GIB
    remedy = "" if enough else f"{MEMORY_GIB} GiB let everything run at once; with less `up -- --only api` and the like"
    yield Finding(OK if enough else NOTE, "memory", f"{memory:.1f} GiB", remedy)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = resource.RLIM_INFINITY in (soft, hard) or hard >= FILES
    yield Finding(OK if many else MISSING, "open files", str(soft), "" if many else f"ulimit -n {FILES}")


def words() -> Iterator[Finding]:
    """The locale: names of cities have accents."""
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        wanted = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
        yield Finding(MISSING, "locale", f"{wanted} is not on this machine", "export LC_ALL=C.UTF-8")
        return
    encoding = locale.getpreferredencoding(False)
    utf8 = encoding.lower().replace("-", "") == "utf8"
    yield Finding(OK if utf8 else MISSING, "locale", encoding, "" if utf8 else "export LC_ALL=C.UTF-8")


def _processes() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())


def ours(state: Path) -> dict[int, str]:
    """The processes of this checkout's pipeline by their ids, as the mark in their environment tells."""
    mark = f"PLACAR_RUNTIME={state}".encode()
    found = {}
    for process in _processes():
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "comm").read_text("utf-8").strip()
        except OSError:  # it has ended, or is another user's
            continue
    return found


def listeners() -> dict[int, str]:
    """The socket's inode of every port of this machine on which somebody listens."""
    found = {}
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(file).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN:
                found[int(fields[1].rpartition(":")[2], 16)] = fields[9]
    return found


def _links(process: Path) -> Iterator[str]:
    """What the open files of a process are; nothing where this account may not see them."""
    try:
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(link)  # noqa: PTH115 - Python 3.8 has no other
    except OSError:  # the process has ended, or is another user's
        return


def holders(inodes: Sequence[str]) -> dict[str, int]:
    """The process that holds each socket, as far as this account may see."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    return {wanted[link]: int(process.name) for process in _processes() for link in _links(process) if link in wanted}


def free_ports(at: Place, pids: Mapping[int, str]) -> Iterator[Finding]:
    """Ports that others hold."""
    wanted, taken = ports(at.settings), listeners()
    held = {name: int(port) for name, port in wanted.items() if port.isdigit() and int(port) in taken}
    by = holders([taken[port] for port in held.values()])
    wrong = [name for name, port in wanted.items() if not port.isdigit() or not 0 < int(port) < 65536]
    for name in wrong:
        yield Finding(MISSING, "port", f"{name} {wanted[name][:60]!r} is no port", f"set {name} in .env")
    programs = {pid: Path(f"/proc/{pid}/comm").read_text("utf-8").strip() for pid in by.values()}
    own = {*pids, *(pid for pid, name in programs.items() if at.in_containers and name == "docker-proxy")}
    others = {name: port for name, port in held.items() if by.get(taken[port]) not in own}
    for name, port in others.items():
        pid = by.get(taken[port])
        who = f"process {pid} ({programs[pid]})" if pid else "another account"
        yield Finding(MISSING, "port", f"{name} {port} is in use by {who}", f"end it, or set {name} in .env")
    if not others and not wrong:
        mine = f", {len(held)} in use by this pipeline" if held else ""
        yield Finding(OK, "ports", f"{len(wanted)} are Placar's{mine}")


class _Local(Transport):
    """XML-RPC over a Unix socket, as the supervisor speaks it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A connection to the socket, whatever the host is called."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(5)
        connection.sock.connect(self._path)
        return connection


def supervised(state: Path) -> dict[str, str] | None:
    """The state of each process as the supervisor tells; None where no supervisor answers."""
    file = state / "conf" / "supervisord.conf"
    try:
        found = re.search(r"^file = (.+)$", file.read_text("utf-8"), re.M)
        path = found[1] if found else ""
        told: Any = ServerProxy("http://localhost", _Local(path)).supervisor.getAllProcessInfo()
        return {each["name"]: each["statename"] for each in told}
    except (OSError, Fault, ProtocolError, http.client.HTTPException):
        return None


def pipeline(at: Place, pids: Mapping[int, str]) -> Iterator[Finding]:
    """Whether the pipeline runs, does not, or was left half-way."""
    states = supervised(at.state)
    if states is None:
        if pids:
            few = ", ".join(f"{pid} {name}" for pid, name in list(pids.items())[:SHOWN])
            said = f"{len(pids)} processes without a supervisor ({few} ...)"
            yield Finding(MISSING, "pipeline", said, "./taskw down ends them; ./taskw up begins again")
        else:
            yield Finding(OK, "pipeline", "does not run; ./taskw up starts it")
        return
    down = {name: state.lower() for name, state in states.items() if state not in UP}
    if not down:
        yield Finding(OK, "pipeline", f"{len(states)} processes run")
        return
    which = ", ".join(f"{name} ({state})" for name, state in list(down.items())[:SHOWN])
    which += f" and {len(down) - SHOWN} more" if len(down) > SHOWN else ""
    said = f"{len(states) - len(down)} of {len(states)} processes run; not {which}"
    remedy = "./taskw up starts what is missing; ./taskw logs -- NAME tells why it ended"
    yield Finding(MISSING, "pipeline", said, remedy)


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=ENGINE_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def containers(at: Place) -> Iterator[Finding]:
    """A Docker engine with Compose: missing only where the pipeline is to run there."""
    level = MISSING if at.in_containers else NOTE
    remedy = "https://docs.docker.com/engine/install/ with the Compose plugin; only RUNTIME=compose needs it"
    if not _answers("docker", "version"):
        yield Finding(level, "Docker", "no engine answers", remedy)
    elif not _answers("docker", "compose", "version"):
        yield Finding(level, "Docker", "an engine without Compose", remedy)
    else:
        yield Finding(OK, "Docker", "an engine with Compose")


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything."""
    at = place(environment)
    found = [*machine(), *installed(at), *programs(), *containers(at), *room(at), *words()]
    if at.in_containers:
        found = [replace(each, level=NOTE) if each.name in NATIVE and each.level == MISSING else each for each in found]
    if sys.platform == "linux":
        pids = ours(at.state)
        found += free_ports(at, pids)
        found += [] if at.in_containers else pipeline(at, pids)
    return found


def main(arguments: Sequence[str]) -> int:
    """Print what was found, a line each, and return the exit status; with --json an object per line."""
    found = examine(os.environ)
    if list(arguments) not in ([], ["--json"]):
        sys.stderr.write("usage: doctor [--json]\n")
        return 2
    for each in found:
        if arguments:
            sys.stdout.write(json.dumps(vars(each)) + "\n")
        else:
            remedy = f"\n{'':<29}get it: {each.remedy}" if each.remedy else ""
            sys.stdout.write(f"{each.level:<8} {each.name:<19} {each.found}{remedy}\n")
    lacking = sum(each.level == MISSING for each in found)
    if not arguments:
        sys.stdout.write(f"{lacking} missing\n" if lacking else "nothing is missing\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
