"""Composition root of the watcher: its configuration, Kafka Connect, and one of the two ways to look."""

import asyncio
import sys

import httpx

from chassis import kafka, logs
from chassis.datasets import Datasets, avro_fields, derived, described, postgres_dataset, topic_dataset
from chassis.lineage import WatchedJob
from chassis.settings import load
from chassis.unit import Unit
from contracts.catalogue import catalogue
from services.connect_watcher.connect import Connect
from services.connect_watcher.poll import NotRunningError, deploy, watch
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import TemplateError, configuration

NAME = "connect_watcher"
TOPIC = "sales.postgres"
ANSWER_S = 10.0


def datasets(settings: WatcherSettings) -> Datasets:
    """What the watched connector reads and writes: Connect emits no lineage of its own."""
    contract = catalogue()[TOPIC]
    row = next(each for each in avro_fields(contract.avro) if each.name == "before").fields or []
    table = described(
        postgres_dataset(settings.postgres, "sales"), row, contract.owner, meaning="The retailer's sales."
    )
    columns = {f"{image}.{each.name}": (each.name,) for image in ("before", "after") for each in row}
    return Datasets(inputs=[table], outputs=[derived(topic_dataset(settings.kafka, TOPIC), table, columns)])


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
    interventions = unit.metrics.counter(
        "placar_connector_interventions_total", "Times the connector was created or restarted, by action"
    )
    config = wanted(settings)
    job = None
    if unit.lineage is not None:
        job = WatchedJob(
            unit.lineage,
            settings.connector,
            datasets(settings),
            "DEBEZIUM",
            lambda: kafka.written(NAME, settings.kafka, [TOPIC]),
        )
    async with client(settings) as http:
        await watch(unit, settings, Connect(http, settings.connector), config, interventions, job=job)


async def _deploy(settings: WatcherSettings) -> None:
    log = logs.configure(NAME, settings.log_level)
    async with client(settings) as http:
        await deploy(Connect(http, settings.connector), wanted(settings), settings, log)


def once() -> int:
    """Deploy the connector and wait until it runs; returns the exit status."""
    settings = load(WatcherSettings)
    try:
        asyncio.run(_deploy(settings))
    except (NotRunningError, TemplateError) as error:
        sys.stderr.write(f"connector not deployed: {error}\n")
        return 1
    sys.stdout.write(f"connector {settings.connector}: RUNNING\n")
    return 0
