"""Composition root of the watcher: its configuration, Kafka Connect, and one of the two ways to look."""

import asyncio
import sys

import httpx

from chassis import logs
from chassis.lineage import Dataset, Datasets, topic_dataset
from chassis.settings import load
from chassis.unit import Unit
from services.connect_watcher.connect import Connect
from services.connect_watcher.poll import NotRunningError, deploy, watch
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import TemplateError, configuration

NAME = "connect_watcher"
ANSWER_S = 10.0


def datasets(settings: WatcherSettings) -> Datasets:
    """What the watched connector reads and writes: Connect emits no lineage of its own."""
    postgres = settings.postgres
    table = Dataset(f"postgres://{postgres.host}:{postgres.port}", f"{postgres.db}.public.sales")
    return Datasets(inputs=[table], outputs=[topic_dataset(settings.kafka, "sales.postgres")])


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
    async with client(settings) as http:
        await watch(unit, settings, Connect(http, settings.connector), config)


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
