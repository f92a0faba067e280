"""The state folder: a marker without which `clean` does not remove it, and a lock for the command that changes it."""

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = "placar.marker"
TEXT = "Made by Placar. `task clean` removes the folder that holds this file.\n"
LOCK = "placar.lock"
RUNTIME = "runtime"
"""The file that remembers where the last `up` was: native or compose."""
PROFILES = "profiles"
"""The file that remembers the profiles that an `up` has started, until `down`."""
SHOWN = 3
LONGEST = 500
"""Bytes of a state folder's path: with this everything starts; Postgres has room for about 1,000."""


class StateError(Exception):
    """The folder is not ours, or another command is changing it; the message names the setting and the remedy."""


def marked(folder: Path) -> bool:
    """Whether the folder is ours: by the marker, or by what a runtime without markers has written."""
    return (folder / MARKER).is_file() or (folder / "conf" / "supervisord.conf").is_file()


def _others(folder: Path) -> list[str]:
    """What is in a folder that is not ours."""
    if not folder.exists():
        return []
    # listed before the marker is looked for: another command that claims the folder meanwhile writes it first
    names = {path.name for path in folder.iterdir()}
    return [] if marked(folder) else sorted(names - {LOCK, RUNTIME})


def claim(folder: Path, setting: str) -> None:
    """Mark a new or empty folder as ours; one that is ours stays so.

    Raises:
        StateError: it holds something else, which `clean` would remove; or it cannot be written.
    """
    size = len(os.fsencode(folder))
    if size > LONGEST:
        raise StateError(f"setting {setting}: a path of {size} bytes is too long, {LONGEST} are allowed: {folder}")
    try:
        others = _others(folder)
        if others:
            few = ", ".join(others[:SHOWN]) + (" ..." if len(others) > SHOWN else "")
            raise StateError(f"{folder} (setting {setting}) holds other files ({few}): name a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text(TEXT, "utf-8")
    except OSError as error:
        raise StateError(f"{folder} (setting {setting}): {error.strerror}; name another folder") from error


def remember(folder: Path, profiles: Collection[str]) -> None:
    """Let every command know that these profiles are chosen; `forget` ends it."""
    (folder / PROFILES).write_text(",".join(sorted(profiles)), "utf-8")


def forget(folder: Path) -> None:
    """No profile is chosen any more, but those of PLACAR_PROFILES."""
    (folder / PROFILES).unlink(missing_ok=True)


def check_removable(folder: Path, setting: str) -> None:
    """A folder may be removed that is ours, empty, or not there.

    Raises:
        StateError: it holds files and has no marker.
    """
    if _others(folder):
        raise StateError(
            f"{folder} (setting {setting}) is kept: it has no {MARKER}, which `up` writes into a folder of Placar. "
            "Correct the setting, or remove the folder yourself"
        )


@contextmanager
def locked(folder: Path, command: str, *, wait: bool) -> Iterator[None]:
    """Only one command at a time changes a folder: wait for another one, or decline. One that is missing needs no lock.

    The lock ends with the process that holds it, however it ends.

    Raises:
        StateError: another command has the lock, and `wait` is off.
    """
    if not folder.exists():
        yield
        return
    while True:
        with (folder / LOCK).open("a+", encoding="utf-8") as file:
            _acquire(file.fileno(), folder, wait=wait)
            if not _is_at(folder / LOCK, file.fileno()):  # `clean` has removed the folder meanwhile
                folder.mkdir(parents=True, exist_ok=True)
                continue
            file.truncate(0)
            file.write(f"`{command}` (process {os.getpid()})")
            file.flush()
            yield
            return


def _acquire(descriptor: int, folder: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another command"
        if not wait:
            raise StateError(f"{holder} is changing {folder}: wait for it, or stop it") from None
        print(f"waiting for {holder} ...", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
