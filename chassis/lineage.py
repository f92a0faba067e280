"""OpenLineage run events of a unit: START, RUNNING each interval, then COMPLETE or FAIL, with one stable run id.

Datasets are named by the OpenLineage naming convention (openlineage.io/docs/spec/naming).
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import error_message_run
from openlineage.client.uuid import generate_new_uuid

from chassis.metrics import LINEAGE_FAILURES, Metrics
from chassis.settings import KafkaSettings, LineageSettings

PRODUCER = "https://openlineage.io/placar"


@dataclass(frozen=True)
class Dataset:
    """A dataset by the naming convention: where it lives, and its name there."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Datasets:
    """What a unit reads and what it writes."""

    inputs: Sequence[Dataset] = ()
    outputs: Sequence[Dataset] = ()


def topic_dataset(kafka: KafkaSettings, topic: str) -> Dataset:
    """A Kafka topic as a dataset."""
    return Dataset(f"kafka://{kafka.bootstrap}", topic)


def client(settings: LineageSettings, unit: str) -> OpenLineageClient:
    """A client with the configured transport. `http` sends in the background, so that a dead server slows nothing."""
    if settings.transport == "off":
        return OpenLineageClient(config={"transport": {"type": "noop"}})
    if settings.transport == "http":
        return OpenLineageClient(config={"transport": {"type": "async_http", "url": settings.url}})
    folder = Path(settings.file_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / f"{unit}.jsonl")
    return OpenLineageClient(config={"transport": {"type": "file", "log_file_path": path, "append": True}})


class Lineage:
    """Emits the run events of one process. A failing transport is logged and counted, and never stops data."""

    def __init__(
        self,
        unit: str,
        settings: LineageSettings,
        datasets: Datasets,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._client = client(settings, unit)
        self._settings = settings
        self._job = Job(namespace=settings.namespace, name=unit)
        self._run_id = str(generate_new_uuid())
        self._inputs = [InputDataset(namespace=d.namespace, name=d.name) for d in datasets.inputs]
        self._outputs = [OutputDataset(namespace=d.namespace, name=d.name) for d in datasets.outputs]
        self._failures = metrics[LINEAGE_FAILURES]
        self._log = log

    async def emit(self, state: RunState, error: BaseException | None = None) -> None:
        """Send one event; the error facet when there is an error."""
        run = Run(runId=self._run_id)
        if error is not None:
            run.facets = {
                "errorMessage": error_message_run.ErrorMessageRunFacet(
                    message=f"{type(error).__name__}: {error}",
                    programmingLanguage="python",
                    stackTrace="".join(traceback.format_exception(error)),
                )
            }
        event = RunEvent(
            eventType=state,
            eventTime=datetime.now(UTC).isoformat(),
            run=run,
            job=self._job,
            producer=PRODUCER,
            inputs=self._inputs,
            outputs=self._outputs,
        )
        try:
            await asyncio.to_thread(self._client.emit, event)
        except Exception as failure:  # noqa: BLE001 - whatever the transport raises, lineage must not stop data
            self._failures.inc({})
            self._log.warning("lineage_event_lost", state=state.value, error=str(failure))

    async def _keep_running(self) -> None:
        while True:
            await asyncio.sleep(self._settings.interval_s)
            await self.emit(RunState.RUNNING)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """START on entry, RUNNING meanwhile, COMPLETE on a clean end, FAIL with the error otherwise."""
        await self.emit(RunState.START)
        await self.emit(RunState.RUNNING)
        beat = asyncio.create_task(self._keep_running())
        try:
            yield
        except Exception as error:
            await self.emit(RunState.FAIL, error)
            raise
        else:
            await self.emit(RunState.COMPLETE)
        finally:
            beat.cancel()
            with suppress(asyncio.CancelledError):
                await beat
            await asyncio.to_thread(self._client.close, 2.0)
