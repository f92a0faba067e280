"""The retailer's tables in a real Postgres: what a session in another time zone can write."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.connected.capture.debezium import connected

INSERT = "INSERT INTO sales (salesman_id, salesman, city, amount, product{}) VALUES ($1, 'Ana', 'Recife', 1, 'SSD'{})"


@pytest.fixture
async def postgres(servers: Mapping[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A session in a transaction that is rolled back."""
    connection = await connected(servers)
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def seller(postgres: asyncpg.Connection) -> int:
    """A salesman's id."""
    number: int = await postgres.fetchval("INSERT INTO salesman (name, city) VALUES ('A', 'Recife') RETURNING id")
    return number


@pytest.mark.parametrize("zone", ["UTC", "utc", "Etc/UTC", "GMT"])
async def test_times_are_utc(postgres: asyncpg.Connection, zone: str) -> None:
    """The default and an instant are stored in UTC."""
    await postgres.execute(f"SET LOCAL TIME ZONE '{zone}'")
    query = INSERT.format(", created_at", ", now()") + " RETURNING sale_date, created_at"
    (row,) = await postgres.fetch(query, await seller(postgres))
    for stored in row:
        assert abs(stored - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=5)


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Europe/London", "-3"])
async def test_a_session_in_another_zone_is_rejected(postgres: asyncpg.Connection, zone: str) -> None:
    """No row is written from a session whose zone would shift an instant, and the remedy is named."""
    number = await seller(postgres)
    await postgres.execute(INSERT.format("", ""), number)
    await postgres.execute(f"SET LOCAL TIME ZONE '{zone}'" if zone != "-3" else "SET LOCAL TIME ZONE -3")
    for statement in (INSERT.format("", ""), "UPDATE sales SET sale_date = now() WHERE salesman_id = $1"):
        with pytest.raises(asyncpg.RaiseError, match="the times of sales are UTC") as rejected:
            async with postgres.transaction():
                await postgres.execute(statement, number)
        assert "SET TIME ZONE 'UTC'" in str(rejected.value.hint)


async def test_the_default_does_not_depend_on_the_session(postgres: asyncpg.Connection) -> None:
    """A table without the trigger, as one that existed before, still has its defaults in UTC."""
    number = await seller(postgres)
    await postgres.execute("ALTER TABLE sales DISABLE TRIGGER sales_in_utc")
    await postgres.execute("SET LOCAL TIME ZONE 'America/Sao_Paulo'")
    (row,) = await postgres.fetch(INSERT.format("", "") + " RETURNING sale_date, created_at", number)
    for stored in row:
        assert abs(stored - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=5)
