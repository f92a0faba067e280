"""The command line: what it declares, how it ends, and one line for whatever keeps a command from its work."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import typer
from aiokafka.errors import KafkaConnectionError
from asynch.errors import ServerException

from chassis.clickhouse import StoreUnavailableError
from chassis.errors import NotDoneError
from chassis.registry import RegistryUnavailableError
from contracts.codec import ContractError
from tools.__main__ import app, main
from tools.options import instant
from tools.table import Rows

ROOT = Path(__file__).parents[2]
SLOW = ("aiokafka", "aiohttp", "asynch", "asyncpg", "faust", "fastapi", "fastavro", "httpx", "obstore", "pydantic")
COMMANDS = list(typer.main.get_group(app).commands)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
    """Let the command `audit` raise this, or print many lines."""

    def run(*_: object, **__: object) -> int:
        if error is not None:
            raise error
        return 1

    monkeypatch.setattr("tools.audit.app.run", run)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KafkaConnectionError("gone"), "kafka at 127.0.0.1:1 (settings KAFKA_HOST, KAFKA_PORT): KafkaConnectionError"),
        (
            RegistryUnavailableError("silent"),
            "schema registry at http://127.0.0.1:2/apis/ccompat/v7 (settings SCHEMA_REGISTRY_HOST, "
            "SCHEMA_REGISTRY_PORT): silent",
        ),
        (
            StoreUnavailableError("closed"),
            "clickhouse at 127.0.0.1:3 (settings CLICKHOUSE_HOST, CLICKHOUSE_NATIVE_PORT): closed",
        ),
        (
            ServerException("no such user Stack trace: long", 192),  # type: ignore[no-untyped-call]
            "clickhouse at 127.0.0.1:3, database placar (settings CLICKHOUSE_DB, CLICKHOUSE_USER, "
            "CLICKHOUSE_PASSWORD): code 192: no such user",
        ),
        (ContractError("run `task contracts:publish`"), "run `task contracts:publish`"),
        (NotDoneError("no such file"), "no such file"),
    ],
)
def test_what_keeps_a_command_from_its_work_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    """The line names the command, and of a server its address and settings, never a secret."""
    for name, value in {
        "KAFKA_PORT": "1",
        "SCHEMA_REGISTRY_PORT": "2",
        "CLICKHOUSE_NATIVE_PORT": "3",
        "CLICKHOUSE_PASSWORD": "hidden-word",
    }.items():
        monkeypatch.setenv(name, value)
    fail_with(monkeypatch, error)
    assert main(["audit"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"audit not done: {line}")
    assert err.count("\n") == 1
    assert "hidden-word" not in err


def test_a_mistake_of_the_command_itself_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is known to lie outside the command becomes a line."""
    fail_with(monkeypatch, KeyError("missing"))
    with pytest.raises(KeyError):
        main(["audit"])


def test_the_status_of_a_command_is_that_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command returns is the exit status; Ctrl-C makes it 130."""
    fail_with(monkeypatch, None)
    assert main(["audit"]) == 1
    fail_with(monkeypatch, KeyboardInterrupt())
    assert main(["audit"]) == 130


@pytest.mark.parametrize("end", ["", "sys.stdout.flush()"])
def test_a_reader_that_has_gone_is_no_error(end: str) -> None:
    """`placar ... | head` ends as other commands do, without a traceback, whenever the reader is missed."""
    script = f"""
import sys
from tools import audit
from tools.audit import app
from tools.__main__ import main
app.run = lambda *_, **__: [print("line") for _ in range(100_000)] and 0
sys.exit(main(["audit"]))
{end}
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "--form", "x"], ("--form", "placar audit --help")),
        (["audti"], ("'audti'", "'audit'", "placar --help")),
        (["audit", "--from", "yesterday"], ("--from", "'yesterday'", "2026-02-19T10:00:00Z")),
        (["audit", "--settle", "3601"], ("--settle", "3601", "3600")),
        (["audit", "--settle", "x" * 500], ("--settle", "xxx...'")),
        (["audit", "--length", "9h"], ("--length", "'9h'", "'1h'", "RANKING_WINDOWS")),
        (["audit", "more"], ("more",)),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: tuple[str, ...]
) -> None:
    """The line names the option, the value, shortened, and what may stand there."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert len(err) < 300
    for word in words:
        assert word in err


def test_help_is_shown_with_and_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """`placar` alone shows what there is, as --help does, which is no mistake."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert "--install-completion" in shown
    assert main([]) == 2
    shown, err = capsys.readouterr()
    assert all(name in shown for name in COMMANDS)
    assert not err


def test_help_comes_at_once() -> None:
    """Help of any command imports no client of a server and no settings: these take a second and more."""
    script = f"""
import sys
from tools.__main__ import main
for command in {[[], *([name] for name in COMMANDS)]!r}:
    status = main([*command, "--help"])
    if status or (slow := sorted(set(sys.modules) & set({SLOW!r}))):
        sys.exit(f"{{command}} ends with {{status}} and imports {{slow}}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"Usage: placar {name}" in done.stdout for name in COMMANDS)


def test_a_shell_completes_commands() -> None:
    """The completion that --show-completion prints asks the program, which answers with its commands."""
    environment = {**os.environ, "_PLACAR_COMPLETE": "complete_bash", "COMP_WORDS": "placar aud", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "tools"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["audit"]


def test_the_program_reads_settings_from_dotenv(tmp_path: Path) -> None:
    """`./placar` runs from any folder; it takes what .env sets, unless the environment sets it."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("placar", "tools", "contracts", "chassis", "requirements.lock"):
        (checkout / name).symlink_to(ROOT / name)
    (checkout / ".env").write_text("CLICKHOUSE_HOST=127.0.0.1\nCLICKHOUSE_NATIVE_PORT=1\nCLICKHOUSE_DB='of the file'\n")
    home = tmp_path / "home"
    (home / "venv" / "bin").mkdir(parents=True)
    python = home / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (home / "venv" / "lock").symlink_to(ROOT / "requirements.lock")
    environment = {"PATH": os.environ["PATH"], "PLACAR_HOME": str(home), "CLICKHOUSE_NATIVE_PORT": "2"}
    done = subprocess.run(
        [checkout / "placar", "audit"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("audit not done: clickhouse at 127.0.0.1:2 (settings")


def test_the_environment_is_installed_where_placar_home_says(tmp_path: Path) -> None:
    """The task that `./placar` runs where it is missing installs nothing into the checkout."""
    tools = Path(os.environ.get("PLACAR_HOME", ROOT / ".placar")) / "tools" / "bin"
    done = subprocess.run(
        [tools / "task", "--dry", "--verbose", "venv"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PLACAR_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip sync --require-hashes requirements.lock" in done.stderr
    assert f'cp requirements.lock "{tmp_path}/venv/lock"' in done.stderr
    assert str(ROOT / ".placar") not in done.stderr


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T03:59:59.9-01:00", 17_999_900),
        ("1970-01-02T00:00:00+00:00", 86_400_000),
    ],
)
def test_a_period_has_instants_in_any_zone(text: str, milliseconds: int) -> None:
    """The ends of a period are instants with a zone."""
    assert instant(text) == milliseconds


@pytest.mark.parametrize("text", ["", "today", "2026-02-19T10:00:00", "1969-12-31T23:00:00Z", "0001-01-01T00:00+14:00"])
def test_no_instant(text: str) -> None:
    """What is not an instant with a zone, or before 1970, is rejected with an example."""
    with pytest.raises(typer.BadParameter, match="2026-02-19T10:00:00Z"):
        instant(text)


def test_rows_are_a_table_or_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A column of numbers is aligned to the right, markup is shown as it is, and JSON has every value exactly."""
    records = [
        {"name": "São [bold]Paulo[/]", "total_sales": Decimal("9999999999999999.99"), "rank": 1},
        {"name": "Recife", "total_sales": Decimal("1.00"), "rank": None},
    ]
    for as_json in (False, True):
        rows = Rows("name", "total_sales", "rank", as_json=as_json)
        for record in records:
            rows.add(record)
        rows.print()
    heading, first, second, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "total", "sales", "rank"]
    assert first.rstrip() == " São [bold]Paulo[/]  9999999999999999.99     1"
    assert second.rstrip() == " Recife                             1.00     -"
    assert [json.loads(line, parse_float=Decimal) for line in lines] == records
