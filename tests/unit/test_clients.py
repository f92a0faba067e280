"""The shell, and the clients of the databases: where they connect, and what nobody else may see."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tools.__main__ import main
from tools.clients import app as clients

PASSWORD = 'a b&<"secret">'


def test_no_client_has_its_password_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and account are given, the password in the environment only, of which psql and the account file read."""
    for name, value in {"POSTGRES_PORT": "1", "POSTGRES_DB": "shop", "CLICKHOUSE_NATIVE_PORT": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POSTGRES_PASSWORD", PASSWORD)
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", PASSWORD)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    program, environment = clients.psql()
    assert PASSWORD not in " ".join(program)
    assert environment["PGPASSWORD"] == PASSWORD
    assert (environment["PGHOST"], environment["PGPORT"], environment["PGDATABASE"]) == ("127.0.0.1", "1", "shop")

    program, environment = clients.clickhouse()
    assert program[1:] == [f"--config-file={clients.ACCOUNT}", "--host=127.0.0.1", "--port=2", "--database=placar"]
    account = ET.parse(clients.ACCOUNT).getroot()  # noqa: S314 - our own file
    assert {element.get("from_env") for element in account} == set(environment)
    read = ET.fromstring(f"<from_env>{environment['PLACAR_CLICKHOUSE_PASSWORD']}</from_env>")  # noqa: S314 - as above
    assert read.text == PASSWORD


@pytest.mark.parametrize("arguments", [["-At", "-c", "SELECT 1"], ["-h", "there", "-c"], ["--query=SELECT 1"]])
def test_a_client_gets_its_arguments_as_they_are(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Options that placar does not know, or knows otherwise, are the client's."""
    started: list[list[str]] = []
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "execvpe", lambda _, command, __: started.append(command))
    assert main(["psql", *arguments]) == 0
    assert started == [["/bin/psql", *arguments]]


@pytest.mark.parametrize("name", ["psql", "clickhouse"])
def test_a_client_that_is_not_installed_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """The line says which package brings it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clients, "DEBIAN_POSTGRES", tmp_path)
    assert main([name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name} not done: ")
    assert "apt-get install" in line


def test_the_shell_has_the_project_at_hand_and_awaits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, catalogue and await at the prompt; no mistake or absent server ends it, and no secret shows."""
    monkeypatch.setenv("KAFKA_PORT", "1")
    monkeypatch.setenv("POSTGRES_PASSWORD", "hidden-word")
    typed = (
        'topics["sales.dlq"].partitions * 1000',
        "settings.postgres",
        "import asyncio",
        "kept = await asyncio.sleep(0, 6)",
        "kept * 7",
        "1 / 0",
        'await tail("sales.dlq")',
        '"still " + "here"',
    )
    run = subprocess.run(
        [sys.executable, "-m", "tools", "shell"],
        input="\n".join(typed) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert all(words in run.stdout for words in ("000\n", "42\n", "'still here'\n"))
    assert "ZeroDivisionError" in run.stderr
    assert "kafka at 127.0.0.1:1 (settings KAFKA_HOST, KAFKA_PORT)" in run.stderr
    assert "hidden-word" not in run.stdout + run.stderr
