"""OpenLineage run events: START, RUNNING each interval with the rows published, then COMPLETE, FAIL or ABORT.

Events wait in a bounded queue for one sender, which keeps their order and tries each until the server has it. Nothing
waits for the sender: when the queue is full an event is dropped and counted. The library's own background transport
(`async_http`) blocks in `emit` while its queue is full, and gives an event up after some attempts.
"""

import asyncio
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState, set_producer
from openlineage.client.facet_v2 import error_message_run, job_type_job, output_statistics_output_dataset
from openlineage.client.uuid import generate_new_uuid

from chassis.datasets import Dataset, Datasets
from chassis.metrics import LINEAGE_EVENTS, LINEAGE_FAILURES, Metrics
from chassis.settings import LineageSettings

PRODUCER = "urn:placar:producer"
QUEUED = 500  # at one event a minute, hours of an unavailable server
ANSWER_S = 2.0  # a server that takes longer is unavailable
CLOSE_S = 2.0  # a stop waits this long for the last events
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 15.0)

Failure = error_message_run.ErrorMessageRunFacet
"""Why a run failed: message, programming language and, where there is one, stack trace."""


def client(settings: LineageSettings, unit: str) -> OpenLineageClient:
    """A client with the configured transport, which makes one attempt for each event."""
    transport: dict[str, Any] = {"type": "noop"}
    if settings.transport == "http":
        retry = {"total": 0, "status_forcelist": []}
        transport = {"type": "http", "url": settings.url, "timeout": ANSWER_S, "retry": retry}
    elif settings.transport == "file":
        folder = Path(settings.file_dir)
        folder.mkdir(parents=True, exist_ok=True)
        transport = {"type": "file", "log_file_path": str(folder / f"{unit}.jsonl"), "append": True}
    return OpenLineageClient(config={"transport": transport})


def tries(failure: Exception) -> float:
    """Attempts for an event that fails this way: without end if the server is down, one if it rejects the event."""
    if not isinstance(failure, OSError):
        return 1
    status = getattr(getattr(failure, "response", None), "status_code", 503)
    return 1 if 400 <= status < 500 else 5 if status == 500 else math.inf


class Events:
    """The queue of one process's events and their sender; `put` never waits and never raises."""

    def __init__(
        self,
        settings: LineageSettings,
        unit: str,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
        queued: int = QUEUED,
    ) -> None:
        self.settings = settings
        set_producer(PRODUCER)  # of the facets; the library's own address by default
        self._client = client(settings, unit)
        self._log = log
        self._queue: asyncio.Queue[RunEvent] = asyncio.Queue(queued)
        self._in_flight = 0
        self._closing = asyncio.Event()
        self._outcomes = metrics[LINEAGE_EVENTS]
        for outcome in ("sent", "rejected", "dropped"):  # so that the first loss is an increase
            self._outcomes.set({"outcome": outcome}, 0)
        self._failures = metrics[LINEAGE_FAILURES]

    def put(self, event: RunEvent) -> bool:
        """Queue an event; returns False if the queue is full and the event was dropped."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._outcomes.inc({"outcome": "dropped"})
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
                error = str(failure)[:300]
                if attempt >= tries(failure):
                    self._log.warning("lineage_event_rejected", state=str(event.eventType), error=error)
                    return "rejected"
                if attempt == 1:
                    self._log.warning("lineage_server_unavailable", queued=self._queue.qsize() + 1, error=error)
            else:
                return "sent"
            if self._closing.is_set():
                return "dropped"
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), PAUSES_S[min(attempt, len(PAUSES_S)) - 1])

    async def _send(self) -> None:
        while True:
            event = await self._queue.get()
            self._in_flight = 1
            self._outcomes.inc({"outcome": await self._deliver(event)})
            self._in_flight = 0
            self._queue.task_done()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send while the context lasts; at its end try each queued event once, for at most CLOSE_S seconds."""
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
            if lost := self._queue.qsize() + self._in_flight:
                self._outcomes.add({"outcome": "dropped"}, lost)
                self._log.warning("lineage_events_lost", events=lost)
            await asyncio.to_thread(self._client.close, 0.0)


@dataclass
class JobRun:
    """One run of a job: every event of it has the same run id.

    `published` returns the rows of each counted output so far, by its name; an event carries those since the event
    before it. Schema and other facets are in every event but RUNNING, which is sent each minute.
    """

    events: Events
    job: str
    datasets: Datasets
    integration: str = "PLACAR"
    run_id: str = field(default_factory=lambda: str(generate_new_uuid()))
    published: Callable[[], Mapping[str, int]] = dict

    def __post_init__(self) -> None:
        self._before = dict(self.published())

    def _output(self, dataset: Dataset, facets: Mapping[str, Any], rows: Mapping[str, int]) -> OutputDataset:
        output = OutputDataset(namespace=dataset.namespace, name=dataset.name, facets=dict(facets), outputFacets={})
        if dataset.name in rows:
            new = rows[dataset.name] - self._before.get(dataset.name, 0)
            statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(new)
            output.outputFacets = {"outputStatistics": statistics}
        return output

    def emit(self, state: RunState, why: Failure | None = None) -> None:
        """Queue the event of a state; `why` goes into the error facet."""
        whole = state != RunState.RUNNING
        rows = dict(self.published())
        run = Run(runId=self.run_id)
        if why is not None:
            run.facets = {"errorMessage": why}
        job = Job(namespace=self.events.settings.namespace, name=self.job)
        if whole:
            kind = job_type_job.JobTypeJobFacet("STREAMING", integration=self.integration, jobType="JOB")
            job.facets = {"jobType": kind}
        event = RunEvent(
            eventType=state,
            eventTime=datetime.now(UTC).isoformat(),
            run=run,
            job=job,
            producer=PRODUCER,
            inputs=[
                InputDataset(namespace=each.namespace, name=each.name, facets=dict(each.facets) if whole else {})
                for each in self.datasets.inputs
            ],
            outputs=[self._output(each, each.facets if whole else {}, rows) for each in self.datasets.outputs],
        )
        if self.events.put(event):
            self._before.update(rows)


@dataclass
class WatchedJob:
    """The runs of a job of another system, emitted by its watcher.

    `written` returns the rows of each output so far; an output that it leaves out has no statistics.
    """

    events: Events
    job: str
    datasets: Datasets
    integration: str
    written: Callable[[], Awaitable[Mapping[str, int]]]

    def __post_init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._run: JobRun | None = None
        self._known: str | None = None
        self._next_beat = 0.0

    def _new(self, run_id: str | None) -> JobRun:
        own = run_id or str(generate_new_uuid())
        return JobRun(self.events, self.job, self.datasets, self.integration, own, lambda: self._rows)

    async def seen(self, run_id: str | None = None, *, running: bool) -> None:
        """The job exists, with this run id or the one before: START at first, then RUNNING each interval."""
        if self._run is None or run_id not in (None, self._run.run_id):
            begun = run_id is not None and run_id == self._known
            self._rows = dict(await self.written())
            self._run = self._new(run_id)
            if not begun:
                self._run.emit(RunState.START)
            self._next_beat = 0.0
        if running and time.monotonic() >= self._next_beat:
            self._rows = dict(await self.written())
            self._run.emit(RunState.RUNNING)
            self._next_beat = time.monotonic() + self.events.settings.interval_s

    def known(self, run_id: str) -> None:
        """An earlier process began this run and emitted its START."""
        self._known = run_id

    def ended(self, state: RunState, why: Failure | None = None) -> None:
        """End the current run, if there is one."""
        run = self._run or (self._new(self._known) if self._known else None)
        if run is not None:
            run.emit(state, why)
        self._run = self._known = None


def counted(metrics: Metrics, datasets: Datasets) -> Callable[[], Mapping[str, int]]:
    """The rows of each counted output so far, from the process's own counters."""
    return lambda: {name: sum(metrics.recorded(*series) for series in of) for name, of in datasets.counted.items()}


@asynccontextmanager
async def unit_run(events: Events, unit: str, datasets: Datasets, metrics: Metrics) -> AsyncIterator[None]:
    """The run of a unit: START on entry, RUNNING meanwhile, COMPLETE on a clean end, FAIL with the error otherwise.

    A unit without datasets has no lineage.
    """
    if not datasets.inputs and not datasets.outputs:
        yield
        return
    run = JobRun(events, unit, datasets, published=counted(metrics, datasets))

    async def keep_running() -> None:
        while True:
            run.emit(RunState.RUNNING)
            await asyncio.sleep(events.settings.interval_s)

    run.emit(RunState.START)
    beat = asyncio.create_task(keep_running())
    try:
        yield
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        run.emit(RunState.FAIL, Failure(f"{type(error).__name__}: {error}", "python", trace))
        raise
    else:
        run.emit(RunState.COMPLETE)
    finally:
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat
