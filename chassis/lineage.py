"""OpenLineage run events: START, RUNNING each interval with the rows published, then COMPLETE, FAIL or ABORT.

Events wait in a bounded queue for one sender, which keeps their order and tries each until the server has it. Nothing
waits for the sender: where the queue is full an event is dropped and counted. The library's own background transport
(`async_http`) waits in `emit` while its queue is full, and gives an event up after some tries.
"""

import asyncio
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import error_message_run, job_type_job, output_statistics_output_dataset
from openlineage.client.uuid import generate_new_uuid

from chassis.datasets import Dataset, Datasets
from chassis.metrics import LINEAGE_EVENTS, LINEAGE_FAILURES, Metrics
from chassis.settings import LineageSettings

PRODUCER = "https://openlineage.io/placar"
QUEUED = 500  # at one event a minute, hours of a server that is unavailable
ANSWER_S = 2.0  # a server that takes longer is unavailable
CLOSE_S = 2.0  # so long a stop waits for the last events
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 15.0)


def client(settings: LineageSettings, unit: str) -> OpenLineageClient:
    """A client with the configured transport, which makes one attempt for each event."""
    if settings.transport == "off":
        return OpenLineageClient(config={"transport": {"type": "noop"}})
    if settings.transport == "http":
        http = {"type": "http", "url": settings.url, "timeout": ANSWER_S, "retry": {"total": 0, "status_forcelist": []}}
        return OpenLineageClient(config={"transport": http})
    folder = Path(settings.file_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / f"{unit}.jsonl")
    return OpenLineageClient(config={"transport": {"type": "file", "log_file_path": path, "append": True}})


def tries(failure: Exception) -> float:
    """How often an event is sent that fails so: without end where the server is down, once where it rejects it."""
    if not isinstance(failure, OSError):
        return 1
    status = getattr(getattr(failure, "response", None), "status_code", 503)
    return 1 if 400 <= status < 500 else 5 if status == 500 else math.inf


class Events:
    """The events of one process on their way to the server; `put` never waits and never raises."""

    def __init__(
        self,
        settings: LineageSettings,
        unit: str,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
        queued: int = QUEUED,
    ) -> None:
        self.settings = settings
        self._client = client(settings, unit)
        self._log = log
        self._queue: asyncio.Queue[RunEvent] = asyncio.Queue(queued)
        self._in_hand = 0
        self._closing = asyncio.Event()
        self._told = metrics[LINEAGE_EVENTS]
        for outcome in ("sent", "rejected", "dropped"):  # there before the first loss, which otherwise is no increase
            self._told.set({"outcome": outcome}, 0)
        self._failures = metrics[LINEAGE_FAILURES]

    def put(self, event: RunEvent) -> bool:
        """Queue an event; returns False where there is no room and it was dropped."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._told.inc({"outcome": "dropped"})
            return False
        return True

    async def _deliver(self, event: RunEvent) -> str:
        attempt = 0
        while True:
            attempt += 1
            try:
                await asyncio.to_thread(self._client.emit, event)
            except Exception as failure:  # noqa: BLE001 - whatever the transport raises, lineage must not stop data
                self._failures.inc({})
                if attempt >= tries(failure):
                    self._log.warning("lineage_event_rejected", state=str(event.eventType), error=str(failure)[:300])
                    return "rejected"
                if attempt == 1:
                    self._log.warning("lineage_server_away", queued=self._queue.qsize() + 1, error=str(failure)[:300])
            else:
                return "sent"
            if self._closing.is_set():
                return "dropped"
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), PAUSES_S[min(attempt, len(PAUSES_S)) - 1])

    async def _send(self) -> None:
        while True:
            event = await self._queue.get()
            self._in_hand = 1
            self._told.inc({"outcome": await self._deliver(event)})
            self._in_hand = 0
            self._queue.task_done()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send while the context lasts; at its end wait a moment for what is queued, one attempt each."""
        sender = asyncio.create_task(self._send())
        try:
            yield
        finally:
            self._closing.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._queue.join()
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender
            if left := self._queue.qsize() + self._in_hand:
                self._told.add({"outcome": "dropped"}, left)
                self._log.warning("lineage_events_lost", events=left)
            await asyncio.to_thread(self._client.close, 0.0)


@dataclass(frozen=True)
class Failure:
    """Why a run failed, for the error facet."""

    message: str
    language: str = "python"
    trace: str | None = None


def failure(error: BaseException) -> Failure:
    """What an exception says."""
    return Failure(f"{type(error).__name__}: {error}", trace="".join(traceback.format_exception(error)))


class JobRun:
    """One run of a job, told by events that carry the same run id.

    `published` gives the rows of each counted output, by its name, since some moment; each event carries what came
    since the one before it. Schema and the other facets go with every event but RUNNING, which comes each minute.
    """

    def __init__(
        self,
        events: Events,
        job: str,
        datasets: Datasets,
        *,
        integration: str = "PLACAR",
        run_id: str | None = None,
        published: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._events = events
        self._job = job
        self._integration = integration
        self.run_id = run_id or str(generate_new_uuid())
        self._datasets = datasets
        self._published = published
        self._before = dict(published())

    def _output(self, dataset: Dataset, facets: Mapping[str, Any], now: Mapping[str, int]) -> OutputDataset:
        statistics: dict[str, Any] = {}
        if dataset.name in now:
            rows = now[dataset.name] - self._before.get(dataset.name, 0)
            statistics = {"outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rows)}
        return OutputDataset(
            namespace=dataset.namespace, name=dataset.name, facets=dict(facets), outputFacets=statistics
        )

    def tell(self, state: RunState, why: Failure | None = None) -> None:
        """Queue the event of a state; `why` goes into the error facet."""
        facets = state != RunState.RUNNING
        now = dict(self._published())
        run = Run(runId=self.run_id)
        if why is not None:
            run.facets = {
                "errorMessage": error_message_run.ErrorMessageRunFacet(
                    message=why.message, programmingLanguage=why.language, stackTrace=why.trace
                )
            }
        job = Job(namespace=self._events.settings.namespace, name=self._job)
        if facets:
            kind = job_type_job.JobTypeJobFacet(
                processingType="STREAMING", integration=self._integration, jobType="JOB"
            )
            job.facets = {"jobType": kind}
        event = RunEvent(
            eventType=state,
            eventTime=datetime.now(UTC).isoformat(),
            run=run,
            job=job,
            producer=PRODUCER,
            inputs=[
                InputDataset(namespace=d.namespace, name=d.name, facets=dict(d.facets) if facets else {})
                for d in self._datasets.inputs
            ],
            outputs=[self._output(d, d.facets if facets else {}, now) for d in self._datasets.outputs],
        )
        if self._events.put(event):
            self._before.update(now)


class WatchedJob:
    """The runs of a job that another system runs, told by whoever watches it.

    `written` asks for the rows that each output has had so far; an output that it leaves out has no statistics.
    """

    def __init__(
        self,
        events: Events,
        job: str,
        datasets: Datasets,
        integration: str,
        written: Callable[[], Awaitable[Mapping[str, int]]],
    ) -> None:
        self._events = events
        self._job = job
        self._datasets = datasets
        self._integration = integration
        self._written = written
        self._rows: dict[str, int] = {}
        self._run: JobRun | None = None
        self._known: str | None = None
        self._next_beat = 0.0

    def _new(self, run_id: str | None) -> JobRun:
        return JobRun(
            self._events,
            self._job,
            self._datasets,
            integration=self._integration,
            run_id=run_id,
            published=lambda: self._rows,
        )

    async def seen(self, run_id: str | None = None, *, running: bool) -> None:
        """It is there under this run id, or the one that it had: START at first, then RUNNING each interval."""
        if self._run is None or run_id not in (None, self._run.run_id):
            begun = run_id is not None and run_id == self._known
            self._rows = dict(await self._written())
            self._run = self._new(run_id)
            if not begun:
                self._run.tell(RunState.START)
            self._next_beat = 0.0
        if running and time.monotonic() >= self._next_beat:
            self._rows = dict(await self._written())
            self._run.tell(RunState.RUNNING)
            self._next_beat = time.monotonic() + self._events.settings.interval_s

    def known(self, run_id: str) -> None:
        """This run was begun by an earlier process, which has told its START."""
        self._known = run_id

    def ended(self, state: RunState, why: Failure | None = None) -> None:
        """The run that was begun has ended; nothing where there is none."""
        run = self._run or (self._new(self._known) if self._known else None)
        if run is not None:
            run.tell(state, why)
        self._run = self._known = None


def counted(metrics: Metrics, datasets: Datasets) -> Callable[[], Mapping[str, int]]:
    """The rows of each counted output so far, from the process's own counters."""

    def published() -> Mapping[str, int]:
        return {
            name: sum(metrics.recorded(topic, outcome) for topic, outcome in entries)
            for name, entries in datasets.counted.items()
        }

    return published


@asynccontextmanager
async def unit_run(events: Events, unit: str, datasets: Datasets, metrics: Metrics) -> AsyncIterator[None]:
    """The run of a unit: START on entry, RUNNING meanwhile, COMPLETE on a clean end, FAIL with the error otherwise.

    A unit that reads and writes no dataset has no lineage to tell.
    """
    if not datasets.inputs and not datasets.outputs:
        yield
        return
    run = JobRun(events, unit, datasets, published=counted(metrics, datasets))

    async def keep_running() -> None:
        while True:
            run.tell(RunState.RUNNING)
            await asyncio.sleep(events.settings.interval_s)

    run.tell(RunState.START)
    beat = asyncio.create_task(keep_running())
    try:
        yield
    except Exception as error:
        run.tell(RunState.FAIL, failure(error))
        raise
    else:
        run.tell(RunState.COMPLETE)
    finally:
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat
