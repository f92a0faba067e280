"""How a command ends: one line and a status for whatever keeps it from its work."""

import subprocess
import sys

import pytest
from aiokafka.errors import KafkaConnectionError
from asynch.errors import ServerException

from chassis.clickhouse import StoreUnavailableError
from chassis.command import NotDoneError, command, run
from chassis.registry import RegistryUnavailableError
from contracts.codec import ContractError


@pytest.mark.parametrize(
    ("error", "said"),
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
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    """The line names the command, and of a server its address and settings, never a secret."""
    for name, value in {
        "KAFKA_PORT": "1",
        "SCHEMA_REGISTRY_PORT": "2",
        "CLICKHOUSE_NATIVE_PORT": "3",
        "CLICKHOUSE_PASSWORD": "hidden-word",
    }.items():
        monkeypatch.setenv(name, value)

    @command("count")
    def main() -> int:
        raise error

    assert main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"count not done: {said}")
    assert err.count("\n") == 1
    assert "hidden-word" not in err


def test_a_mistake_of_the_command_itself_keeps_its_traceback() -> None:
    """Only what is known to be outside the command is told in a line."""

    @command("count")
    def main() -> int:
        raise KeyError("missing")

    with pytest.raises(KeyError):
        main()


def test_the_status_of_a_command_is_that_of_its_process() -> None:
    """What main returns is the exit status; Ctrl-C makes it 130."""

    def interrupted() -> int:
        raise KeyboardInterrupt

    for main, status in ((lambda: 1, 1), (interrupted, 130)):
        with pytest.raises(SystemExit) as ended:
            run(main)
        assert ended.value.code == status


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`command | head` ends as other commands do, without a traceback."""
    script = "from chassis.command import run; run(lambda: [print('line') for _ in range(100_000)] and 0)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
