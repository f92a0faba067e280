"""Composition root of the legacy SOAP service: the book, the sales it makes up, the server."""

import asyncio
import contextlib
import gc
import random
import time
from dataclasses import replace
from itertools import islice
from math import floor

from chassis.asgi import listen, serve
from chassis.datasets import Datasets, soap_dataset
from chassis.unit import Unit
from services.legacy_soap.book import Book
from services.legacy_soap.metrics import MADE_UP
from services.legacy_soap.routes import asgi, soap_application
from services.legacy_soap.settings import LegacySoapServerSettings
from services.legacy_soap.transform import SPREAD_MS, made_up

TICK_S = 1.0
FIRST_MINUTES = 10  # an empty book begins with what these minutes would have brought


def url(settings: LegacySoapServerSettings) -> str:
    """The address that callers use."""
    return f"http://{settings.host}:{settings.port}/ws/sales"


def datasets(settings: LegacySoapServerSettings) -> Datasets:
    """Lineage: the service is where its sales come from."""
    return Datasets(outputs=[soap_dataset(settings.host, settings.port, "GetRecentSales")])


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def keep_selling(unit: Unit, settings: LegacySoapServerSettings, book: Book) -> None:
    """Make up sales at the chosen rate until cancelled; none at rate 0."""
    rng = random.Random(settings.seed)
    sales = made_up(rng, f"ERP-{now_ms():x}")
    made = unit.metrics[MADE_UP]

    async def sell(number: int, within_ms: int) -> None:
        dated = [replace(sale, sale_date=now_ms() - rng.randrange(within_ms)) for sale in islice(sales, number)]
        await asyncio.to_thread(book.record, dated)
        made.add({}, number)

    if settings.rate_per_minute == 0:
        return
    if book.size() == 0:
        await sell(max(1, floor(settings.rate_per_minute * FIRST_MINUTES)), FIRST_MINUTES * 60_000)
    begun, sold = time.monotonic(), 0
    while True:
        await asyncio.sleep(TICK_S)
        due = floor((time.monotonic() - begun) / 60 * settings.rate_per_minute) - sold
        if due > 0:
            await sell(due, SPREAD_MS)
            sold += due


async def main(unit: Unit, settings: LegacySoapServerSettings) -> None:
    """Serve until cancelled.

    Raises:
        OSError: the port is in use, or the data folder cannot be written.
    """
    listener = listen(settings.bind_host, settings.port, "LEGACY_SOAP_PORT")
    with contextlib.closing(Book(settings.data_dir / "sales.sqlite", settings.keep_sales, now_ms)) as book:
        app = asgi(soap_application(book, unit, url(settings)), settings.max_request_bytes)
        gc.freeze()  # spyne collects garbage after requests; it need not go through what is there now
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_selling(unit, settings, book))
            tasks.create_task(serve(app, listener))
