"""Reconciles the ranking job with what should run: once until it runs, or for ever."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx
import structlog

from services.flink_watcher import bundle
from services.flink_watcher.log import SalesLog
from services.flink_watcher.rebuild import RebuildError, caught_up
from services.flink_watcher.record import Record
from services.flink_watcher.rest import Flink, RejectedError
from services.flink_watcher.settings import ROOT, WatcherSettings
from services.flink_watcher.submit import submit
from services.flink_watcher.transform import (
    JOB_NAME,
    SHADOW_NAME,
    Action,
    Job,
    NotDoneError,
    Submission,
    Version,
    decide,
    decode_error,
    restore_error,
    state_since,
)

SETTING = "FLINK_REST_HOST, FLINK_REST_PORT"
PAUSE_S = 0.5  # between two reconciliations of a command


class NotRunningError(Exception):
    """The job does not run, and waiting longer is no use; the message is the reason."""


@dataclass(frozen=True)
class Reconciled:
    """What one reconciliation did; `job` is the live job after it, where there is one."""

    action: Action
    job: Job | None


@dataclass(frozen=True)
class Target:
    """The job that should run: its version, and the environment that it is submitted with."""

    version: Version
    environment: Mapping[str, str]

    def submission(self, job_id: str, last: Submission | None, **more: Any) -> Submission:
        """The record of a submission that follows `last`."""
        superseded = (*last.superseded, last.job_id) if last else ()
        configuration = bundle.configuration(self.environment)
        return Submission(job_id, self.version, configuration=configuration, superseded=superseded, **more)


@dataclass(frozen=True)
class Reconciler:
    """Flink, the record, and what the job should be.

    `follows`: the job is to run as it was last submitted, whatever this process was started with. Otherwise
    `environment` decides, and a job that was submitted with something else is replaced.
    """

    settings: WatcherSettings
    flink: Flink
    sales: SalesLog
    record: Record
    environment: Mapping[str, str]
    log: structlog.stdlib.BoundLogger
    follows: bool = False

    def _target(self, last: Submission | None) -> Target:
        environment = self.environment
        if self.follows and last is not None and last.configuration is not None:
            environment = bundle.configured(environment, last.configuration)
        return Target(bundle.version(ROOT, environment), environment)

    async def reconcile(self) -> Reconciled:
        """Compare what runs with what should, and do the next step; a rebuild, as long as the log, is left to do.

        Raises:
            httpx.TransportError: Flink is unavailable.
            NotDoneError: the step could not be done; the message says why.
            WrongSettingError: the job rejects its configuration; trying again is no use.
        """
        async with self.record.locked():
            last = self.record.read()
            target = self._target(last)
            jobs = await self.flink.jobs(JOB_NAME)
            if last is not None and (blocked := await self._blocked(jobs, last)):
                return Reconciled(blocked, None)
            action = decide(
                target.version,
                jobs,
                last,
                self.record.restore_points(last),
                restore_failed=await self._restore_failed(jobs, last),
                shadows=await self.flink.jobs(SHADOW_NAME),
                rebuilding=self.record.rebuild_owned(),
            )
            if action.kind == "leave":
                job = next(job for job in jobs if job.job_id == action.job_id)
                self._update_record(job, last, target)
                return Reconciled(action, job)
            if action.kind != "wait":
                self.log.warning("intervening", action=action.kind, job=action.job_id, reason=action.why)
                await self._act(action, target, last)
            return Reconciled(action, None)

    async def _blocked(self, jobs: list[Job], last: Submission) -> Action | None:
        """End a job that meets a record which it cannot decode, and wait until the log begins behind that one."""
        kind: Literal["wait", "block"] = "wait"
        blocked = last.blocked
        if blocked is None:
            failing = any(job.job_id == last.job_id and job.alive and not job.running for job in jobs)
            if not failing or not decode_error(await self.flink.exceptions(last.job_id)):
                return None
            blocked, kind = await self.sales.undecodable(JOB_NAME), "block"
            if blocked is None:
                return None
            self.log.error("undecodable", partition=blocked.partition, offset=blocked.offset, reason=blocked.detail)
        begins = {part.number: part.begin for part in await self.sales.parts(JOB_NAME)}
        skipped = begins[blocked.partition] > blocked.offset
        self.record.write(replace(last, blocked=None if skipped else blocked))
        if skipped:
            return Action("wait", "the record that could not be decoded is skipped")
        await self._cancel_if_alive(last.job_id, JOB_NAME)
        return Action(kind, blocked.why, job_id=last.job_id)

    async def skip(self) -> str:
        """Skip the record that the job was stopped for; returns what was done.

        Raises:
            NotDoneError: there is none, or the broker is unavailable.
        """
        async with self.record.locked():
            last = self.record.read()
            if last is None or last.blocked is None:
                raise NotDoneError("the job is not stopped for a record that it cannot decode")
            count = await self.sales.skip(last.blocked)
        begin = f"sales.unified-{last.blocked.partition} begins at {last.blocked.offset + 1} now"
        return f"{begin}; the {count} records before it were published again"

    async def _restore_failed(self, jobs: list[Job], last: Submission | None) -> bool:
        if last is None or last.ran or not last.restored_from:
            return False
        starting = any(job.job_id == last.job_id and not job.running for job in jobs)
        return starting and restore_error(await self.flink.exceptions(last.job_id))

    def _update_record(self, job: Job, last: Submission | None, target: Target) -> None:
        """Keep the record true to the job that runs."""
        if last is None or last.job_id != job.job_id:
            # Somebody else submitted it, or we died between the submission and the record of it.
            points = self.record.restore_points(last) if last and last.version.state == target.version.state else []
            since_ms = last.state_since_ms if last and points else 0
            restored_from = next(iter(points), None)
            last = target.submission(job.job_id, last, restored_from=restored_from, state_since_ms=since_ms)
            self.record.write(last)
        if job.running and not last.ran:
            last = replace(last, ran=True)
            self.record.write(last)
        if self.record.clean(last):
            self.record.write(replace(last, superseded=(), restored_from=None, rejected=()))

    async def _act(self, action: Action, target: Target, last: Submission | None) -> None:
        match action.kind:
            case "cancel":
                await self.flink.cancel(action.job_id)
            case "end":
                await self._end_shadow(action.job_id)
            case "reject" if last is not None and action.restore is not None:
                self.record.write(replace(last, rejected=(*last.rejected, action.restore)))
                await self._cancel_if_alive(action.job_id, JOB_NAME)
            case "replace":
                await self._stop(action.job_id, target, last)
            case "start":
                await self._start(action.restore, target, last)

    async def _cancel_if_alive(self, job_id: str, name: str) -> None:
        if any(job.job_id == job_id and job.alive for job in await self.flink.jobs(name)):
            await self.flink.cancel(job_id)

    async def _end_shadow(self, job_id: str) -> None:
        """End a shadow whose rebuild does not go on; its checkpoints go with the next that are no longer needed."""
        await self._cancel_if_alive(job_id, SHADOW_NAME)
        last = self.record.read()
        if last is not None:
            self.record.write(replace(last, superseded=(*last.superseded, job_id)))

    async def _savepoint(self, job_id: str) -> str:
        """Stop the job with a savepoint; returns its address."""
        return await self.flink.stop(job_id, self.record.savepoints.as_uri(), self.settings.savepoint_timeout_s)

    async def _stop(self, job_id: str, target: Target, last: Submission | None) -> None:
        """Stop the job; the next reconciliation finds it gone and starts its successor from what is written here."""
        known = last if last and last.job_id == job_id else target.submission(job_id, last)
        # From here on every watcher goes on with these settings, also one that was started with others.
        known = replace(known, configuration=bundle.configuration(target.environment))
        self.record.write(known)
        try:
            savepoint = await self._savepoint(job_id)
        except RejectedError as error:
            # A job that is failing cannot make a savepoint; its newest checkpoint serves as well.
            self.log.warning("no_savepoint", job=job_id, reason=str(error))
            await self.flink.cancel(job_id)
        else:
            self.record.write(replace(known, restored_from=None, ran=True, savepoint=savepoint, rejected=()))

    async def _start(self, restore: str | None, target: Target, last: Submission | None) -> None:
        since_ms = last.state_since_ms if restore and last else await self._whole_since()
        job_id = await self._submit(target, since_ms, restore=restore)
        rejected = last.rejected if last else ()
        self.record.write(
            target.submission(job_id, last, restored_from=restore, rejected=rejected, state_since_ms=since_ms)
        )
        self.log.info("submitted", job=job_id, code=target.version.code, restored_from=restore)

    async def _whole_since(self) -> int:
        return state_since(await self.sales.parts(JOB_NAME), _now_ms())

    async def _submit(self, target: Target, since_ms: int, *, restore: str | None = None, shadow: str = "") -> str:
        archive = self.settings.folder / f"ranking-{target.version.code}.zip"
        await asyncio.to_thread(bundle.write_only, ROOT, archive)
        environment = {**target.environment, bundle.SHADOW: shadow, bundle.STATE_SINCE: str(since_ms)}
        return await submit(self.settings, archive, target.version, restore, environment)

    async def rebuild(self, emit: Callable[[str], None]) -> None:
        """Recompute everything in a shadow beside the running job, and record that what it has takes over.

        The next reconciliations switch: the old job ends, and the new one starts from the shadow's savepoint and
        publishes every window. `emit` gets a line for each step.

        Raises:
            RebuildError: another rebuild is under way, no job runs, or the shadow fails.
            httpx.TransportError | NotDoneError | WrongSettingError: as `reconcile` does. Whatever is raised, the old
                job is as it was and the shadow is ended.
        """
        with ExitStack() as until_recorded:
            async with self.record.locked():
                if not until_recorded.enter_context(self.record.rebuilding()):
                    raise RebuildError("another rebuild is under way; wait for its end")
                target = self._target(self.record.read())
                if not any(job.alive for job in await self.flink.jobs(JOB_NAME)):
                    raise RebuildError(f"no job {JOB_NAME} is there to rebuild; `task submit-flink-jobs` starts it")
                for lost in await self.flink.jobs(SHADOW_NAME):
                    if lost.alive:
                        await self._end_shadow(lost.job_id)
                since_ms = await self._whole_since()
                # a group of its own each time: what an earlier rebuild has committed does not count for this one
                group = f"{SHADOW_NAME}-{_now_ms()}"
                shadow = await self._submit(target, since_ms, shadow=group)
            emit(f"job {SHADOW_NAME} {shadow} reads sales.unified from the earliest; the rankings go on meanwhile")
            try:
                await caught_up(self.flink, self.sales, shadow, group, emit=emit, patience_s=self.settings.deadline_s)
                async with self.record.locked():
                    await self._hand_over(shadow, target, since_ms)
            except BaseException:
                async with self.record.locked():
                    await self._end_shadow(shadow)
                raise
        emit("caught up; switching")

    async def _hand_over(self, shadow: str, target: Target, since_ms: int) -> None:
        """Stop the shadow and record it as the one to continue; any reconciliation then ends the old job and starts it.

        Raises:
            RebuildError: the code is not that of the shadow any more.
        """
        if target.version != bundle.version(ROOT, target.environment):
            raise RebuildError("the code of the job has changed meanwhile; rebuild again")
        savepoint = await self._savepoint(shadow)
        last = self.record.read()
        old = [job.job_id for job in await self.flink.jobs(JOB_NAME) if job.alive]
        taken_over = target.submission(shadow, last, ran=True, savepoint=savepoint, state_since_ms=since_ms)
        superseded = tuple(dict.fromkeys([*taken_over.superseded, *old]))
        self.record.write(replace(taken_over, superseded=superseded))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until_running(reconciler: Reconciler, deadline_s: float, emit: Callable[[str], None]) -> Job:
    """Reconcile until every task of the up-to-date job runs, and return it; what could not be done is tried again.

    A rebuild that it asks for does not count towards the deadline where it succeeds; `emit` gets its steps.

    Raises:
        NotRunningError: not before the deadline, or it is stopped for a record that it cannot decode.
        WrongSettingError: the job rejects its configuration.
    """
    reason = "nothing answered yet"
    deadline = time.monotonic() + deadline_s
    while (left_s := deadline - time.monotonic()) > 0:
        before = reason
        try:
            async with asyncio.timeout(left_s):
                result = await reconciler.reconcile()
            if result.job is not None and result.job.running:
                return result.job
            reason = result.action.why
            last = reconciler.record.read()
            if last is not None and last.blocked is not None:
                raise NotRunningError(reason)
            if result.action.kind == "rebuild":
                await reconciler.rebuild(emit)
                deadline = time.monotonic() + deadline_s
        except TimeoutError:
            break
        except httpx.TransportError as error:
            reason = f"flink at {reconciler.settings.flink.url} (setting {SETTING}) is unreachable: {error!r}"
        except NotDoneError as error:
            reason = str(error)
        if reason != before:
            reconciler.log.info("not_running_yet", reason=reason)
        await asyncio.sleep(PAUSE_S)
    raise NotRunningError(f"job {JOB_NAME} does not run after {deadline_s:g} s: {reason}")
