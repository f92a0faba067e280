"""`python3 deploy/doctor.py`: what this machine lacks for Placar, and how to get it. Installs and changes nothing.

Exit status: 0 nothing is missing, 1 something is. Needs Python 3.8 and its standard library only: it runs before
anything is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import locale
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python knows its folder only
    sys.path.insert(0, str(ROOT))

from deploy.native import packages  # noqa: E402 - its table of requirements needs no more than this module

OK, NOTE, MISSING = "ok", "note", "MISSING"
GIB = 2**30
INSTALLED_GIB = 5  # jars, two Python environments, tools, and their downloads meanwhile
KEPT_GIB = 1
MEMORY_GIB = 6
FILES = 1024  # the supervisor does not start with fewer
PYTHON = (3, 8)
TOOLS = ("uv", "task")
ENVIRONMENTS = (("Python environment", "venv", "requirements.lock"),
                ("Flink's environment", "flink-venv", "flink/requirements.lock"))  # fmt: skip
IN_CONTAINERS = ("GRAFANA_PORT", "MARQUEZ_UI_PORT")
UP = ("STARTING", "RUNNING")
SHOWN = 5
ENGINE_S = 5
NATIVE = {"Flink's environment", "jars", "setpriv", *(each.name for each in packages.REQUIREMENTS)}
"""What the servers need that containers bring with them."""
CURRENT_CLICKHOUSE = (22, 3)
LISTEN = "0A"  # of /proc/net/tcp


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: its level, the detail, and where it is not right, how to get it."""

    level: str
    name: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Checkout:
    """Where this checkout keeps what is installed and its state, and the settings of `.env` and the environment."""

    settings: Mapping[str, str]
    home: Path
    state: Path

    @property
    def profiles(self) -> set[str]:
        """The profiles that PLACAR_PROFILES or the last `up` has chosen."""
        last = self.state / "profiles"
        remembered = last.read_text("utf-8") if last.is_file() else ""
        return set(re.findall(r"\w+", f"{self.settings.get('PLACAR_PROFILES', '')},{remembered}"))

    @property
    def in_containers(self) -> bool:
        """Whether the pipeline runs by compose.yaml: by RUNTIME, else by the last `up`."""
        wanted, last = self.settings.get("RUNTIME", ""), self.state / "runtime"
        if wanted in ("native", "compose"):
            return wanted == "compose"
        return last.is_file() and last.read_text("utf-8").strip() == "compose"


def _check(ok: bool, name: str, detail: str, remedy: str, level: str = MISSING) -> Finding:
    """What holds has level `ok` and needs no remedy."""
    return Finding(OK, name, detail) if ok else Finding(level, name, detail, remedy)


def dotenv(text: str) -> dict[str, str]:
    """The variables of a `.env` file; quotes around a value and comments after it are dropped."""
    variables = {}
    for line in text.splitlines():
        match = re.match(r"\s*(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)$", line)
        if match:
            quoted = re.match(r"""\s*(["'])(.*?)\1""", match[2])
            variables[match[1]] = quoted[2] if quoted else re.split(r"\s#", match[2])[0].strip()
    return variables


def checkout(environment: Mapping[str, str]) -> Checkout:
    """This checkout's folders and settings; the environment wins over `.env`."""
    file = ROOT / ".env"
    settings = {**(dotenv(file.read_text("utf-8")) if file.is_file() else {}), **environment}
    home = (ROOT / (settings.get("PLACAR_HOME") or ".placar")).resolve()
    state = (ROOT / (settings.get("PLACAR_STATE") or home / "state")).resolve()
    return Checkout(settings, home, state)


def ports(settings: Mapping[str, str], profiles: Collection[str]) -> dict[str, str]:
    """Each port of the native runtime with these profiles, by its setting: the defaults are those of `.env.example`."""
    text = (ROOT / ".env.example").read_text("utf-8")
    return {
        name: settings.get(name) or default
        for name, default, profile in re.findall(r"^#([A-Z0-9_]+_PORT)=(\d+)(?:.*\(profile (\w+)\))?", text, re.M)
        if name not in IN_CONTAINERS and profile in ("", *profiles)
    }


def machine() -> Iterator[Finding]:
    """The system and its Python."""
    system = f"{platform.system()} {platform.release()}"
    yield _check(sys.platform == "linux", "Linux", system, "run Placar on Linux, in a virtual machine or in containers")
    version = f"{platform.python_version()} ({sys.executable})"
    remedy = "apt-get install python3 (Placar installs the Python 3.11 that it runs on by itself)"
    yield _check(sys.version_info >= PYTHON, "python3", version, remedy)


def installed(here: Checkout) -> Iterator[Finding]:
    """What Placar installs by itself, into its own folder."""
    lacking = [name for name in TOOLS if not (here.home / "tools" / "bin" / name).is_file() and not shutil.which(name)]
    if lacking and importlib.util.find_spec("pip") is None:
        yield Finding(MISSING, "pip", "not installed", "apt-get install python3-pip; ./taskw gets uv and task with it")
    else:
        detail = f"no {' and no '.join(lacking)}" if lacking else " and ".join(TOOLS)
        yield _check(not lacking, "tools", detail, "./taskw build installs them")
    for name, folder, lock in ENVIRONMENTS:
        stamp = here.home / folder / "lock"
        if not stamp.is_file():
            yield Finding(MISSING, name, f"not in {here.home / folder}", "./taskw build installs it")
        else:
            current = stamp.read_bytes() == (ROOT / lock).read_bytes()
            detail = f"as in {lock}" if current else f"older than {lock}"
            yield _check(current, name, detail, "./taskw build updates it")
    jars = len(list((here.home / "jars").glob("**/*.jar")))
    yield _check(jars > 0, "jars", f"{jars or 'none'} in {here.home / 'jars'}", "./taskw build installs them")


def _requirement(each: packages.Requirement, level: str) -> Finding:
    version = each.find()
    if version is not None and version >= each.least:
        return Finding(OK, each.name, _dotted(version))
    detail = f"{'not installed' if version is None else _dotted(version)}; {_dotted(each.least)} or newer is needed"
    return Finding(level, each.name, detail, packages.by_hand([each]))


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def programs() -> Iterator[Finding]:
    """Servers and tools of the system's packages."""
    checked = [
        *(_requirement(each, MISSING) for each in packages.REQUIREMENTS),
        *(_requirement(each, NOTE) for each in packages.FOR_TESTS),
    ]
    yield from checked
    yield from bi_drivers(next(each.detail for each in checked if each.name == "ClickHouse"))
    if any(each.level == MISSING for each in checked):
        by_itself = shutil.which("apt-get") is not None and (os.geteuid() == 0 or shutil.which("sudo") is not None)
        detail = (
            f"{'installs' if by_itself else 'cannot install'} these by itself, which takes apt-get and root or sudo"
        )
        yield Finding(NOTE, "./taskw build", detail)
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv", path=packages.SEARCH_PATH)
        remedy = "apt-get install util-linux (Postgres does not run as root)"
        yield _check(setpriv is not None, "setpriv", setpriv or "not installed", remedy)


def bi_drivers(clickhouse: str) -> Iterator[Finding]:
    """Whether current BI tools can read the served database, given ClickHouse's version; placar itself can."""
    version = packages.version(clickhouse.partition(";")[0])
    if version is not None and version < CURRENT_CLICKHOUSE:
        remedy = "HTTP with FORMAT JSON or CSVWithNames, or a current ClickHouse: docs/operating.md#bi-tools"
        yield Finding(NOTE, "BI drivers", f"current ones do not work with ClickHouse {_dotted(version)}", remedy)


def _memory_gib() -> float:
    """The machine's memory, or the limit of the container that this runs in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(file).read_text("ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return total / GIB


def room(here: Checkout) -> Iterator[Finding]:
    """Disk, memory, files, and whether the folders may be written."""
    software = KEPT_GIB if (here.home / "flink-venv" / "lock").is_file() else INSTALLED_GIB
    for name, folder, least in (("disk, software", here.home, software), ("disk, data", here.state, KEPT_GIB)):
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(existing).free / GIB
        remedy = f"make room: {least} GiB at {folder}, or choose another folder in .env"
        yield _check(free >= least, name, f"{free:.1f} GiB free at {folder}", remedy)
        if not os.access(existing, os.W_OK):
            yield Finding(MISSING, name, f"{existing} is not writable", "choose PLACAR_HOME and PLACAR_STATE in .env")
    memory = _memory_gib()
    remedy = f"{MEMORY_GIB} GiB let everything run at once; with less `up -- --only api` and the like"
    yield _check(memory >= MEMORY_GIB, "memory", f"{memory:.1f} GiB", remedy, NOTE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = resource.RLIM_INFINITY in (soft, hard) or hard >= FILES
    yield _check(enough, "open files", str(soft), f"ulimit -n {FILES}")


def encoding() -> Finding:
    """The locale: names of cities have accents."""
    remedy = "export LC_ALL=C.UTF-8"
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        wanted = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
        return Finding(MISSING, "locale", f"{wanted} is not on this machine", remedy)
    name = locale.getpreferredencoding(False)
    return _check(name.lower().replace("-", "") == "utf8", "locale", name, remedy)


def _processes() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())


def ours(state: Path) -> dict[int, str]:
    """The processes of this checkout's pipeline by their ids: they carry its mark in their environment."""
    mark = f"PLACAR_RUNTIME={state}".encode()
    names = {}
    for process in _processes():
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                names[int(process.name)] = (process / "comm").read_text("utf-8").strip()
        except OSError:  # it has ended, or is another user's
            continue
    return names


def listeners() -> dict[int, str]:
    """The port of every listening TCP socket of this machine, with the socket as /proc/PID/fd shows it."""
    sockets = {}
    for file in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in file.read_text("ascii").splitlines()[1:] if file.exists() else ():
            fields = line.split()
            if fields[3] == LISTEN:
                sockets[int(fields[1].rpartition(":")[2], 16)] = f"socket:[{fields[9]}]"
    return sockets


def holders() -> dict[str, int]:
    """The process of each open file, as far as this account may see."""
    files = {}
    for process in _processes():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    files[os.readlink(link)] = int(process.name)  # noqa: PTH115 - Python 3.8 has no other
    return files


def free_ports(here: Checkout, pids: Mapping[int, str]) -> Iterator[Finding]:
    """Ports that others hold."""
    wanted, listening, holding = ports(here.settings, here.profiles), listeners(), holders()
    wrong = [name for name, port in wanted.items() if not port.isdigit() or not 0 < int(port) < 65536]
    for name in wrong:
        yield Finding(MISSING, "port", f"{name} {wanted[name][:60]!r} is not a port", f"set {name} in .env")
    held, others = 0, 0
    for name, port in wanted.items():
        if name in wrong or int(port) not in listening:
            continue
        held += 1
        pid = holding.get(listening[int(port)])
        program = Path(f"/proc/{pid}/comm").read_text("utf-8").strip() if pid else ""
        if pid in pids or (here.in_containers and program == "docker-proxy"):
            continue
        others += 1
        owner = f"process {pid} ({program})" if pid else "another account"
        yield Finding(MISSING, "port", f"{name} {port} is in use by {owner}", f"end it, or set {name} in .env")
    if not others and not wrong:
        yield Finding(OK, "ports", f"{len(wanted)} of Placar{f', {held} in use by this pipeline' if held else ''}")


def supervised(here: Checkout) -> dict[str, str] | None:
    """The state of each process by supervisorctl; None where no supervisor answers."""
    control, file = here.home / "venv" / "bin" / "supervisorctl", here.state / "conf" / "supervisord.conf"
    try:
        run = subprocess.run(
            [str(control), "-c", str(file), "status"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    states = dict(re.findall(r"^(\w+) +([A-Z]+)(?: .*)?$", run.stdout, re.M))
    return states or None


def pipeline(here: Checkout, pids: Mapping[int, str]) -> Finding:
    """Whether the pipeline runs, does not, or was left half-way."""
    states = supervised(here)
    if states is None:
        few = ", ".join(f"{pid} {name}" for pid, name in list(pids.items())[:SHOWN])
        detail = f"{len(pids)} processes without a supervisor ({few} ...)" if pids else "stopped; ./taskw up starts it"
        return _check(not pids, "pipeline", detail, "./taskw down ends them; ./taskw up begins again")
    down = [f"{name} ({state.lower()})" for name, state in states.items() if state not in UP]
    if not down:
        return Finding(OK, "pipeline", f"{len(states)} processes run")
    more = f" and {len(down) - SHOWN} more" if len(down) > SHOWN else ""
    detail = f"{len(states) - len(down)} of {len(states)} processes run; not {', '.join(down[:SHOWN])}{more}"
    remedy = "./taskw up starts what is missing; ./taskw logs -- NAME shows why it ended"
    return Finding(MISSING, "pipeline", detail, remedy)


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=ENGINE_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def containers(here: Checkout) -> Finding:
    """A Docker engine with Compose: missing only where the pipeline is to run there."""
    engine = _answers("docker", "version")
    compose = engine and _answers("docker", "compose", "version")
    detail = "an engine with Compose" if compose else "an engine without Compose" if engine else "no engine answers"
    remedy = "https://docs.docker.com/engine/install/ with the Compose plugin; only RUNTIME=compose needs it"
    return _check(compose, "Docker", detail, remedy, MISSING if here.in_containers else NOTE)


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Check everything."""
    here = checkout(environment)
    findings = [*machine(), *installed(here), *programs(), containers(here), *room(here), encoding()]
    if here.in_containers:
        findings = [
            replace(each, level=NOTE) if each.name in NATIVE and each.level == MISSING else each for each in findings
        ]
    if sys.platform == "linux":
        pids = ours(here.state)
        findings += free_ports(here, pids)
        findings += [] if here.in_containers else [pipeline(here, pids)]
    return findings


def main(arguments: Sequence[str]) -> int:
    """Print a line for each finding and return the exit status; with --json an object per line."""
    if list(arguments) not in ([], ["--json"]):
        sys.stderr.write("usage: doctor [--json]\n")
        return 2
    findings = examine(os.environ)
    for each in findings:
        if arguments:
            sys.stdout.write(json.dumps(vars(each)) + "\n")
        else:
            remedy = f"\n{'':<29}get it: {each.remedy}" if each.remedy else ""
            sys.stdout.write(f"{each.level:<8} {each.name:<19} {each.detail}{remedy}\n")
    missing = sum(each.level == MISSING for each in findings)
    if not arguments:
        sys.stdout.write(f"{missing} missing\n" if missing else "nothing is missing\n")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
