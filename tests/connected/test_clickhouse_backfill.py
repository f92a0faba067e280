"""A database of an earlier version, without sales_by_time, on a real server: it is filled, once and wholly."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping

import pytest

from contracts.windows import DEFAULT, window_lengths
from services.clickhouse_sink import ddl
from services.clickhouse_sink.backfill import COMPLETE, SLICE, TABLE
from tests.connected.serving import Database, database
from tests.connected.streams import until

SCRIPTS = ddl.scripts(window_lengths(DEFAULT))
HOURS = 3
# It begins as the sink's own do.
INSERT = """INSERT INTO `sales`
    (sale_id, source, salesman_name, city, country, amount, product, event_time_ms, ingestion_time_ms, version, deleted)
SELECT toString({hour} * 10000000 + number), 'files', 'Ana', 'Recife', 'BR', toDecimal64(1, 2), 'SSD',
    (500000 + {hour}) * 3600000 + number, 0, 1, 0
FROM numbers({count}) WHERE {condition}
"""
KEYS = "SELECT count(), sum(cityHash64(event_time_ms, source, sale_id)) FROM {table} FINAL"


@pytest.fixture
async def old(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A database as an earlier version has left it."""
    async with database(servers) as db:
        for table in ("sales_to_time", TABLE, "backfills"):
            await db.store.execute(f"DROP TABLE {table}")
        yield db


async def sold(db: Database, hour: int, count: int, condition: str = "1") -> None:
    """So many sales of an hour; the same ones each time."""
    await db.store.execute(INSERT.format(hour=hour, count=count, condition=condition))


async def stored(db: Database) -> tuple[bool, int, int]:
    """Whether sales_by_time has just the sales, how many rows it has, and how far it has been filled."""
    sales, by_time = [await db.store.select(KEYS.format(table=table)) for table in ("sales", TABLE)]
    ((before,),) = await db.store.select("SELECT max(before_ms) FROM backfills")
    return sales == by_time, by_time[0][0], before


def command(db: Database, servers: Mapping[str, str]) -> "asyncio.Future[asyncio.subprocess.Process]":
    """The command that creates the tables, as a process."""
    env = {**os.environ, **servers, "CLICKHOUSE_DB": db.settings.db}
    return asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.clickhouse_sink.ddl", env=env, stdout=asyncio.subprocess.PIPE
        )
    )


async def test_an_older_state_is_filled(old: Database) -> None:
    """It has all times that the sales are given, those of later inserts too, each once; what is filled is not again."""
    await sold(old, 0, 20)
    await ddl.apply(old.settings, SCRIPTS)
    assert await stored(old) == (True, 20, COMPLETE)
    await sold(old, 1, 7)
    await sold(old, 0, 20)
    assert await stored(old) == (True, 27, COMPLETE)
    await old.store.execute(f"TRUNCATE TABLE {TABLE}")
    await ddl.apply(old.settings, SCRIPTS)
    assert await stored(old) == (False, 0, COMPLETE)


async def test_a_killed_copy_goes_on(old: Database, servers: Mapping[str, str]) -> None:
    """After a kill in the middle the next run copies only what was left, and then nothing is missing."""
    for hour in range(HOURS):
        await sold(old, hour, SLICE)
    process = await command(old, servers)
    assert process.stdout is not None
    first = f"{TABLE}: {SLICE:,} of {HOURS * SLICE:,} stored sales copied"
    assert (await process.stdout.readline()).decode() == f"{first}\n"
    process.kill()
    await process.wait()
    _, _, before = await stored(old)
    assert 0 < before < COMPLETE

    output, _ = await (await command(old, servers)).communicate()
    left = HOURS * SLICE - (before // 3_600_000 - 500_000) * SLICE
    assert f"{TABLE}: {left:,} of {left:,} stored sales copied\n" in output.decode()
    assert await stored(old) == (True, HOURS * SLICE, COMPLETE)


async def test_an_insert_that_runs_is_waited_for(old: Database) -> None:
    """An insert that began before the view was there is copied too, though it ends after it."""
    inserting = asyncio.create_task(sold(old, 0, 3, condition="sleepEachRow(1) = 0"))

    async def begun() -> bool:
        query = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%sleepEachRow(1)%'"
        return bool((await old.store.select(query))[0][0])

    await until(begun, "the insert runs")
    await ddl.apply(old.settings, SCRIPTS)
    assert inserting.done()
    await inserting
    assert await stored(old) == (True, 3, COMPLETE)
