"""The marker that protects other folders from `clean`, and the lock between commands."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import runtime
from deploy.native import __main__ as native
from deploy.native import state, supervise
from deploy.native.state import StateError, claim, locked, marked

HOLD = """
from pathlib import Path
from deploy.native import state
with state.locked(Path({!r}), "up", wait=True):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that does not exist, of a runtime that does not run."""
    folder = tmp_path / "state"
    monkeypatch.setenv("PLACAR_STATE", str(folder))
    monkeypatch.setattr(supervise, "leftovers", lambda _: [])
    return folder


def test_clean_keeps_a_folder_that_up_has_not_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever PLACAR_STATE names by mistake is kept, and the message says why."""
    folder.mkdir()
    (folder / "thesis.tex").write_text("all my work")

    assert native.main(["clean"]) == 1

    assert (folder / "thesis.tex").read_text() == "all my work"
    assert "(setting PLACAR_STATE) is kept: it has no placar.marker" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["up"], ["dev"], ["restore", "backup.tar"]])
def test_a_folder_with_other_files_is_not_claimed(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Nothing is written beside other files: a later `clean` would remove them."""
    folder.mkdir()
    (folder / "thesis.tex").write_text("all my work")

    assert native.main(command) == 1

    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert "holds other files (thesis.tex): name a new or empty folder" in capsys.readouterr().err


def test_a_folder_that_another_command_claims_meanwhile_is_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marker that appears while the folder is listed is no other file."""
    folder.mkdir()
    listed = Path.iterdir

    def claimed(path: Path) -> Iterator[Path]:
        (folder / state.MARKER).write_text(state.TEXT)
        return iter(list(listed(path)))

    monkeypatch.setattr(Path, "iterdir", claimed)

    claim(folder, "PLACAR_STATE")


def test_the_choice_of_a_runtime_claims_the_folder_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`task up` notes the runtime in the folder, so it declines a foreign one in containers too."""
    monkeypatch.setenv("RUNTIME", "compose")
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert runtime.main(["up"]) == 1
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert "name a new or empty folder" in capsys.readouterr().err


def test_clean_removes_what_was_claimed(folder: Path) -> None:
    """A new folder, an empty one, and one that an earlier version has filled count as ours."""
    claim(folder, "PLACAR_STATE")
    claim(folder, "PLACAR_STATE")
    (folder / "data").mkdir()
    assert native.main(["clean"]) == 0
    assert not folder.exists()
    assert native.main(["clean"]) == 0

    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "supervisord.conf").touch()
    claim(folder, "PLACAR_STATE")
    assert (folder / state.MARKER).is_file()


def test_clean_with_all_keeps_a_home_that_install_has_not_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong PLACAR_HOME costs no folder called tools or venv, nor the data."""
    monkeypatch.setenv("PLACAR_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "tools").mkdir(parents=True)
    claim(folder, "PLACAR_STATE")

    assert native.main(["clean", "--all"]) == 1

    assert (tmp_path / "home" / "tools").is_dir()
    assert folder.is_dir()
    assert "(setting PLACAR_HOME) is kept" in capsys.readouterr().err


def hold(folder: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(str(folder))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_up_waits_for_the_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reports which process it waits for, and continues when that one ends, however it ends."""
    claim(folder, "PLACAR_STATE")
    with hold(folder) as first:
        second = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(str(folder))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with second:
            assert second.stdout is not None
            assert second.stdout.readline() == f"waiting for `up` (process {first.pid}) ...\n"
            first.kill()
            assert second.stdout.readline() == "held\n"


def test_clean_and_backup_decline_while_up_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither removes or copies files under a command that is writing them."""
    claim(folder, "PLACAR_STATE")
    with hold(folder) as up:
        for command in (["clean"], ["backup", "b.tar"], ["restore", "b.tar"]):
            assert native.main(command) == 1
            assert f"`up` (process {up.pid}) is changing {folder}: wait for it, or stop it" in capsys.readouterr().err
        up.communicate("\n")
    assert marked(folder)
    assert native.main(["clean"]) == 0


def test_after_clean_the_lock_is_taken_in_the_new_folder(folder: Path) -> None:
    """The lock of a removed folder is worth nothing, so it is taken again in the new one."""
    claim(folder, "PLACAR_STATE")
    with hold(folder) as first:
        second = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(str(folder))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with second:
            assert second.stdout is not None
            assert second.stdout.readline().startswith("waiting for")
            (folder / state.LOCK).unlink()
            (folder / state.MARKER).unlink()
            folder.rmdir()
            first.communicate("\n")
            assert second.stdout.readline() == "held\n"
            with pytest.raises(StateError, match=f"process {second.pid}"), locked(folder, "clean", wait=False):
                pass


def test_tools_are_not_installed_over_another_folder(tmp_path: Path) -> None:
    """`./taskw` with a PLACAR_HOME that has its own folder `tools` ends with one line, and the folder stays."""
    (tmp_path / "tools").mkdir()
    script = Path(__file__).parents[2] / "deploy" / "native" / "tools.sh"
    run = subprocess.run(["sh", str(script), str(tmp_path / "tools")], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "(setting PLACAR_HOME) is not Placar's" in run.stderr
    assert (tmp_path / "tools").is_dir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 256, r"\(setting PLACAR_STATE\): File name too long"),
        ("/".join("x" * 200 for _ in range(3)), "is too long"),
    ],
)
def test_a_path_that_is_too_long_is_named(tmp_path: Path, name: str, message: str) -> None:
    """Before anything starts: a server would fail later with its own message."""
    with pytest.raises(StateError, match=message):
        claim(tmp_path / name, "PLACAR_STATE")
    assert list(tmp_path.iterdir()) == []
