"""The doctor: what it says of a machine, run as it is before anything is installed."""

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
from deploy.doctor import MISSING, NOTE, OK, Finding, Place
from deploy.native.ports import free_ports
from deploy.native.settings import PORTS

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable


def run(environment: Mapping[str, str], *arguments: str, python: str = SYSTEM_PYTHON) -> tuple[int, dict[str, Finding]]:
    """Its exit status and what it found by name, in an environment of nothing but this."""
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
    found = [Finding(**json.loads(line)) for line in ended.stdout.splitlines()]
    return ended.returncode, {each.name: each for each in found}


def test_a_machine_without_anything_is_told_how_to_get_each(tmp_path: Path) -> None:
    """With no program on PATH and nothing installed each is missing with its remedy, and the status is 1."""
    here = {"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"}
    status, found = run({**here, **free_ports(), "KAFKA_PORT": "99999"})  # a pipeline may run here on the usual ports
    assert status == 1
    assert {name: found[name].level for name in ("tools", "Python environment", "Flink's environment", "jars")} == (
        dict.fromkeys(("tools", "Python environment", "Flink's environment", "jars"), MISSING)
    )
    assert (found["Java"].level, found["Maven"].level, found["Chromium"].level) == (MISSING, MISSING, NOTE)
    assert "apt-get install -y default-jre-headless" in found["Java"].remedy
    assert "./taskw build" in found["jars"].remedy
    assert found["./taskw build"].found.startswith("cannot install")
    assert found["port"].found == "KAFKA_PORT '99999' is no port"
    assert all(each.remedy for each in found.values() if each.level == MISSING)
    assert str(tmp_path / "home") in found["disk, software"].found


def test_containers_need_an_engine_and_no_servers(tmp_path: Path) -> None:
    """Where the pipeline runs in containers, Docker is missing and Java is not; natively it is the other way round."""
    environment = {"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    _, found = run({**environment, "RUNTIME": "compose"})
    assert {found[name].level for name in ("Java", "Maven", "jars", "Flink's environment")} == {NOTE}
    assert (found["Docker"].level, found["Docker"].found) == (MISSING, "no engine answers")
    assert "pipeline" not in found
    _, found = run({**environment, "RUNTIME": "native"})
    assert (found["Java"].level, found["Docker"].level) == (MISSING, NOTE)

    docker = tmp_path / "docker"
    for script, said in (('[ "$1" = version ]', "an engine without Compose"), ("exit 0", "an engine with Compose")):
        docker.write_text(f"#!/bin/sh\n{script}\n")
        docker.chmod(0o755)
        _, found = run({**environment, "RUNTIME": "compose"})
        assert found["Docker"].found == said


def test_a_program_that_is_too_old_is_missing(tmp_path: Path) -> None:
    """What a program says of its version counts, not that it is there."""
    for name, said in (("java", "openjdk 11.0.2 2019"), ("mvn", "Apache Maven 3.9.1")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    _, found = run({"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"})
    assert (found["Java"].level, found["Java"].found) == (MISSING, "11.0.2; 17 or newer is needed")
    assert (found["Maven"].level, found["Maven"].found) == (OK, "3.9.1")


def test_a_locale_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A locale that the machine lacks, or one without UTF-8, is missing."""
    environment = {"PATH": str(tmp_path), "PLACAR_HOME": str(tmp_path), "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for wanted, said in (("xx_XX.UTF-8", "xx_XX.UTF-8 is not on this machine"), ("POSIX", "ANSI_X3.4-1968")):
        _, found = run({**environment, "LC_ALL": wanted})
        assert (found["locale"].level, found["locale"].found) == (MISSING, said)
        assert found["locale"].remedy == "export LC_ALL=C.UTF-8"


def test_it_is_run_before_the_tools_are_there(tmp_path: Path) -> None:
    """`./taskw doctor` installs nothing; without python3 it says how to get it."""
    home = tmp_path / "home"
    environment = {"PATH": os.environ["PATH"], "PLACAR_HOME": str(home), "LC_ALL": "C.UTF-8"}
    told = subprocess.run(
        [str(ROOT / "taskw"), "doctor"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 1
    assert f"MISSING  Python environment  not in {home / 'venv'}" in told.stdout
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
    assert doctor.ports({}) == {name: str(port) for name, (port, _) in PORTS.items()}
    assert doctor.ports({"API_PORT": "7"})["API_PORT"] == "7"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("API_PORT=8081", {"API_PORT": "8081"}),
        ("API_PORT=8081   # mine", {"API_PORT": "8081"}),
        ("export API_PORT='8081'", {"API_PORT": "8081"}),
        ('FLINK_OPTIONS="-a # -b" # c', {"FLINK_OPTIONS": "-a # -b"}),
        ("#API_PORT=8081", {}),
        ("", {}),
    ],
)
def test_settings_of_a_file(line: str, found: dict[str, str]) -> None:
    """Comments and quotes are no part of a value."""
    assert doctor.dotenv(line) == found


def test_a_port_of_somebody_else_is_named() -> None:
    """The line names setting, port and process; a port of the pipeline's own is none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        at = Place({"API_PORT": str(port)}, Path("/h"), Path("/s"))
        named = [each for each in doctor.free_ports(at, {}) if "API_PORT" in each.found]
        assert [each.level for each in named] == [MISSING]
        assert named[0].found.startswith(f"API_PORT {port} is in use by process {os.getpid()} (")
        mine = list(doctor.free_ports(at, {os.getpid(): "api"}))
    assert not [each for each in mine if "API_PORT" in each.found]


def test_processes_that_nobody_supervises_are_named(tmp_path: Path) -> None:
    """What a killed supervisor left is missing its supervisor; nothing at all is in order."""
    at = Place({}, tmp_path, tmp_path)
    (left,) = doctor.pipeline(at, {7: "java"})
    assert (left.level, left.found) == (MISSING, "1 processes without a supervisor (7 java ...)")
    assert "./taskw down" in left.remedy
    (none,) = doctor.pipeline(at, {})
    assert none.level == OK
