"""Composition root of the watcher: Flink's REST API, the record on disk, and one of the two ways to look."""

import asyncio
import os
import sys
import time

import httpx
import structlog

from chassis import kafka, logs
from chassis.lineage import WatchedJob
from chassis.settings import load
from chassis.unit import Unit
from services.flink_watcher.lineage import RankingRuns, datasets
from services.flink_watcher.log import LogError, SalesLog
from services.flink_watcher.metrics import FAILED_INTERVENTIONS, INTERVENTIONS, RESTARTS, RUNNING, TASKS_RUNNING
from services.flink_watcher.poll import SETTING, Look, NotRunningError, Watcher, until_running
from services.flink_watcher.rebuild import RebuildError
from services.flink_watcher.record import Record, RecordError
from services.flink_watcher.rest import Flink, RejectedError
from services.flink_watcher.settings import WatcherSettings
from services.flink_watcher.submit import SubmissionError, WrongSettingError
from services.flink_watcher.transform import JOB_NAME

NAME = "flink_watcher"
ANSWER_S = 10.0
BACKOFF_MAX_S = 30.0
NOT_DONE = (RejectedError, SubmissionError, RecordError, LogError, RebuildError)


def client(settings: WatcherSettings) -> httpx.AsyncClient:
    """An HTTP client for Flink's REST API."""
    return httpx.AsyncClient(base_url=settings.flink.url, timeout=ANSWER_S)


def watcher(
    settings: WatcherSettings, http: httpx.AsyncClient, log: structlog.stdlib.BoundLogger, *, follows: bool
) -> Watcher:
    """The watcher of the environment's job, or (`follows`) of the job as it was last submitted."""
    sales, record = SalesLog(settings.kafka), Record(settings.folder)
    return Watcher(settings, Flink(http), sales, record, os.environ, log, follows)


def ranking_runs(unit: Unit, settings: WatcherSettings, flink: Flink) -> RankingRuns | None:
    """The teller of the job's lineage, where there is lineage to tell."""
    if unit.lineage is None:
        return None
    read = datasets(settings)
    topics = [output.name for output in read.outputs]
    job = WatchedJob(unit.lineage, JOB_NAME, read, "FLINK", lambda: kafka.written(NAME, settings.kafka, topics))
    return RankingRuns(job, flink, settings.folder)


async def main(unit: Unit, settings: WatcherSettings) -> None:
    """Keep exactly one up-to-date job running until cancelled; ready exactly while all its tasks run.

    Raises:
        WrongSettingError: the job rejects its configuration.
    """
    need = f"job {JOB_NAME}"
    running, tasks, restarts = unit.metrics[RUNNING], unit.metrics[TASKS_RUNNING], unit.metrics[RESTARTS]
    interventions, failures = unit.metrics[INTERVENTIONS], unit.metrics[FAILED_INTERVENTIONS]
    unit.readiness.waiting(need, "not asked yet")
    pause_s = settings.interval_s
    async with client(settings) as http:
        watching = watcher(settings, http, unit.log, follows=True)
        runs_told = ranking_runs(unit, settings, watching.flink)

        async def look() -> tuple[Look, int]:
            found = await watching.look()
            if found.action.kind == "rebuild":
                await watching.rebuild(lambda step: unit.log.info("rebuild", step=step))
            job = found.job
            restarted = await watching.flink.restarts(job.job_id) if job else 0
            if runs_told is not None:
                runs = job is not None and job.running
                try:
                    await runs_told.look(job.job_id if job else None, restarted, running=runs)
                except RejectedError as error:  # the job does not wait for its lineage; the next look tells it
                    unit.log.warning("lineage_not_told", reason=str(error))
            return found, restarted

        while True:
            try:
                found, restarted = await look()
            except httpx.TransportError:
                running.set({}, 0)
                await unit.connect(
                    "flink", settings.flink.url, SETTING, lambda: watching.flink.jobs(JOB_NAME), httpx.TransportError
                )
                continue
            except NOT_DONE as error:
                failures.inc({})
                running.set({}, 0)
                unit.readiness.waiting(need, str(error))
                unit.log.warning("intervention_failed", reason=str(error))
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)
            else:
                job = found.job
                runs = job is not None and job.running
                if found.action.kind not in ("leave", "wait"):
                    interventions.inc({"action": found.action.kind})
                running.set({}, int(runs))
                tasks.set({}, job.tasks_running if job else 0)
                restarts.set({}, restarted)
                if runs:
                    unit.readiness.met(need)
                else:
                    unit.readiness.waiting(need, found.action.why)
                # After an intervention the next look follows at once: stop, then start, then wait.
                pause_s = settings.interval_s if found.action.kind == "leave" else 0.2
            await asyncio.sleep(pause_s)


async def _once(settings: WatcherSettings) -> str:
    log = logs.configure(NAME, settings.log_level)
    async with client(settings) as http:
        job = await until_running(watcher(settings, http, log, follows=False), settings.deadline_s, NOT_DONE, _print)
    return job.job_id


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _rebuild(settings: WatcherSettings) -> str:
    log = logs.configure(NAME, settings.log_level)
    async with client(settings) as http:
        watching = watcher(settings, http, log, follows=False)
        await watching.rebuild(_print)
        begun = time.monotonic()
        job = await until_running(watching, settings.deadline_s, NOT_DONE, _print)
    _print(f"switched: the rankings stood still for {time.monotonic() - begun:.0f} s at most")
    return job.job_id


def once(*, rebuilt: bool = False) -> int:
    """Submit or replace the job where needed, or have it `rebuilt`, wait until it runs; returns the exit status."""
    settings = load(WatcherSettings)
    try:
        job_id = asyncio.run(_rebuild(settings) if rebuilt else _once(settings))
    except NOT_DONE as error:
        sys.stderr.write(f"not rebuilt, the job goes on as it was: {error}\n")
        return 1
    except httpx.TransportError as error:
        at = f"flink at {settings.flink.url} (setting {SETTING})"
        sys.stderr.write(f"not rebuilt, the job goes on as it was: {at} is unreachable: {error!r}\n")
        return 1
    except NotRunningError as error:
        sys.stderr.write(f"ranking job not running: {error}\n")
        return 1
    except WrongSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _print(f"job {JOB_NAME} {job_id}: RUNNING")
    return 0
