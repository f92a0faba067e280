"""Composition root of the watcher: Flink's REST API, the record on disk, and one of the two ways to look."""

import asyncio
import os
import sys

import httpx
import structlog

from chassis import logs
from chassis.lineage import Datasets, topic_dataset
from chassis.settings import load
from chassis.unit import Unit
from services.flink_watcher.poll import JOB_NAME, SETTING, Look, NotRunningError, Watcher, until_running
from services.flink_watcher.record import Record, RecordError
from services.flink_watcher.rest import Flink, RefusedError
from services.flink_watcher.settings import WatcherSettings
from services.flink_watcher.submit import SubmissionError, WrongSettingError

NAME = "flink_watcher"
ANSWER_S = 10.0
BACKOFF_MAX_S = 30.0
NOT_DONE = (RefusedError, SubmissionError, RecordError)


def datasets(settings: WatcherSettings) -> Datasets:
    """What the watched job reads and writes."""
    topics = ("rankings.city", "rankings.salesman")
    return Datasets(
        inputs=[topic_dataset(settings.kafka, "sales.unified")],
        outputs=[topic_dataset(settings.kafka, topic) for topic in topics],
    )


def client(settings: WatcherSettings) -> httpx.AsyncClient:
    """An HTTP client for Flink's REST API."""
    return httpx.AsyncClient(base_url=settings.flink.url, timeout=ANSWER_S)


def watcher(settings: WatcherSettings, http: httpx.AsyncClient, log: structlog.stdlib.BoundLogger) -> Watcher:
    """The watcher of the environment's job."""
    return Watcher(settings, Flink(http), Record(settings.folder), os.environ, log)


async def main(unit: Unit, settings: WatcherSettings) -> None:
    """Keep exactly one up-to-date job running until cancelled; ready exactly while all its tasks run.

    Raises:
        WrongSettingError: the job refuses its configuration.
    """
    need = f"job {JOB_NAME}"
    running = unit.metrics.gauge("placar_flink_job_running", "1 while every task of the ranking job runs")
    tasks = unit.metrics.gauge("placar_flink_job_tasks_running", "Running tasks of the ranking job")
    restarts = unit.metrics.gauge("placar_flink_job_restarts", "Restarts of the job by Flink since it was submitted")
    interventions = unit.metrics.counter("placar_flink_interventions_total", "What the watcher did, by action")
    failures = unit.metrics.counter("placar_flink_failed_interventions_total", "Interventions that did not succeed")
    unit.readiness.waiting(need, "not asked yet")
    pause_s = settings.interval_s
    async with client(settings) as http:
        watching = watcher(settings, http, unit.log)

        async def look() -> tuple[Look, int]:
            found = await watching.look()
            return found, await watching.flink.restarts(found.job.job_id) if found.job else 0

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
        job = await until_running(watcher(settings, http, log), settings.deadline_s, NOT_DONE)
    return job.job_id


def once() -> int:
    """Submit or replace the job where needed and wait until it runs; returns the exit status."""
    settings = load(WatcherSettings)
    try:
        job_id = asyncio.run(_once(settings))
    except NotRunningError as error:
        sys.stderr.write(f"ranking job not running: {error}\n")
        return 1
    except WrongSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"job {JOB_NAME} {job_id}: RUNNING\n")
    return 0
