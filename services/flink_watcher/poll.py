"""Looks at the job and does what is needed: once until it runs, or for ever."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

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
    Submission,
    Version,
    decide,
    restore_error,
    state_since,
)

SETTING = "FLINK_REST_HOST, FLINK_REST_PORT"


class NotRunningError(Exception):
    """The job did not run before the deadline; the message is the reason."""


@dataclass(frozen=True)
class Look:
    """What one look found and did; `job` is the live job after it, where there is one."""

    action: Action
    job: Job | None


@dataclass(frozen=True)
class Watcher:
    """Everything that looking at the job needs.

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

    async def look(self) -> Look:
        """One look, and what it asks for done; only a rebuild, which takes as long as the log is long, is left to do.

        Raises:
            httpx.TransportError: Flink is unavailable.
            RejectedError | SubmissionError | RecordError | LogError: what was to be done could not be done; the message
                says why.
            WrongSettingError: the job rejects its configuration; trying again is no use.
        """
        async with self._locked():
            return await self._look()

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        lock = self.record.locked()
        await asyncio.to_thread(lock.__enter__)
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _environment(self, last: Submission | None) -> Mapping[str, str]:
        if self.follows and last is not None and last.configuration is not None:
            return bundle.configured(self.environment, last.configuration)
        return self.environment

    async def _look(self) -> Look:
        last = self.record.read()
        environment = self._environment(last)
        wanted = bundle.version(ROOT, environment)
        jobs = await self.flink.jobs(JOB_NAME)
        action = decide(
            wanted,
            jobs,
            last,
            self.record.restore_points(last),
            restore_failed=await self._restore_failed(jobs, last),
            shadows=await self.flink.jobs(SHADOW_NAME),
            rebuilding=self.record.rebuild_owned(),
        )
        if action.kind == "wait":
            return Look(action, None)
        if action.kind != "leave":
            self.log.warning("intervening", action=action.kind, job=action.job_id, reason=action.why)
            await self._act(action, wanted, environment, last)
            return Look(action, None)
        job = next(job for job in jobs if job.job_id == action.job_id)
        self._note(job, last, wanted, environment)
        return Look(action, job)

    async def _restore_failed(self, jobs: list[Job], last: Submission | None) -> bool:
        if last is None or last.ran or not last.restored_from:
            return False
        mine = [job for job in jobs if job.job_id == last.job_id and not job.running]
        return bool(mine) and restore_error(await self.flink.exceptions(last.job_id))

    def _note(self, job: Job, last: Submission | None, wanted: Version, environment: Mapping[str, str]) -> None:
        """Keep the record true to the job that runs."""
        if last is None or last.job_id != job.job_id:
            # Somebody else submitted it, or we died between the submission and the record of it.
            points = self.record.restore_points(last) if last and last.version.state == wanted.state else []
            last = Submission(
                job.job_id,
                wanted,
                restored_from=next(iter(points), None),
                superseded=() if last is None else (*last.superseded, last.job_id),
                configuration=bundle.configuration(environment),
                state_since_ms=last.state_since_ms if last and points else 0,
            )
            self.record.write(last)
        if job.running and not last.ran:
            last = replace(last, ran=True)
            self.record.write(last)
        if self.record.clean(last):
            self.record.write(replace(last, superseded=(), restored_from=None, rejected=()))

    async def _act(
        self, action: Action, wanted: Version, environment: Mapping[str, str], last: Submission | None
    ) -> None:
        match action.kind:
            case "cancel":
                await self.flink.cancel(action.job_id)
            case "end":
                await self._end_shadow(action.job_id)
            case "reject" if last is not None and action.restore is not None:
                self.record.write(replace(last, rejected=(*last.rejected, action.restore)))
                await self._cancel_if_alive(action.job_id)
            case "replace":
                await self._stop(action, wanted, environment, last)
            case "start":
                await self._start(action.restore, wanted, environment, last)

    async def _cancel_if_alive(self, job_id: str, name: str = JOB_NAME) -> None:
        if any(job.job_id == job_id and job.alive for job in await self.flink.jobs(name)):
            await self.flink.cancel(job_id)

    async def _end_shadow(self, job_id: str) -> None:
        """End a shadow whose rebuild does not go on; its checkpoints go with the next that are no longer needed."""
        await self._cancel_if_alive(job_id, SHADOW_NAME)
        last = self.record.read()
        if last is not None:
            self.record.write(replace(last, superseded=(*last.superseded, job_id)))

    async def _stop(
        self, action: Action, wanted: Version, environment: Mapping[str, str], last: Submission | None
    ) -> None:
        """Stop the job; the next look finds it gone and starts its successor from what is written here."""
        known = last
        if known is None or known.job_id != action.job_id:
            superseded = () if last is None else (*last.superseded, last.job_id)
            known = Submission(action.job_id, wanted, superseded=superseded)
        # From here on every look goes on with these settings, also that of a watcher that was started with others.
        known = replace(known, configuration=bundle.configuration(environment))
        self.record.write(known)
        try:
            place = await self.flink.stop(
                action.job_id, self.record.savepoints.as_uri(), self.settings.savepoint_timeout_s
            )
        except RejectedError as error:
            # A job that is failing cannot make a savepoint; its newest checkpoint serves as well.
            self.log.warning("no_savepoint", job=action.job_id, reason=str(error))
            await self.flink.cancel(action.job_id)
            return
        self.record.write(replace(known, restored_from=None, ran=True, savepoint=place, rejected=()))

    async def _start(
        self, restore: str | None, wanted: Version, environment: Mapping[str, str], last: Submission | None
    ) -> None:
        since_ms = last.state_since_ms if restore and last else await self._whole_since()
        job_id = await self._submit(wanted, environment, since_ms, restore=restore)
        self.record.write(
            Submission(
                job_id,
                wanted,
                restore,
                rejected=() if last is None else last.rejected,
                superseded=() if last is None else (*last.superseded, last.job_id),
                configuration=bundle.configuration(environment),
                state_since_ms=since_ms,
            )
        )
        self.log.info("submitted", job=job_id, code=wanted.code, restored_from=restore)

    async def _whole_since(self) -> int:
        return state_since(await self.sales.parts(JOB_NAME), _now_ms())

    async def _submit(
        self,
        wanted: Version,
        environment: Mapping[str, str],
        since_ms: int,
        *,
        restore: str | None = None,
        shadow: str = "",
    ) -> str:
        archive = self.settings.folder / f"ranking-{wanted.code}.zip"
        await asyncio.to_thread(self._write_archive, archive)
        told = {**environment, bundle.SHADOW: shadow, bundle.STATE_SINCE: str(since_ms)}
        return await submit(self.settings, archive, wanted, restore, told)

    async def rebuild(self, say: Callable[[str], None]) -> None:
        """Recompute everything in a shadow beside the running job, and note that what it has takes over.

        The next looks switch: the old job ends, and the new one starts from the shadow's savepoint and publishes every
        window. `say` gets a line for each step.

        Raises:
            RebuildError: another rebuild is under way, no job runs, or the shadow fails.
            httpx.TransportError | RejectedError | SubmissionError | RecordError | LogError | WrongSettingError: as a
                look does. Whatever is raised, the old job is as it was and the shadow is ended.
        """
        with ExitStack() as until_noted:
            async with self._locked():
                if not until_noted.enter_context(self.record.rebuilding()):
                    raise RebuildError("another rebuild is under way; wait for its end")
                environment = self._environment(self.record.read())
                wanted = bundle.version(ROOT, environment)
                if not any(job.alive for job in await self.flink.jobs(JOB_NAME)):
                    raise RebuildError(f"no job {JOB_NAME} is there to rebuild; `task submit-flink-jobs` starts it")
                for lost in await self.flink.jobs(SHADOW_NAME):
                    if lost.alive:
                        await self._end_shadow(lost.job_id)
                since_ms = await self._whole_since()
                # a group of its own each time: what an earlier rebuild has committed says nothing about this one
                group = f"{SHADOW_NAME}-{_now_ms()}"
                shadow = await self._submit(wanted, environment, since_ms, shadow=group)
            say(f"job {SHADOW_NAME} {shadow} reads sales.unified from the earliest; the rankings go on meanwhile")
            try:
                await caught_up(self.flink, self.sales, shadow, group, say=say, patience_s=self.settings.deadline_s)
                async with self._locked():
                    await self._hand_over(shadow, wanted, environment, since_ms)
            except BaseException:
                async with self._locked():
                    await self._end_shadow(shadow)
                raise
        say("caught up; switching")

    async def _hand_over(self, shadow: str, version: Version, environment: Mapping[str, str], since_ms: int) -> None:
        """Stop the shadow and note it as the one to continue; from here on any look ends the old job and starts it."""
        if version != bundle.version(ROOT, environment):
            raise RebuildError("the code of the job has changed meanwhile; rebuild again")
        place = await self.flink.stop(shadow, self.record.savepoints.as_uri(), self.settings.savepoint_timeout_s)
        last = self.record.read()
        old = [job.job_id for job in await self.flink.jobs(JOB_NAME) if job.alive]
        before = [] if last is None else [*last.superseded, last.job_id]
        self.record.write(
            Submission(
                shadow,
                version,
                ran=True,
                savepoint=place,
                superseded=tuple(dict.fromkeys([*before, *old])),
                configuration=bundle.configuration(environment),
                state_since_ms=since_ms,
            )
        )

    def _write_archive(self, archive: Path) -> None:
        for old in self.settings.folder.glob("ranking-*.zip"):
            if old != archive:
                old.unlink()
        bundle.write(ROOT, archive)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until_running(
    watcher: Watcher, deadline_s: float, retry_on: tuple[type[Exception], ...], say: Callable[[str], None]
) -> Job:
    """Look until every task of the up-to-date job runs, and return it; failures of `retry_on` are tried again.

    A rebuild that it asks for does not count towards the deadline; `say` gets a line for each of its steps.

    Raises:
        NotRunningError: not before the deadline.
        WrongSettingError: the job rejects its configuration.
    """
    why = "nothing answered yet"
    try:
        async with asyncio.timeout(deadline_s) as limit:
            while True:
                try:
                    found = await watcher.look()
                    if found.action.kind == "rebuild":
                        await unlimited(limit, watcher.rebuild(say), deadline_s)
                    if found.job is not None and found.job.running:
                        return found.job
                    said = found.action.why
                except httpx.TransportError as error:
                    said = f"flink at {watcher.settings.flink.url} (setting {SETTING}) is unreachable: {error!r}"
                except retry_on as error:
                    said = str(error)
                if said != why:
                    watcher.log.info("not_running_yet", reason=said)
                why = said
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise NotRunningError(f"job {JOB_NAME} does not run after {deadline_s:g} s: {why}") from None


async def unlimited(limit: asyncio.Timeout, work: Awaitable[None], deadline_s: float) -> None:
    """Do the work without the limit, which begins anew where it succeeds and otherwise stays as it was."""
    then = limit.when()
    limit.reschedule(None)
    try:
        await work
        then = asyncio.get_running_loop().time() + deadline_s
    finally:
        limit.reschedule(then)
