"""Composition root of the watcher: its configuration, Kafka Connect, and what it was started for."""

import asyncio
import sys

import asyncpg
import httpx
import structlog
from aiokafka.errors import KafkaError

from chassis import kafka, logs
from chassis.datasets import Datasets, avro_fields, derived, described, postgres_dataset, topic_dataset
from chassis.lineage import WatchedJob
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.settings import load
from chassis.unit import Unit
from contracts.catalogue import catalogue
from services.connect_watcher.connect import Connect, RejectedError
from services.connect_watcher.poll import NotRunningError, deploy, watch
from services.connect_watcher.resnapshot import ResnapshotError, resnapshot
from services.connect_watcher.settings import RAW_TOPIC, WatcherSettings
from services.connect_watcher.transform import TemplateError, configuration, hide

NAME = "connect_watcher"
ANSWER_S = 10.0
# what ends a command with one line instead of a trace
CANNOT = (
    NotRunningError,
    TemplateError,
    ResnapshotError,
    RejectedError,
    httpx.TransportError,
    KafkaError,
    asyncpg.PostgresError,
    OSError,
)


def datasets(settings: WatcherSettings) -> Datasets:
    """What the watched connector reads and writes: Connect emits no lineage of its own."""
    contract = catalogue()[RAW_TOPIC]
    row = next(each for each in avro_fields(contract.avro) if each.name == "before").fields or []
    table = described(
        postgres_dataset(settings.postgres, "sales"), row, contract.owner, meaning="The retailer's sales."
    )
    columns = {f"{image}.{each.name}": (each.name,) for image in ("before", "after") for each in row}
    return Datasets(inputs=[table], outputs=[derived(topic_dataset(settings.kafka, RAW_TOPIC), table, columns)])


def wanted(settings: WatcherSettings) -> dict[str, str]:
    """The configuration that the connector must have.

    Raises:
        TemplateError: the template is unreadable or wrong.
    """
    try:
        return configuration(settings.template.read_text("utf-8"), settings.values)
    except (OSError, UnicodeDecodeError, TemplateError) as error:
        raise TemplateError(f"{settings.template}: {error}") from None


def client(settings: WatcherSettings) -> httpx.AsyncClient:
    """An HTTP client for Connect's REST API."""
    return httpx.AsyncClient(base_url=settings.connect.url, timeout=ANSWER_S)


async def main(unit: Unit, settings: WatcherSettings) -> None:
    """Keep the connector running until cancelled.

    Raises:
        TemplateError: the template is unreadable or wrong.
    """
    unit.readiness.waiting(f"connector {settings.connector}", "no answer yet")
    config = wanted(settings)
    job = None
    if unit.lineage is not None:
        job = WatchedJob(
            unit.lineage,
            settings.connector,
            datasets(settings),
            "DEBEZIUM",
            lambda: kafka.written(NAME, settings.kafka, [RAW_TOPIC]),
        )
    async with client(settings) as http:
        await watch(unit, settings, Connect(http, settings.connector), config, job=job)


async def _once(settings: WatcherSettings, log: structlog.stdlib.BoundLogger, snapshot: bool, restored: bool) -> str:
    config = wanted(settings)
    async with client(settings) as http:
        if not snapshot:
            await deploy(Connect(http, settings.connector), config, settings, log)
            return "RUNNING"
        unit = Unit(NAME, log, Metrics(NAME), Readiness())
        gone = await resnapshot(unit, settings, http, config, restored=restored)
        return f"RUNNING, reads the whole table again; {gone} sales that are gone were deleted"


def once(*, snapshot: bool = False, restored: bool = False) -> int:
    """Deploy the connector and wait until it runs, or with `snapshot` have it read the whole table again.

    Returns the exit status.
    """
    settings = load(WatcherSettings)
    log = logs.configure(NAME, settings.log_level)
    try:
        outcome = asyncio.run(_once(settings, log, snapshot, restored))
    except CANNOT as error:
        why = hide(str(error) or repr(error), settings.secret)
        sys.stderr.write(f"{'no new snapshot' if snapshot else 'connector not deployed'}: {why}\n")
        return 1
    sys.stdout.write(f"connector {settings.connector}: {outcome}\n")
    return 0
