"""Helpers of the serving tests: a database of the test's own, ranking sets, and units as processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.settings import ClickHouseSettings
from services.clickhouse_sink import ddl
from services.clickhouse_sink.app import checked_plans
from services.clickhouse_sink.mapping import Plan, load_mappings
from services.clickhouse_sink.settings import MAPPINGS_FILE
from services.clickhouse_sink.transform import rows
from tests.connected.streams import free_port, unique


def ranking_set(
    topic: str, start: datetime, revision: int, names: Iterable[str], *, country: str = "", status: str = "provisional"
) -> dict[str, Any]:
    """A ranking set: each name's total is (revision + 10 - rank) and a cent, so that revisions differ everywhere."""
    return {
        "ranking": topic.removeprefix("rankings."),
        "country": country,
        "window_start": start,
        "window_end": start + timedelta(hours=1),
        "revision": revision,
        "status": status,
        "watermark": start + timedelta(milliseconds=revision),
        "as_of": start + timedelta(milliseconds=revision + 1),
        "entries": [
            {
                "rank": n,
                "name": name,
                "total_sales": Decimal(revision + 10 - n) + Decimal("0.01"),
                "transaction_count": n,
            }
            for n, name in enumerate(names, 1)
        ],
    }


def hour_of_its_own() -> datetime:
    """A window start that no other test has: some hour before 2020, at random."""
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=int.from_bytes(os.urandom(4)) % 170_000)


class Database:
    """A database of the test's own, and the sink's plans against it."""

    def __init__(self, store: ClickHouse, settings: ClickHouseSettings, plans: Mapping[str, Plan]) -> None:
        self.store = store
        self.settings = settings
        self.plans = plans

    async def write(self, topic: str, record: Mapping[str, Any]) -> None:
        """Write one record as the sink does."""
        plan = self.plans[topic]
        await self.store.insert(plan.mapping.table, plan.columns, rows(plan, record))


@asynccontextmanager
async def database(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A new database with the shipped tables, dropped at the end."""
    settings = ClickHouseSettings(
        host=servers["CLICKHOUSE_HOST"],
        native_port=int(servers["CLICKHOUSE_NATIVE_PORT"]),
        http_port=int(servers["CLICKHOUSE_HTTP_PORT"]),
        db=unique("test").replace("-", "_"),
        user=servers["CLICKHOUSE_USER"],
        password=SecretStr(servers["CLICKHOUSE_PASSWORD"]),
    )
    await ddl.apply(settings, ddl.scripts())
    async with clickhouse(settings, 4, 10) as store:
        try:
            plans = await checked_plans(store, load_mappings(MAPPINGS_FILE))
            yield Database(store, settings, {plan.topic: plan for plan in plans})
        finally:
            await store.execute(f"DROP DATABASE `{settings.db}`")


class UnitProcess:
    """A service as its own process, `python -m services.<unit>`, on ports of its own."""

    def __init__(self, unit: str, environment: Mapping[str, str], log: Path) -> None:
        self.ops = f"http://127.0.0.1:{environment[f'{unit.upper()}_OPS_PORT']}"
        self._unit = unit
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{self._unit}", env=dict(self._environment), stderr=log
            )

    def said(self) -> str:
        """What it has logged."""
        return self._log.read_text("utf-8")

    async def missing(self) -> dict[str, str] | None:
        """What it says that it waits for; None while it does not answer."""
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient() as client:
                missing: dict[str, str] = (await client.get(f"{self.ops}/readyz")).json()["missing"]
                return missing
        return None

    async def ready(self) -> bool:
        """Whether it waits for nothing."""
        return await self.missing() == {}

    async def metrics(self) -> str:
        """Its metrics."""
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.ops}/metrics")).text

    async def exit_status(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self.exit_status()


@asynccontextmanager
async def service(unit: str, servers: Mapping[str, str], folder: Path, **more: str) -> AsyncIterator[UnitProcess]:
    """A started service, stopped at the end if it still runs; `more` are further environment variables."""
    environment = {**os.environ, **servers, "LINEAGE_TRANSPORT": "off", f"{unit.upper()}_OPS_PORT": str(free_port())}
    process = UnitProcess(unit, environment | more, folder / f"{unit}.log")
    await process.start()
    try:
        yield process
    finally:
        await process.end()
