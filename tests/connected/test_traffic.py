"""The traffic generator against a real database, object store and SOAP service."""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.reference import CITIES
from tests.connected.commands import process
from tests.connected.sources import bucket, service
from tests.connected.streams import free_port, unique
from tests.connected.test_legacy import address, client_of, soap_environment


@pytest.fixture
async def shop(servers: Mapping[str, str], tmp_path: Path) -> Any:
    """A database and a bucket of its own: the environment, a connection, the bucket."""
    name = unique("shop").replace("-", "_")
    account: dict[str, Any] = {
        "host": servers["POSTGRES_HOST"],
        "port": int(servers["POSTGRES_PORT"]),
        "user": servers["POSTGRES_USER"],
        "password": servers["POSTGRES_PASSWORD"],
    }
    owner = await asyncpg.connect(database=servers["POSTGRES_DB"], **account)
    await owner.execute(f"create database {name}")
    connection = await asyncpg.connect(database=name, **account)
    await connection.execute((Path(__file__).parents[2] / "deploy/postgres/schema.sql").read_text("utf-8"))
    store: Any = bucket({**servers, "S3_BUCKET": name.replace("_", "-")})
    try:
        yield {**servers, "POSTGRES_DB": name, "S3_BUCKET": name.replace("_", "-")}, connection, store
    finally:
        await connection.close()
        await owner.execute(f"drop database {name} with (force)")
        await owner.close()


def files(store: Any) -> dict[str, list[dict[str, str]]]:
    """The rows of every CSV file by key."""
    keys = [meta["path"] for page in store.list() for meta in page]
    return {
        key: list(csv.DictReader(io.StringIO(bytes(store.get(key).bytes()).decode())))
        for key in keys
        if key.endswith(".csv")
    }


async def test_seeding(shop: Any) -> None:
    """The first seed gives an empty shop 50+ sales and two files, once; each further one adds 100+ and two more."""
    environment, connection, store = shop
    await asyncio.to_thread(create_bucket, environment)
    for _ in range(2):
        run = await process("tools", environment, "seed", "--initial")
        assert run.status == 0, run.err
        rows = await connection.fetch("select * from sales")
        assert 50 <= len(rows) < 100
        assert len(files(store)) == 2
    assert {row["city"] for row in rows} <= set(CITIES)
    strangers = "select count(*) from sales s join salesman m on m.id = s.salesman_id where m.name <> s.salesman"
    assert await connection.fetchval(strangers) == 0
    run = await process("tools", environment, "seed")
    assert run.status == 0, run.err
    newer = await connection.fetch("select sale_date from sales order by id offset $1", len(rows))
    assert len(newer) >= 100
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(now - timedelta(hours=1) < row["sale_date"] <= now for row in newer)
    assert len(files(store)) == 4


async def test_selling(shop: Any, tmp_path: Path) -> None:
    """A run of a known seed and length sells what it says through each source."""
    environment, connection, store = shop
    await asyncio.to_thread(create_bucket, environment)
    environment = {**soap_environment(environment, tmp_path)}
    async with service("legacy_soap", environment, tmp_path / "soap"):
        run = await process("tools", environment, "traffic", "--rate", "100", "--count", "300", "--seed", "7")
        assert run.status == 0, run.err
        last = run.out.splitlines()[-1]
        done = Counter(
            {kind: int(number_of(last, kind)) for kind in ("files insert", "legacy insert", "postgres insert")}
        )
        held = await asyncio.to_thread(lambda: len(client_of(environment).service.GetRecentSales(0)))
    assert "stopped; 300 in" in last
    assert held == done["legacy insert"] > 50, address(environment)
    assert sum(map(len, files(store).values())) == done["files insert"] > 50
    kept = done["postgres insert"] - int(number_of(last, "postgres delete"))
    assert await connection.fetchval("select count(*) from sales") == kept > 30


def number_of(line: str, kind: str) -> str:
    """The number that a line of progress gives for a kind of action."""
    return line.split(f"{kind} ")[1].split(",", maxsplit=1)[0]


def create_bucket(environment: Mapping[str, str]) -> None:
    """Make the bucket, which obstore has no call for: an empty object of the store's own API."""
    bucket(environment).put(".keep", b"")


async def test_an_unreachable_server_ends_a_seed(servers: Mapping[str, str]) -> None:
    """Seeding where nothing listens ends with the address and the setting."""
    port = str(free_port())
    run = await process("tools", {**servers, "POSTGRES_PORT": port, "TRAFFIC_WAIT_S": "1"}, "seed")
    assert run.status == 2
    assert f"postgres at {servers['POSTGRES_HOST']}:{port}" in run.err.splitlines()[-1]
    assert "POSTGRES_PORT" in run.err.splitlines()[-1]
