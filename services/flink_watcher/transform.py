"""Pure: what to do about the ranking job, from what runs, what was submitted and what should run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

JOB_NAME, SHADOW_NAME = "ranking", "ranking-rebuild"
"""The job that publishes, and the one that recomputes everything beside it and publishes nothing."""

ENDING = frozenset({"CANCELLING", "FAILING"})
ENDED = frozenset({"FAILED", "CANCELED", "FINISHED"})

STALE_MS = 10_000
"""Flink answers from a cache of 3 s (`web.refresh-interval`), and a job that initializes has no version there yet."""


class NotDoneError(Exception):
    """What was to be done could not be done, and may be tried again; the message says why."""


@dataclass(frozen=True)
class Version:
    """Which job: `code` stands for all it is made of, `state` for that part which decides what its state means."""

    code: str
    state: str


@dataclass(frozen=True)
class Job:
    """A job of our name as the cluster reports it; `version` None where it does not carry ours.

    `quiet_ms`: for how long neither the job nor a task of it has changed its status.
    """

    job_id: str
    status: str
    version: Version | None
    started_ms: int
    quiet_ms: int
    tasks: int
    tasks_running: int

    @property
    def alive(self) -> bool:
        """Whether it runs, or will by itself."""
        return self.status not in ENDED

    @property
    def running(self) -> bool:
        """Whether every task runs."""
        return self.status == "RUNNING" and 0 < self.tasks == self.tasks_running


@dataclass(frozen=True)
class Undecodable:
    """A record of `sales.unified` that the job cannot decode, and so cannot pass."""

    partition: int
    offset: int
    detail: str

    @property
    def why(self) -> str:
        """Why the job is stopped, with the remedy."""
        where = f"sales.unified-{self.partition}@{self.offset}"
        return f"{where} cannot be decoded ({self.detail}): the job is stopped; run task skip-undecodable"


@dataclass(frozen=True)
class Submission:
    """What was submitted last: the job, what it was restored from, and whether all its tasks ever ran.

    `savepoint` is set once the job was stopped with one. `rejected` are restore points that Flink would not take.
    `superseded` are jobs that this one takes over from: one that still runs is ended, and their checkpoints are no
    longer needed once this job has one of its own. `configuration` are the variables that it was submitted with (None:
    not known). `state_since_ms`: since when (epoch) its state holds every sale, 0 where that is not known. `blocked`:
    what the job was stopped for and waits to be skipped.
    """

    job_id: str
    version: Version
    restored_from: str | None = None
    ran: bool = False
    savepoint: str | None = None
    rejected: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    configuration: Mapping[str, str] | None = None
    state_since_ms: int = 0
    blocked: Undecodable | None = None


@dataclass(frozen=True)
class Part:
    """A partition of `sales.unified`: the offsets between which it holds records, and what a group has committed."""

    number: int
    begin: int
    end: int
    committed: int | None = None

    @property
    def read(self) -> int:
        """The offset up to which the group has read or need not read."""
        return max(self.begin, self.committed or 0)


Kind = Literal["leave", "wait", "start", "replace", "rebuild", "cancel", "end", "reject", "block"]


@dataclass(frozen=True)
class Action:
    """What to do and why.

    leave: nothing. wait: nothing, until it has ended. start: submit, restored from `restore` or afresh. replace: stop
    `job_id` with a savepoint, then start. rebuild: recompute everything beside `job_id`, then switch. cancel: end
    `job_id`, one too many. end: the same with a shadow job. reject: record that `restore` cannot be restored.
    block: end `job_id`, which cannot decode a record.
    """

    kind: Kind
    why: str
    job_id: str = ""
    restore: str | None = None


def decide(
    wanted: Version,
    jobs: Collection[Job],
    last: Submission | None,
    restore_points: Sequence[str],
    *,
    restore_failed: bool = False,
    shadows: Collection[Job] = (),
    rebuilding: bool = False,
) -> Action:
    """The next action.

    `restore_points` are those of the last submission, the best first: its savepoint, its checkpoints from the newest,
    what it was itself restored from. `restore_failed`: the job's exceptions say that its state could not be restored.
    `shadows` are the jobs named SHADOW_NAME, and `rebuilding` is whether a living process owns one.
    """
    if not rebuilding and (lost := [job for job in shadows if job.alive and job.status not in ENDING]):
        return Action("end", "nobody goes on with this rebuild", job_id=lost[0].job_id)
    if stopping := [job for job in jobs if job.status in ENDING or (last and _stopped(job, last))]:
        return Action("wait", "the job is stopping", job_id=stopping[0].job_id)
    alive = sorted((job for job in jobs if job.alive), key=lambda job: (job.version == wanted, job.started_ms))
    if surplus := _about_surplus(alive, last):
        return surplus
    if last is not None and not last.ran and last.restored_from and last.restored_from not in last.rejected:
        ended = any(job.job_id == last.job_id and job.status == "FAILED" for job in jobs)
        if ended or restore_failed:
            return Action(
                "reject", f"{last.restored_from} cannot be restored", job_id=last.job_id, restore=last.restored_from
            )
    if alive:
        return _about_running(wanted, alive[0], rebuilding=rebuilding)
    return _about_gone(wanted, last, restore_points)


def _about_surplus(alive: Sequence[Job], last: Submission | None) -> Action | None:
    if last and (replaced := [job for job in alive if job.job_id in last.superseded]):
        return Action("cancel", f"job {last.job_id} takes over", job_id=replaced[0].job_id)
    if len(alive) > 1:
        return Action("cancel", f"{len(alive)} copies of the job are alive", job_id=alive[0].job_id)
    return None


def _about_gone(wanted: Version, last: Submission | None, restore_points: Sequence[str]) -> Action:
    if last is None:
        return Action("start", "first submission: reads sales.unified from the earliest")
    if last.version.state != wanted.state:
        return Action("start", "what it computes has changed: starts afresh from the earliest of sales.unified")
    usable = [point for point in restore_points if point not in last.rejected]
    if usable:
        return Action("start", f"the job is gone: resumes from {usable[0]}", restore=usable[0])
    return Action("start", "the job is gone and nothing can be restored: starts afresh from the earliest")


def _stopped(job: Job, last: Submission) -> bool:
    return job.alive and job.job_id == last.job_id and last.savepoint is not None


def _about_running(wanted: Version, job: Job, *, rebuilding: bool) -> Action:
    if job.version == wanted:
        return Action("leave", f"{job.status}, {job.tasks_running} of {job.tasks} tasks running", job_id=job.job_id)
    if job.version is not None and job.version.state == wanted.state:
        return Action("replace", "the job has changed: continues from its state", job_id=job.job_id)
    if job.version is None and (job.status == "INITIALIZING" or job.quiet_ms < STALE_MS):
        return Action("wait", "the job is starting, and Flink does not show its version yet", job_id=job.job_id)
    if rebuilding:
        return Action("wait", "what it computes has changed: a rebuild is under way", job_id=job.job_id)
    return Action("rebuild", "what it computes has changed: recomputes everything beside it", job_id=job.job_id)


def restore_error(exceptions: str) -> bool:
    """Whether a job's exceptions say that its state does not fit it (and not, say, that a server is unavailable)."""
    signs = ("StateMigrationException", "Failed to rollback to checkpoint", "Cannot map checkpoint/savepoint state")
    return any(sign in exceptions for sign in signs)


def decode_error(exceptions: str) -> bool:
    """Whether a job's exceptions may come from a record that it cannot decode."""
    return "Failed to deserialize" in exceptions


def state_since(parts: Collection[Part], now_ms: int) -> int:
    """Since when a state that is filled now holds every sale: now where the log is whole, else 0 (never)."""
    return now_ms if all(part.begin == 0 for part in parts) else 0


def reached(parts: Collection[Part], goal: Mapping[int, int]) -> bool:
    """Whether every partition has been read up to the offset that `goal` names for it."""
    return all(part.read >= goal.get(part.number, 0) for part in parts)


def progress(parts: Collection[Part]) -> str:
    """How far the log has been read, as text."""
    done, total = sum(part.read - part.begin for part in parts), sum(part.end - part.begin for part in parts)
    return f"{done} of {total} records ({100 * done // total if total else 100} %)"
