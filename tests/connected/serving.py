"""Helpers of the serving tests: a database of the test's own, ranking sets, and units as processes."""

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.settings import ClickHouseSettings
from contracts.catalogue import catalogue
from contracts.windows import DEFAULT, window_lengths
from services.clickhouse_sink import ddl
from services.clickhouse_sink.app import checked_plans
from services.clickhouse_sink.mapping import Plan, load_mappings
from services.clickhouse_sink.settings import MAPPINGS_FILE
from services.clickhouse_sink.transform import rows
from tests.connected.streams import unique
from tests.connected.unit_process import UnitProcess, unit_process


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
async def database(
    servers: Mapping[str, str], windows: str = DEFAULT, timeout_s: float = 10
) -> AsyncIterator[Database]:
    """A new database with the shipped tables for these window lengths, dropped at the end."""
    lengths = window_lengths(windows)
    settings = ClickHouseSettings(
        host=servers["CLICKHOUSE_HOST"],
        native_port=int(servers["CLICKHOUSE_NATIVE_PORT"]),
        http_port=int(servers["CLICKHOUSE_HTTP_PORT"]),
        db=unique("test").replace("-", "_"),
        user=servers["CLICKHOUSE_USER"],
        password=SecretStr(servers["CLICKHOUSE_PASSWORD"]),
    )
    await ddl.apply(settings, ddl.scripts(lengths))
    async with clickhouse(settings, 4, timeout_s) as store:
        try:
            plans = await checked_plans(store, load_mappings(MAPPINGS_FILE, lengths), catalogue(lengths))
            yield Database(store, settings, {plan.topic: plan for plan in plans})
        finally:
            await store.execute(f"DROP DATABASE `{settings.db}`")


def service(
    unit: str, servers: Mapping[str, str], folder: Path, **more: str
) -> AbstractAsyncContextManager[UnitProcess]:
    """A started service, stopped at the end if it still runs; `more` are further environment variables."""
    return unit_process(f"services.{unit}", {**servers, **more}, folder / f"{unit}.log")
