"""The doctor: its findings on a machine, run as it is before anything is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy import doctor
from deploy.doctor import MISSING, NOTE, OK, Checkout, Finding
from deploy.native.ports import free_ports
from deploy.native.settings import PORTS
from deploy.native.table import TABLE

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable


def run(environment: Mapping[str, str], *arguments: str, python: str = SYSTEM_PYTHON) -> tuple[int, dict[str, Finding]]:
    """Its exit status and its findings by name, in an environment of nothing but this."""
    ended = subprocess.run(
        [python, str(ROOT / "deploy" / "doctor.py"), "--json", *arguments],
        env=dict(environment),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.stderr == "", ended.stderr
    findings = [Finding(**json.loads(line)) for line in ended.stdout.splitlines()]
    return ended.returncode, {each.name: each for each in findings}


def test_on_a_bare_machine_each_missing_part_has_its_remedy(tmp_path: Path) -> None:
    """With no program on PATH and nothing installed each is missing with its remedy, and the status is 1."""
    here = {"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"}
    status, findings = run(
        {**here, **free_ports(), "KAFKA_PORT": "99999"}
    )  # a pipeline may run here on the usual ports
    assert status == 1
    assert {name: findings[name].level for name in ("tools", "Python environment", "Flink's environment", "jars")} == (
        dict.fromkeys(("tools", "Python environment", "Flink's environment", "jars"), MISSING)
    )
    assert (findings["Java"].level, findings["Maven"].level, findings["Chromium"].level) == (MISSING, MISSING, NOTE)
    assert "apt-get install -y default-jre-headless" in findings["Java"].remedy
    assert "./taskw build" in findings["jars"].remedy
    assert findings["./taskw build"].detail.startswith("cannot install")
    assert findings["port"].detail == "KAFKA_PORT '99999' is not a port"
    assert all(each.remedy for each in findings.values() if each.level == MISSING)
    assert str(tmp_path / "home") in findings["disk, software"].detail


def test_containers_need_an_engine_and_no_servers(tmp_path: Path) -> None:
    """Where the pipeline runs in containers, Docker is missing and Java is not; natively it is the other way round."""
    environment = {"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    _, findings = run({**environment, "RUNTIME": "compose"})
    assert {findings[name].level for name in ("Java", "Maven", "jars", "Flink's environment")} == {NOTE}
    assert (findings["Docker"].level, findings["Docker"].detail) == (MISSING, "no engine answers")
    assert "pipeline" not in findings
    _, findings = run({**environment, "RUNTIME": "native"})
    assert (findings["Java"].level, findings["Docker"].level) == (MISSING, NOTE)

    docker = tmp_path / "docker"
    for script, detail in (('[ "$1" = version ]', "an engine without Compose"), ("exit 0", "an engine with Compose")):
        docker.write_text(f"#!/bin/sh\n{script}\n")
        docker.chmod(0o755)
        _, findings = run({**environment, "RUNTIME": "compose"})
        assert findings["Docker"].detail == detail


def test_a_program_that_is_too_old_is_missing(tmp_path: Path) -> None:
    """The version that a program prints counts, not that it exists."""
    for name, version in (("java", "openjdk 11.0.2 2019"), ("mvn", "Apache Maven 3.9.1")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / name).chmod(0o755)
    _, findings = run({"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"})
    assert (findings["Java"].level, findings["Java"].detail) == (MISSING, "11.0.2; 17 or newer is needed")
    assert (findings["Maven"].level, findings["Maven"].detail) == (OK, "3.9.1")


def test_a_locale_that_the_machine_lacks_is_named(tmp_path: Path) -> None:
    """A locale that the machine lacks, or one without UTF-8, is missing."""
    environment = {"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path), "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for wanted, detail in (("xx_XX.UTF-8", "xx_XX.UTF-8 is not on this machine"), ("POSIX", "ANSI_X3.4-1968")):
        _, findings = run({**environment, "LC_ALL": wanted})
        assert (findings["locale"].level, findings["locale"].detail) == (MISSING, detail)
        assert findings["locale"].remedy == "export LC_ALL=C.UTF-8"


def test_it_runs_before_the_tools_are_installed(tmp_path: Path) -> None:
    """`./taskw doctor` installs nothing; without python3 it says how to get it."""
    home = tmp_path / "home"
    environment = {"PATH": os.environ["PATH"], "PLACAR_HOME": str(home), "LC_ALL": "C.UTF-8"}
    run_ = subprocess.run(
        [str(ROOT / "taskw"), "doctor"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert run_.returncode == 1
    assert f"MISSING  Python environment  not in {home / 'venv'}" in run_.stdout
    assert not home.exists()
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    bare = subprocess.run(
        ["/bin/sh", str(ROOT / "taskw"), "doctor"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (bare.returncode, bare.stderr) == (1, "MISSING  python3: apt-get install python3 python3-pip\n")


def test_its_ports_are_those_of_the_runtime() -> None:
    """The doctor reads .env.example; every port of the runtime is there."""
    assert doctor.ports({}, TABLE.profiles) == {name: str(port) for name, (port, _) in PORTS.items()}
    assert doctor.ports({"API_PORT": "7"}, [])["API_PORT"] == "7"


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("API_PORT=8081", {"API_PORT": "8081"}),
        ("API_PORT=8081   # mine", {"API_PORT": "8081"}),
        ("export API_PORT='8081'", {"API_PORT": "8081"}),
        ('FLINK_OPTIONS="-a # -b" # c', {"FLINK_OPTIONS": "-a # -b"}),
        ("#API_PORT=8081", {}),
        ("", {}),
    ],
)
def test_settings_of_a_file(line: str, variables: dict[str, str]) -> None:
    """Comments and quotes are not part of a value."""
    assert doctor.dotenv(line) == variables


def test_a_port_that_another_process_holds_is_named() -> None:
    """The line names setting, port and process; one of the pipeline's own is left out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = Checkout({"API_PORT": str(port)}, Path("/h"), Path("/s"))
        named = [each for each in doctor.free_ports(here, {}) if "API_PORT" in each.detail]
        assert [each.level for each in named] == [MISSING]
        assert named[0].detail.startswith(f"API_PORT {port} is in use by process {os.getpid()} (")
        mine = list(doctor.free_ports(here, {os.getpid(): "api"}))
    assert not [each for each in mine if "API_PORT" in each.detail]


def test_processes_without_a_supervisor_are_named(tmp_path: Path) -> None:
    """Processes that a killed supervisor left are missing their supervisor; without any, all is in order."""
    here = Checkout({}, tmp_path, tmp_path)
    left = doctor.pipeline(here, {7: "java"})
    assert (left.level, left.detail) == (MISSING, "1 processes without a supervisor (7 java ...)")
    assert "./taskw down" in left.remedy
    none = doctor.pipeline(here, {})
    assert none.level == OK


def test_the_states_of_a_running_supervisor_are_read(tmp_path: Path) -> None:
    """What supervisorctl prints is summed up: the processes that do not run are named with their state."""
    control = tmp_path / "venv" / "bin" / "supervisorctl"
    control.parent.mkdir(parents=True)
    control.write_text(
        "#!/bin/sh\necho 'api   RUNNING   pid 7, uptime 0:00:09'; echo 'cdc   FATAL     Exited too quickly'\n"
    )
    control.chmod(0o755)
    finding = doctor.pipeline(Checkout({}, tmp_path, tmp_path), {7: "python"})
    assert (finding.level, finding.detail) == (MISSING, "1 of 2 processes run; not cdc (fatal)")
    control.write_text("#!/bin/sh\necho 'unix:///x.sock no such file'; exit 4\n")
    assert doctor.pipeline(Checkout({}, tmp_path, tmp_path), {}).level == OK


@pytest.mark.parametrize(
    ("version", "noted"), [("18.16.1", True), ("18.4; 18.16 or newer is needed", True), ("26.3.20", False)]
)
def test_an_old_clickhouse_is_noted_with_what_bi_tools_can_use(version: str, noted: bool) -> None:
    """Current drivers do not speak to it: the note says which way works and where that is described."""
    findings = list(doctor.bi_drivers(version))
    assert [each.level for each in findings] == ([NOTE] if noted else [])
    assert all("FORMAT JSON" in each.remedy and "docs/operating.md#bi-tools" in each.remedy for each in findings)
    assert "\n## BI tools\n" in (ROOT / "docs" / "operating.md").read_text("utf-8")
