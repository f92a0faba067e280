"""Backup and restore of a stopped runtime's folders."""

import os
import tarfile
from pathlib import Path

import pytest

from chassis.settings import load
from deploy.native import backup, supervise
from deploy.native.backup import BackupError
from deploy.native.settings import NativeSettings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NativeSettings:
    """A state folder with a file of each kind, and the database's beside it."""
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("deploy.native.postgres.data_dir", lambda _: tmp_path / "elsewhere" / "data")
    files = ("state/data/kafka/log", "state/flink/ranking.json", "state/logs/api.log", "elsewhere/data/PG_VERSION")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "elsewhere" / "data").chmod(0o700)
    with (tmp_path / "state" / "data" / "kafka" / "index").open("wb") as sparse:
        sparse.truncate(50_000_000)
    return load(NativeSettings)


def remove_data(settings: NativeSettings) -> None:
    """What `clean` leaves: no data."""
    for number, folder in enumerate(backup.folders(settings)):
        folder.rename(settings.state_dir.parent / f"gone-{number}")


def test_what_was_backed_up_is_there_again(settings: NativeSettings, tmp_path: Path) -> None:
    """Data, checkpoints and database return with their modes; logs are left out, holes are not written."""
    size = backup.backup(settings, tmp_path / "b.tar")
    remove_data(settings)
    backup.restore(settings, tmp_path / "b.tar")
    assert (settings.state_dir / "data/kafka/log").read_text() == "state/data/kafka/log"
    assert (settings.state_dir / "flink/ranking.json").is_file()
    assert (tmp_path / "elsewhere/data/PG_VERSION").is_file()
    assert (tmp_path / "elsewhere/data").stat().st_mode & 0o777 == 0o700
    assert (settings.state_dir / "data/kafka/index").stat().st_size == 50_000_000
    assert size < 1_000_000
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert not [name for name in archive.getnames() if "logs" in name]


def test_a_restore_overwrites_nothing(settings: NativeSettings, tmp_path: Path) -> None:
    """Where there is data it is rejected, with the remedy, and the data is as it was."""
    backup.backup(settings, tmp_path / "b.tar")
    (settings.state_dir / "data/kafka/log").write_text("newer")
    with pytest.raises(BackupError, match="would be overwritten: task clean first"):
        backup.restore(settings, tmp_path / "b.tar")
    assert (settings.state_dir / "data/kafka/log").read_text() == "newer"


def test_a_backup_of_another_state_folder_is_rejected(
    settings: NativeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints hold full paths, so the message names the setting."""
    backup.backup(settings, tmp_path / "b.tar")
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path / "other"))
    monkeypatch.setattr("deploy.native.postgres.data_dir", lambda _: tmp_path / "other" / "postgres" / "data")
    with pytest.raises(BackupError, match=r"is not a backup of .*other/data.* \(setting PLACAR_STATE\)"):
        backup.restore(load(NativeSettings), tmp_path / "b.tar")


def test_a_broken_backup_leaves_nothing_behind(settings: NativeSettings, tmp_path: Path) -> None:
    """Half of the data is not taken for all of it."""
    (settings.state_dir / "data/kafka/segment").write_bytes(os.urandom(200_000))
    backup.backup(settings, tmp_path / "b.tar")
    remove_data(settings)
    os.truncate(tmp_path / "b.tar", 100_000)
    with pytest.raises(BackupError, match=r"or broken: .*Unexpected EOF"):
        backup.restore(settings, tmp_path / "b.tar")
    assert not [path for path in backup.folders(settings) if path.exists()]


def test_a_running_runtime_is_neither_copied_nor_overwritten(
    settings: NativeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stores change while they are read."""
    monkeypatch.setattr(supervise, "running", lambda _: True)
    for command in (backup.backup, backup.restore):
        with pytest.raises(BackupError, match="needs a stopped runtime: task down first"):
            command(settings, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_a_backup_that_fails_leaves_no_file(settings: NativeSettings, tmp_path: Path) -> None:
    """An existing file is kept, and half an archive is not taken for a whole one."""
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(BackupError, match=r"b\.tar exists: name another file"):
        backup.backup(settings, tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "mine"
    with pytest.raises(BackupError, match="No such file"):
        backup.backup(settings, tmp_path / "missing" / "b.tar")
    remove_data(settings)
    with pytest.raises(BackupError, match=r"nothing to back up: .*state/data"):
        backup.backup(settings, tmp_path / "c.tar")
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["b.tar"]
