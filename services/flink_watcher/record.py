"""What the watcher remembers on disk: the last submission, and which checkpoints belong to it.

The JobManager forgets its jobs when it dies, so this file and the checkpoint folders are all that is left then.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from services.flink_watcher.transform import Submission, Version


class RecordError(Exception):
    """The record is not readable; the message names the file and the remedy."""


class Record:
    """The record in `folder`, which also holds `checkpoints/<job>/chk-<n>` and `savepoints/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "ranking.json"
        self.savepoints = folder / "savepoints"
        self._checkpoints = folder / "checkpoints"

    @contextmanager
    def rebuilding(self) -> Iterator[bool]:
        """Own the rebuild of this record's job for as long as the context and the process last.

        Yields False where another process owns it. To be entered while `locked`, so that a question about it
        (`rebuild_owned`) is never mistaken for an owner.
        """
        with (self._folder / "rebuild.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def rebuild_owned(self) -> bool:
        """Whether a living process owns a rebuild; to be asked while `locked`."""
        with self.rebuilding() as free:
            return not free

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the record alone among all processes; a command and the running watcher must not submit at once.

        A child that is given open files (`close_fds=False`) holds it too, until it ends.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "ranking.lock").open("w") as lock:
            os.set_inheritable(lock.fileno(), True)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> Submission | None:
        """The last submission; None before the first.

        Raises:
            RecordError: the file holds something else.
        """
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            return Submission(
                job_id=kept["job_id"],
                version=Version(**kept["version"]),
                restored_from=kept["restored_from"],
                ran=kept["ran"],
                savepoint=kept["savepoint"],
                rejected=tuple(kept["rejected"]),
                superseded=tuple(kept["superseded"]),
                # an earlier version of the watcher wrote neither
                configuration=kept.get("configuration"),
                state_since_ms=kept.get("state_since_ms", 0),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{self._file}: {error!r}; delete it to start the job afresh") from error

    def write(self, submission: Submission) -> None:
        """Replace the record as a whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._file.with_suffix(".part")
        unfinished.write_text(json.dumps(asdict(submission), indent=1), "utf-8")
        unfinished.replace(self._file)

    def checkpoints(self, job_id: str) -> list[str]:
        """Addresses of the job's complete checkpoints, the newest first."""
        complete = (self._checkpoints / job_id).glob("chk-*/_metadata")
        folders = sorted((path.parent for path in complete), key=lambda path: int(path.name[4:]), reverse=True)
        return [folder.as_uri() for folder in folders]

    def restore_points(self, last: Submission | None) -> list[str]:
        """What the last submission can be continued from, the best first."""
        if last is None:
            return []
        own = [last.savepoint] if last.savepoint else []
        inherited = [last.restored_from] if last.restored_from else []
        return [*own, *self.checkpoints(last.job_id), *inherited]

    def clean(self, last: Submission) -> bool:
        """Delete what belongs to superseded jobs, once this job has a checkpoint of its own; whether it did.

        A restored job's first checkpoint is complete in itself (Flink's restore mode NO_CLAIM), so nothing refers back.
        """
        if not last.superseded or not self.checkpoints(last.job_id):
            return False
        for job_id in last.superseded:
            shutil.rmtree(self._checkpoints / job_id, ignore_errors=True)
        shutil.rmtree(self.savepoints, ignore_errors=True)
        return True
