"""What the watcher keeps on disk: the last submission, and which checkpoints belong to it.

The JobManager forgets its jobs when it dies, so this file and the checkpoint folders are all that is left then.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.flink_watcher.transform import NotDoneError, Submission

SUBMISSION = TypeAdapter(Submission)


class RecordError(NotDoneError):
    """The record is not readable; the message names the file and the remedy."""


def replace_file(path: Path, content: bytes) -> None:
    """Replace the file as a whole: a reader finds the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


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

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the record alone among all processes; a command and the running watcher must not submit at once.

        A child that is given open files (`close_fds=False`) holds it too, until it ends.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "ranking.lock").open("w") as lock:
            os.set_inheritable(lock.fileno(), True)
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            yield

    def read(self) -> Submission | None:
        """The last submission; None before the first. What an earlier version of the watcher did not write is unknown.

        Raises:
            RecordError: the file holds something else.
        """
        try:
            return SUBMISSION.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise RecordError(f"{self._file}: {why}; delete it to start the job afresh") from error

    def write(self, submission: Submission) -> None:
        """Replace the record as a whole."""
        replace_file(self._file, SUBMISSION.dump_json(submission, indent=1))

    def checkpoints(self, job_id: str) -> list[str]:
        """Addresses of the job's complete checkpoints, the newest first."""
        complete = (self._checkpoints / job_id).glob("chk-*/_metadata")
        folders = sorted((path.parent for path in complete), key=lambda path: int(path.name[4:]), reverse=True)
        return [folder.as_uri() for folder in folders]

    def restore_points(self, last: Submission | None) -> list[str]:
        """What the last submission can be continued from, the best first."""
        if last is None:
            return []
        points = [last.savepoint, *self.checkpoints(last.job_id), last.restored_from]
        return [point for point in points if point]

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
