"""Lineage of the ranking job: a run for each attempt of a Flink job, which goes on while the watcher is unavailable."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from openlineage.client.event_v2 import RunState

from chassis.datasets import Datasets, derived, topic_dataset
from chassis.lineage import Failure, WatchedJob
from contracts import sale
from contracts.rankings import RankingDefinition, ranking_windows
from services.flink_watcher.record import replace_file
from services.flink_watcher.rest import Flink, RejectedError
from services.flink_watcher.settings import WatcherSettings
from services.flink_watcher.transform import ENDED, JOB_NAME

NAMESPACE = uuid.UUID("5d1c7e0c-62a7-5d0e-9b36-6f1f6c9d3b11")
SHOWN = 2000  # characters of a Java stack trace
STATES: Mapping[str, RunState] = {
    "FINISHED": RunState.COMPLETE,
    "CANCELED": RunState.ABORT,
    "FAILED": RunState.FAIL,
}


def _columns(ranking: RankingDefinition) -> dict[str, tuple[str, ...]]:
    window: dict[str, tuple[str, ...]] = dict.fromkeys(("window_start", "window_end"), ("event_time",))
    country = {"country": ("country",)} if ranking.per_country else {}
    entries = {
        "entries.name": (ranking.column,),
        "entries.total_sales": ("amount",),
        "entries.transaction_count": ("sale_id",),
        "entries.rank": ("amount",),
    }
    return window | country | entries


def datasets(settings: WatcherSettings) -> Datasets:
    """What the ranking job reads and writes."""
    sales = topic_dataset(settings.kafka, sale.TOPIC)
    outputs = [
        derived(
            topic_dataset(settings.kafka, window.topic, window.ranking.topic),
            sales,
            _columns(window.ranking),
            "AGGREGATION",
        )
        for window in ranking_windows(settings.ranking.lengths)
    ]
    return Datasets(inputs=[sales], outputs=outputs)


def run_id(job_id: str, attempt: int) -> str:
    """The run of an attempt: the same in every process, because it follows from Flink's own names."""
    return str(uuid.uuid5(NAMESPACE, f"{job_id}/{attempt}"))


class RankingRuns:
    """Emits the runs of the ranking job; the current one is kept in `folder`, for the watcher that comes next."""

    def __init__(self, job: WatchedJob, flink: Flink, folder: Path) -> None:
        self._job = job
        self._flink = flink
        self._file = folder / "lineage.json"
        self._current: tuple[str, int] | None = None
        if self._file.exists():
            kept = json.loads(self._file.read_text("utf-8"))
            self._current = (kept["job_id"], kept["attempt"])
            job.known(run_id(*self._current))

    def _keep(self, job_id: str, attempt: int) -> None:
        if self._current != (job_id, attempt):
            self._current = (job_id, attempt)
            replace_file(self._file, json.dumps({"job_id": job_id, "attempt": attempt}).encode())

    async def _failure(self, job_id: str, otherwise: str) -> Failure:
        try:
            trace = await self._flink.exceptions(job_id)
        except RejectedError:
            trace = ""
        return Failure((trace.splitlines() or [otherwise])[0], "java", trace[:SHOWN] or None)

    async def _end(self, job_id: str) -> bool:
        """End the run of this job with the state in which Flink ended it; returns whether it has."""
        status = next((job.status for job in await self._flink.jobs(JOB_NAME) if job.job_id == job_id), None)
        if status is not None and status not in ENDED:
            return False
        failure = None
        if status == "FAILED":
            failure = await self._failure(job_id, f"job {job_id} failed")
        elif status is None:
            failure = Failure(f"Flink does not know job {job_id} any more", "java")
        self._job.ended(STATES.get(status or "", RunState.ABORT), failure)
        self._current = None
        self._file.unlink(missing_ok=True)
        return True

    async def update(self, job_id: str | None, restarts: int, *, running: bool) -> None:
        """Emit what has changed: the live job and how often Flink restarted it; None where none lives.

        Raises:
            httpx.TransportError | RejectedError: Flink does not say what became of the job before.
        """
        if self._current is not None and self._current[0] != job_id and not await self._end(self._current[0]):
            return
        if job_id is None:
            return
        attempt = max(restarts, self._current[1] if self._current else 0)  # the count comes late after a start
        if self._current is not None and attempt != self._current[1]:
            self._job.ended(RunState.FAIL, await self._failure(job_id, "Flink restarted the job"))
        self._keep(job_id, attempt)
        await self._job.seen(run_id(job_id, attempt), running=running)
