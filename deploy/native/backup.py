"""Backup of everything that a stopped runtime keeps into one file, and restore."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.native import postgres, supervise
from deploy.native.settings import NativeSettings

KEPT = ("data", "flink")
"""What `up` cannot recreate of the state folder; the database's folder may lie elsewhere."""


class BackupError(Exception):
    """The backup or restore failed; the message says what to do."""


def folders(settings: NativeSettings) -> list[Path]:
    """The folders that are copied together: stores, offsets, checkpoints and slot belong to one moment."""
    return [*(settings.state_dir / name for name in KEPT), postgres.data_dir(settings).parent]


def _stopped(settings: NativeSettings, what: str) -> None:
    if supervise.running(settings) or supervise.leftovers(settings):
        raise BackupError(f"{what} needs a stopped runtime: task down first")


def _tar(arguments: Sequence[str], paths: Sequence[Path]) -> None:
    """GNU tar, for it leaves out the holes of sparse files; names are those below the root folder."""
    command = ["tar", "--directory=/", *arguments, "--", *(str(path.relative_to("/")) for path in paths)]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError:
        raise BackupError("tar is missing (Debian: apt-get install tar)") from None
    if run.returncode != 0:
        raise BackupError(run.stdout.strip()[-500:])


def backup(settings: NativeSettings, file: Path) -> int:
    """Copy everything into `file`, which must not exist and appears when it is complete; returns its size in bytes.

    Raises:
        BackupError: the runtime runs, there is nothing to copy, or the file cannot be written.
    """
    _stopped(settings, "a backup")
    missing = [str(path) for path in folders(settings) if not path.is_dir()]
    if missing:
        raise BackupError(f"nothing to back up: {', '.join(missing)} does not exist (setting PLACAR_STATE)")
    if file.exists():
        raise BackupError(f"{file} exists: name another file")
    unfinished = file.with_name(f"{file.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)  # it holds every sale
    except OSError as error:
        raise BackupError(f"{unfinished}: {error.strerror}") from error
    try:
        _tar(("--create", "--sparse", f"--file={unfinished}"), folders(settings))
    except BackupError:
        unfinished.unlink()
        raise
    unfinished.replace(file)
    return file.stat().st_size


def restore(settings: NativeSettings, file: Path) -> None:
    """Restore what `backup` has copied, completely or not at all, to the same folders: checkpoints hold full paths.

    Raises:
        BackupError: the runtime runs, there is data already, or the file is not a whole backup of this state folder.
    """
    _stopped(settings, "restoring")
    if not file.is_file():
        raise BackupError(f"{file}: no such file")
    present = [str(path) for path in folders(settings) if path.exists()]
    if present:
        raise BackupError(f"{', '.join(present)} would be overwritten: task clean first, or move it away")
    try:
        _tar(("--extract", "--same-permissions", f"--file={file}"), folders(settings))
    except BackupError as error:
        for path in folders(settings):
            shutil.rmtree(path, ignore_errors=True)
        names = ", ".join(map(str, folders(settings)))
        raise BackupError(f"{file} is not a backup of {names} (setting PLACAR_STATE), or broken: {error}") from None
