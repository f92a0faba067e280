"""Composition root of the watcher: its configuration, Kafka Connect, and one of the two ways to look."""

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
from services.connect_watcher.resync import RAW_TOPIC, ResyncError, resync
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import TemplateError, configuration, hide

NAME = "connect_watcher"
ANSWER_S = 10.0
# what ends a command with one line instead of a trace
CANNOT = (
    NotRunningError,
    TemplateError,
    ResyncError,
    RejectedError,
    httpx.TransportError,
    KafkaError,
    asyncpg.PostgresError,
    OSError,
    TimeoutError,
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
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(str(error)) from error
    except TemplateError as error:
        raise TemplateError(f"{settings.template}: {error}") from None


def client(settings: WatcherSettings) -> httpx.AsyncClient:
    """An HTTP client for Connect's REST API."""
    return httpx.AsyncClient(base_url=settings.connect.url, timeout=ANSWER_S)


async def main(unit: Unit, settings: WatcherSettings) -> None:
    """Keep the connector running until cancelled.

    Raises:
        TemplateError: the template is unreadable or wrong.
    """
    unit.readiness.waiting(f"connector {settings.connector}", "not asked yet")
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


async def _deploy(settings: WatcherSettings, log: structlog.stdlib.BoundLogger) -> str:
    async with client(settings) as http:
        await deploy(Connect(http, settings.connector), wanted(settings), settings, log)
    return "RUNNING"


async def _resync(settings: WatcherSettings, log: structlog.stdlib.BoundLogger, restored: bool) -> str:
    unit = Unit(NAME, log, Metrics(NAME), Readiness())
    async with client(settings) as http:
        gone = await resync(unit, settings, http, wanted(settings), restored=restored)
    return f"RUNNING, reads the table anew; {gone} sales that are gone were deleted"


def once(*, resynced: bool = False, restored: bool = False) -> int:
    """Deploy the connector and wait until it runs, or have it read the table anew; returns the exit status."""
    settings = load(WatcherSettings)
    log = logs.configure(NAME, settings.log_level)
    try:
        said = asyncio.run(_resync(settings, log, restored) if resynced else _deploy(settings, log))
    except CANNOT as error:
        why = hide(str(error) or repr(error), [settings.postgres.password.get_secret_value()])
        sys.stderr.write(f"connector not {'resynced' if resynced else 'deployed'}: {why}\n")
        return 1
    sys.stdout.write(f"connector {settings.connector}: {said}\n")
    return 0
