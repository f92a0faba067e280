"""Looks at the job and does what is needed: once until it runs, or for ever."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import structlog

from services.flink_watcher import bundle
from services.flink_watcher.record import Record
from services.flink_watcher.rest import Flink, RefusedError
from services.flink_watcher.settings import ROOT, WatcherSettings
from services.flink_watcher.submit import submit
from services.flink_watcher.transform import Action, Job, Submission, Version, decide, restore_error

JOB_NAME = "ranking"
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
    """Everything that looking at the job needs."""

    settings: WatcherSettings
    flink: Flink
    record: Record
    environment: Mapping[str, str]
    log: structlog.stdlib.BoundLogger

    async def look(self) -> Look:
        """One look, and what it asks for done.

        Raises:
            httpx.TransportError: Flink is away.
            RefusedError | SubmissionError | RecordError: what was to be done could not be done; the message says why.
            WrongSettingError: the job refuses its configuration; trying again is no use.
        """
        lock = self.record.locked()
        await asyncio.to_thread(lock.__enter__)
        try:
            return await self._look()
        finally:
            lock.__exit__(None, None, None)

    async def _look(self) -> Look:
        wanted = bundle.version(ROOT, self.environment)
        jobs = await self.flink.jobs(JOB_NAME)
        last = self.record.read()
        action = decide(
            wanted,
            jobs,
            last,
            self.record.restore_points(last),
            restore_failed=await self._restore_failed(jobs, last),
        )
        if action.kind == "wait":
            return Look(action, None)
        if action.kind != "leave":
            self.log.warning("intervening", action=action.kind, job=action.job_id, reason=action.why)
            await self._act(action, wanted, last)
            return Look(action, None)
        job = next(job for job in jobs if job.job_id == action.job_id)
        self._note(job, last, wanted)
        return Look(action, job)

    async def _restore_failed(self, jobs: list[Job], last: Submission | None) -> bool:
        if last is None or last.ran or not last.restored_from:
            return False
        mine = [job for job in jobs if job.job_id == last.job_id and not job.running]
        return bool(mine) and restore_error(await self.flink.exceptions(last.job_id))

    def _note(self, job: Job, last: Submission | None, wanted: Version) -> None:
        """Keep the record true to the job that runs."""
        if last is None or last.job_id != job.job_id:
            # Somebody else submitted it, or we died between the submission and the record of it.
            superseded = () if last is None else (*last.superseded, last.job_id)
            last = Submission(job.job_id, wanted, superseded=superseded)
            self.record.write(last)
        if job.running and not last.ran:
            last = replace(last, ran=True)
            self.record.write(last)
        if self.record.clean(last):
            self.record.write(replace(last, superseded=(), restored_from=None, refused=()))

    async def _act(self, action: Action, wanted: Version, last: Submission | None) -> None:
        match action.kind:
            case "cancel":
                await self.flink.cancel(action.job_id)
            case "refuse" if last is not None and action.restore is not None:
                self.record.write(replace(last, refused=(*last.refused, action.restore)))
                await self._cancel_if_alive(action.job_id)
            case "replace":
                await self._stop(action, wanted, last)
            case "start":
                await self._start(action.restore, wanted, last)

    async def _cancel_if_alive(self, job_id: str) -> None:
        if any(job.job_id == job_id and job.alive for job in await self.flink.jobs(JOB_NAME)):
            await self.flink.cancel(job_id)

    async def _stop(self, action: Action, wanted: Version, last: Submission | None) -> None:
        """Stop the job; the next look finds it gone and starts its successor from what is written here."""
        known = last if last is not None and last.job_id == action.job_id else None
        if not action.keep_state:
            await self.flink.cancel(action.job_id)
            return
        try:
            place = await self.flink.stop(
                action.job_id, self.record.savepoints.as_uri(), self.settings.savepoint_timeout_s
            )
        except RefusedError as error:
            # A job that is failing cannot make a savepoint; its newest checkpoint serves as well.
            self.log.warning("no_savepoint", job=action.job_id, reason=str(error))
            await self.flink.cancel(action.job_id)
            return
        version = known.version if known else wanted
        superseded = last.superseded if last else ()
        if last is not None and known is None:
            superseded = (*superseded, last.job_id)
        self.record.write(Submission(action.job_id, version, ran=True, savepoint=place, superseded=superseded))

    async def _start(self, restore: str | None, wanted: Version, last: Submission | None) -> None:
        archive = self.settings.folder / f"ranking-{wanted.code}.zip"
        await asyncio.to_thread(self._write_archive, archive)
        job_id = await submit(self.settings, archive, wanted, restore, self.environment)
        superseded = () if last is None else (*last.superseded, last.job_id)
        refused = () if last is None else last.refused
        self.record.write(Submission(job_id, wanted, restore, refused=refused, superseded=superseded))
        self.log.info("submitted", job=job_id, code=wanted.code, restored_from=restore)

    def _write_archive(self, archive: Path) -> None:
        for old in self.settings.folder.glob("ranking-*.zip"):
            if old != archive:
                old.unlink()
        bundle.write(ROOT, archive)


async def until_running(watcher: Watcher, deadline_s: float, retry_on: tuple[type[Exception], ...]) -> Job:
    """Look until every task of the up-to-date job runs, and return it; failures of `retry_on` are tried again.

    Raises:
        NotRunningError: not before the deadline.
        WrongSettingError: the job refuses its configuration.
    """
    why = "nothing answered yet"
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    found = await watcher.look()
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
