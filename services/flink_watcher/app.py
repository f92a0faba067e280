"""Composition root of the watcher: Flink's REST API, the record on disk, and the two ways to reconcile."""

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
from services.flink_watcher.log import SalesLog
from services.flink_watcher.metrics import FAILED_INTERVENTIONS, INTERVENTIONS, RESTARTS, RUNNING, TASKS_RUNNING
from services.flink_watcher.reconcile import SETTING, NotRunningError, Reconciled, Reconciler, until_running
from services.flink_watcher.record import Record
from services.flink_watcher.rest import Flink, RejectedError
from services.flink_watcher.settings import WatcherSettings
from services.flink_watcher.submit import WrongSettingError
from services.flink_watcher.transform import JOB_NAME, NotDoneError

NAME = "flink_watcher"
ANSWER_S = 10.0
BACKOFF_MAX_S = 30.0
NEED = f"job {JOB_NAME}"


def client(settings: WatcherSettings) -> httpx.AsyncClient:
    """An HTTP client for Flink's REST API."""
    return httpx.AsyncClient(base_url=settings.flink.url, timeout=ANSWER_S)


def reconciler(
    settings: WatcherSettings, http: httpx.AsyncClient, log: structlog.stdlib.BoundLogger, *, follows: bool
) -> Reconciler:
    """The reconciler of the environment's job, or (`follows`) of the job as it was last submitted."""
    sales, record = SalesLog(settings.kafka, settings.registry), Record(settings.folder)
    return Reconciler(settings, Flink(http), sales, record, os.environ, log, follows)


def ranking_runs(unit: Unit, settings: WatcherSettings, flink: Flink) -> RankingRuns | None:
    """The lineage of the job, where lineage is emitted."""
    if unit.lineage is None:
        return None
    job_datasets = datasets(settings)
    topics = [output.name for output in job_datasets.outputs]
    job = WatchedJob(unit.lineage, JOB_NAME, job_datasets, "FLINK", lambda: kafka.written(NAME, settings.kafka, topics))
    return RankingRuns(job, flink, settings.folder)


async def _reconcile(unit: Unit, to: Reconciler, runs: RankingRuns | None) -> Reconciled:
    """Reconcile once, also where that takes a rebuild, and report what runs then in lineage and metrics."""
    result = await to.reconcile()
    if result.action.kind == "rebuild":
        await to.rebuild(lambda step: unit.log.info("rebuild", step=step))
    job = result.job
    running = job is not None and job.running
    restarts = await to.flink.restarts(job.job_id) if job else 0
    if runs is not None:
        try:
            await runs.update(job.job_id if job else None, restarts, running=running)
        except RejectedError as error:  # the job does not wait for its lineage; the next time emits it
            unit.log.warning("lineage_not_emitted", reason=str(error))
    if result.action.kind not in ("leave", "wait"):
        unit.metrics[INTERVENTIONS].inc({"action": result.action.kind})
    unit.metrics[RUNNING].set({}, int(running))
    unit.metrics[TASKS_RUNNING].set({}, job.tasks_running if job else 0)
    unit.metrics[RESTARTS].set({}, restarts)
    if running:
        unit.readiness.met(NEED)
    else:
        unit.readiness.waiting(NEED, result.action.why)
    return result


async def main(unit: Unit, settings: WatcherSettings) -> None:
    """Keep exactly one up-to-date job running until cancelled; ready exactly while all its tasks run.

    Raises:
        WrongSettingError: the job rejects its configuration.
    """
    unit.readiness.waiting(NEED, "not asked yet")
    pause_s = settings.interval_s
    async with client(settings) as http:
        watched = reconciler(settings, http, unit.log, follows=True)
        runs = ranking_runs(unit, settings, watched.flink)
        while True:
            try:
                result = await _reconcile(unit, watched, runs)
            except httpx.TransportError:
                unit.metrics[RUNNING].set({}, 0)
                await unit.connect(
                    "flink", settings.flink.url, SETTING, lambda: watched.flink.jobs(JOB_NAME), httpx.TransportError
                )
                continue
            except NotDoneError as error:
                unit.metrics[FAILED_INTERVENTIONS].inc({})
                unit.metrics[RUNNING].set({}, 0)
                unit.readiness.waiting(NEED, str(error))
                unit.log.warning("intervention_failed", reason=str(error))
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)
            else:
                # After an intervention the next step follows at once: stop, then start, then wait.
                pause_s = settings.interval_s if result.action.kind == "leave" else 0.2
            await asyncio.sleep(pause_s)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _once(settings: WatcherSettings, *, rebuilt: bool, skipped: bool) -> None:
    log = logs.configure(NAME, settings.log_level)
    async with client(settings) as http:
        to = reconciler(settings, http, log, follows=False)
        if skipped:
            _print(await to.skip())
        if rebuilt:
            await to.rebuild(_print)
        begun = time.monotonic()
        job = await until_running(to, settings.deadline_s, _print)
    if rebuilt:
        _print(f"switched: the rankings stood still for {time.monotonic() - begun:.0f} s at most")
    _print(f"job {JOB_NAME} {job.job_id}: RUNNING")


def once(*, rebuilt: bool = False, skipped: bool = False) -> int:
    """Submit or replace the job where needed and wait until it runs; returns the exit status.

    Before that, have all rankings `rebuilt`, or the record `skipped` that stopped the job.
    """
    settings = load(WatcherSettings)
    as_it_was = f"not {'skipped' if skipped else 'rebuilt'}, the job is as it was"
    try:
        asyncio.run(_once(settings, rebuilt=rebuilt, skipped=skipped))
    except NotDoneError as error:
        why = f"{as_it_was}: {error}"
    except httpx.TransportError as error:
        why = f"{as_it_was}: flink at {settings.flink.url} (setting {SETTING}) is unreachable: {error!r}"
    except NotRunningError as error:
        why = f"ranking job not running: {error}"
    except WrongSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    else:
        return 0
    sys.stderr.write(f"{why}\n")
    return 1
