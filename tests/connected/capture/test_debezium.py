"""From the table to `sales.unified` through real Postgres, Debezium, Connect, broker, registry and cdc."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import asyncpg
import httpx
import orjson
import pytest

from tests.connected.capture.debezium import (
    CONNECTOR,
    DEADLINE_S,
    SLOT,
    SOLD_AT,
    Shop,
    captured,
    connected,
    listener,
    shop,
)
from tests.connected.sources import service
from tests.connected.streams import Servers, until
from tests.performance.streams_live import SCHEMA

pytestmark = pytest.mark.timeout(300)  # some of them restart Kafka Connect


@pytest.fixture(scope="module", autouse=True)
def _capture(servers: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The table is captured while these tests run."""
    with captured(servers, tmp_path_factory.mktemp("cdc") / "log"):
        yield


@pytest.fixture
async def open_shop(servers: Mapping[str, str]) -> AsyncIterator[Shop]:
    """A shop with ids of its own."""
    async with shop(servers) as opened:
        yield opened


async def test_every_change_of_a_row(open_shop: Shop) -> None:
    """Inserts, updates, deletes, changed keys and several changes in one transaction end as the table has them."""
    sql, ids = open_shop.sql, open_shop.next_ids(10)
    kept, updated, deleted, moved, target, again, first, second, spare, undone = ids
    await open_shop.sell(kept, updated, deleted, moved, again, first, second)
    await open_shop.agree(ids, "inserted")
    await sql.execute(
        "UPDATE sales SET amount = 99.99, city = 'Curitiba', sale_date = '2026-02-20' WHERE id = $1", updated
    )
    await sql.execute("DELETE FROM sales WHERE id = $1", deleted)
    await sql.execute("UPDATE sales SET id = $2 WHERE id = $1", moved, target)
    async with sql.transaction():
        await sql.execute("DELETE FROM sales WHERE id = $1", again)
        await open_shop.sell(again, amount=Decimal("1.00"))
        await sql.execute("UPDATE sales SET amount = 2.00 WHERE id = $1", again)
        await sql.execute("UPDATE sales SET amount = 3.00 WHERE id = $1", again)
    async with sql.transaction():  # two sales exchange their ids
        await sql.execute("UPDATE sales SET amount = 7.00 WHERE id = $1", first)
        await sql.execute("UPDATE sales SET id = $2 WHERE id = $1", first, spare)
        await sql.execute("UPDATE sales SET id = $2 WHERE id = $1", second, first)
        await sql.execute("UPDATE sales SET id = $2 WHERE id = $1", spare, second)
    back = sql.transaction()
    await back.start()
    await open_shop.sell(undone)
    await back.rollback()
    await open_shop.agree(ids, "changed")
    assert sorted(await open_shop.rows(ids)) == sorted(map(str, (kept, updated, target, again, first, second)))
    assert await open_shop.tombstones(ids) == {deleted, moved, spare}
    assert not await open_shop.rejected(ids)


# what is sold for, when: the reason of its dead letter, or None where it is a sale
SPECIAL: list[tuple[str, str, str | None]] = [
    ("9999999999.99", "2026-02-19", None),
    ("0", "2026-02-19", "amount_range"),
    ("-1", "2026-02-19", "amount_range"),
    ("1", "1969-12-31 23:59:59.999999", "time_too_early"),
    ("1", "4713-01-01 BC", "time_too_early"),
    ("1", "294276-12-31", "time_in_future"),
    ("1", "infinity", "time_in_future"),
    ("1", "-infinity", "time_too_early"),
    ("1", "2000-01-01", None),
]


async def test_values_at_the_edges(open_shop: Shop) -> None:
    """Zero, dates before 1970, far away and infinite are dead letters with their reason, and stop nothing."""
    ids = open_shop.next_ids(len(SPECIAL))
    for number, (amount, sold_at, _) in zip(ids, SPECIAL, strict=True):
        await open_shop.sell(number)
        await open_shop.sql.execute(
            "UPDATE sales SET amount = $2::text::numeric, sale_date = $3::text::timestamp WHERE id = $1",
            number,
            amount,
            sold_at,
        )
    expected = {str(number): why for number, (_, _, why) in zip(ids, SPECIAL, strict=True) if why}

    async def judged() -> bool:
        return await open_shop.rejected(ids) == expected

    await until(judged, "each bad value is a dead letter with its reason", DEADLINE_S)
    good = [number for number, (_, _, why) in zip(ids, SPECIAL, strict=True) if not why]
    await open_shop.agree(good, "the good ones")
    assert (await open_shop.status())[0] == "RUNNING"
    await open_shop.sql.execute("DELETE FROM sales WHERE id = ANY($1)", ids)
    await open_shop.agree(ids, "deleted again")


async def test_truncate(open_shop: Shop) -> None:
    """TRUNCATE deletes every sale that was there, and those sold afterwards count."""
    ids = open_shop.next_ids(52)
    await open_shop.sell(*ids[:50])
    await open_shop.agree(ids, "sold")
    await open_shop.sql.execute("TRUNCATE sales")
    await open_shop.sell(ids[0], ids[51], amount=Decimal("2.00"))
    await open_shop.agree(ids, "truncated")
    assert sorted(await open_shop.sales(ids)) == sorted(map(str, (ids[0], ids[51])))
    dead = [each for each in open_shop.published.dead_letters("cdc").values() if each["key"] is None]
    assert [(each["reason"], "task resnapshot" in each["detail"]) for each in dead] == [("operation_unknown", True)]


async def test_not_a_number(open_shop: Shop) -> None:
    """NaN is rejected by the table; where it got in all the same, capture stops with the reason until a resnapshot."""
    ids = open_shop.next_ids(3)
    with pytest.raises(asyncpg.CheckViolationError):
        await open_shop.sell(ids[0], amount=Decimal("NaN"))
    await open_shop.sql.execute("ALTER TABLE sales DROP CONSTRAINT sales_amount_is_a_number")
    try:
        await open_shop.sell(ids[0], amount=Decimal("NaN"))
        await open_shop.sell(ids[1])
        await open_shop.in_state("FAILED")
        assert 'null used for required field: "amount"' in (await open_shop.status())[1]
        await open_shop.sql.execute("DELETE FROM sales WHERE id = $1", ids[0])
    finally:
        await open_shop.sql.execute(
            "ALTER TABLE sales ADD CONSTRAINT sales_amount_is_a_number CHECK (amount <> 'NaN') NOT VALID"
        )
    await open_shop.resnapshot()
    await open_shop.sell(ids[2])
    await open_shop.agree(ids, "re-read")


async def test_a_wider_amount(open_shop: Shop) -> None:
    """Amounts stay exact when the column becomes wider than the contract; those beyond 10^16 are dead letters."""
    exact, huge = open_shop.next_ids(2)
    await open_shop.sql.execute("ALTER TABLE sales ALTER COLUMN amount TYPE decimal(20, 2)")
    try:
        await open_shop.sell(exact, amount=Decimal("1234567890123456.78"))
        await open_shop.sell(huge, amount=Decimal("123456789012345678.90"))
        await open_shop.agree([exact], "exact")

        async def judged() -> bool:
            return await open_shop.rejected([exact, huge]) == {str(huge): "amount_range"}

        await until(judged, "the huge amount is a dead letter", DEADLINE_S)
    finally:
        await open_shop.sql.execute("DELETE FROM sales WHERE id = ANY($1)", [exact, huge])
        await open_shop.sql.execute("ALTER TABLE sales ALTER COLUMN amount TYPE decimal(12, 2)")
    await open_shop.agree([exact, huge], "deleted again")


async def test_a_dropped_column(open_shop: Shop) -> None:
    """Changes without a column of the contract are dead letters that name it; with the column back they count again."""
    before, without, after = open_shop.next_ids(3)
    sql = open_shop.sql
    await open_shop.sell(before)
    await open_shop.agree([before], "with the column")
    await sql.execute("ALTER TABLE sales DROP COLUMN product")
    try:
        await sql.execute(
            "INSERT INTO sales (id, salesman_id, salesman, city, amount) VALUES ($1, $2, 'Ana', 'Recife', 1)",
            without,
            open_shop.seller,
        )

        async def judged() -> bool:
            return await open_shop.rejected([without]) == {str(without): "schema_incompatible"}

        await until(judged, "the change is a dead letter", DEADLINE_S)
        details = [each["detail"] for each in open_shop.published.dead_letters("cdc").values()]
        assert any("product" in detail for detail in details), details
    finally:
        await sql.execute("ALTER TABLE sales ADD COLUMN product varchar(255) NOT NULL DEFAULT 'SSD'")
    await open_shop.sell(after)
    await sql.execute("UPDATE sales SET city = 'Curitiba' WHERE id = ANY($1)", [before, without])
    await open_shop.agree([before, without, after], "with the column again")


async def test_changes_while_the_connector_is_deleted(open_shop: Shop) -> None:
    """A connector that is deleted and created again goes on where it stood; a snapshot on top changes nothing."""
    updated, deleted, inserted = ids = open_shop.next_ids(3)
    await open_shop.sell(updated, deleted)
    await open_shop.agree(ids, "before")
    await open_shop.connect.delete("")
    await open_shop.sql.execute("UPDATE sales SET amount = 2.00 WHERE id = $1", updated)
    await open_shop.sql.execute("DELETE FROM sales WHERE id = $1", deleted)
    await open_shop.sell(inserted)
    status, output = await open_shop.watcher("--once")
    assert status == 0, output
    await open_shop.agree(ids, "created again")
    # the slot waits for open transactions: what they hold back is neither missed nor overwritten by the snapshot
    other = await connected(open_shop.servers)
    try:
        async with other.transaction():
            await other.execute("UPDATE sales SET amount = 3.00 WHERE id = $1", updated)
            reading = asyncio.create_task(open_shop.resnapshot())

            async def begun() -> bool:
                query = (
                    "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn IS NULL"
                )
                return await open_shop.sql.fetchval(query, SLOT) is not None

            await until(begun, "the new slot is being made", DEADLINE_S)
            assert (await open_shop.status())[0] != "RUNNING", "resnapshot takes RUNNING for: the slot captures"
            await other.execute("UPDATE sales SET amount = 4.00 WHERE id = $1", updated)
        await reading
    finally:
        await other.close()
    await open_shop.agree(ids, "snapshot taken")
    await open_shop.sql.execute("UPDATE sales SET amount = 5.00 WHERE id = ANY($1)", [updated, inserted])
    await open_shop.agree(ids, "changed after the snapshot")


async def lose(shop: Shop, how: str) -> None:
    """Drop the slot of the stopped connector, or have the server invalidate it for holding too much of the log."""
    if how != "invalidated":
        await shop.sql.execute("SELECT pg_drop_replication_slot($1)", SLOT)
        return
    await shop.sql.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    await shop.sql.execute("SELECT pg_reload_conf()")

    async def lost() -> bool:
        await shop.sql.execute("SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()")
        await shop.sql.execute("CHECKPOINT")
        query = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1"
        return bool(await shop.sql.fetchval(query, SLOT) == "lost")

    try:
        await until(lost, "the server invalidated the slot", DEADLINE_S)
    finally:
        await shop.sql.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        await shop.sql.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("dropped", "no longer available on the server"),
        ("recreated", "no longer available on the server"),
        ("invalidated", "the server invalidated the slot"),
    ],
)
async def test_a_lost_slot(open_shop: Shop, tmp_path: Path, how: str, reason: str) -> None:
    """Without the slot it had it does not go on; the watcher says why, and a resnapshot repairs what was missed."""
    updated, deleted, inserted, later = ids = open_shop.next_ids(4)
    await open_shop.sell(updated, deleted)
    await open_shop.agree(ids, "before")
    await open_shop.stop_capture()
    await lose(open_shop, how)
    await open_shop.sql.execute("UPDATE sales SET amount = 2.00 WHERE id = $1", updated)
    await open_shop.sql.execute("DELETE FROM sales WHERE id = $1", deleted)
    await open_shop.sell(inserted)
    if how == "recreated":
        await open_shop.sql.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", SLOT)
    await open_shop.connect.put("/resume")
    environment = {**open_shop.servers, "CONNECT_WATCHER_INTERVAL_S": "0.5"}
    async with service("connect_watcher", environment, tmp_path / "log", wait=False) as watcher:

        async def says_why() -> bool:
            why = (await watcher.missing() or {}).get(f"connector {CONNECTOR}", "")
            return reason in why and "task resnapshot" in why

        await until(says_why, "the watcher is not ready, with reason and remedy", DEADLINE_S)
        if how == "invalidated":  # otherwise the connector may be seen to run for a moment
            async with asyncio.timeout(60):  # the deadline is 120 s, and `up` tries three times
                status, output = await open_shop.watcher("--once")
            assert status == 1
            assert "task resnapshot" in output.splitlines()[-1]
        await open_shop.sell(later)
        assert "1 sales that are gone were deleted" in await open_shop.resnapshot()
        await until(watcher.ready, "the watcher is ready", DEADLINE_S)
    await open_shop.agree(ids, "re-read")
    assert not await open_shop.rejected(ids)


async def test_killed_in_the_middle_of_a_snapshot(open_shop: Shop) -> None:
    """After kill -9 of Connect in a snapshot it stops instead of missing deletes, until a resnapshot."""
    rows = 8_000
    ids = open_shop.next_ids(rows)
    await open_shop.sql.execute(
        "INSERT INTO sales (id, salesman_id, salesman, city, amount, product, sale_date)"
        " SELECT id, $1, 'Ana', 'Recife', 1, 'SSD', $2 FROM unnest($3::bigint[]) AS id",
        open_shop.seller,
        SOLD_AT,
        ids,
    )
    await open_shop.agree(ids, "sold")
    connect = listener(open_shop.servers["CONNECT_PORT"])
    reading = asyncio.create_task(open_shop.watcher("--resnapshot"))
    before = await open_shop.raw_records()

    async def in_the_middle() -> bool:
        return await open_shop.raw_records() > before

    await until(in_the_middle, "the snapshot has begun", DEADLINE_S)
    connect.send_signal(signal.SIGKILL)
    assert await open_shop.raw_records() < before + rows, "killed too late to prove anything"
    await open_shop.sql.execute("DELETE FROM sales WHERE id = ANY($1)", ids[: rows // 2])
    await open_shop.sql.execute("UPDATE sales SET amount = 2 WHERE id = ANY($1)", ids[rows // 2 : -1])
    await reading
    await open_shop.in_state("FAILED")
    assert "the slot is older than the snapshot" in (await open_shop.status())[1]
    await open_shop.resnapshot()
    await open_shop.agree(ids, "re-read")


async def registry_is_well(servers: Mapping[str, str]) -> bool:
    """Whether it answers again and again: its connections to Postgres fail once each after a kill."""
    async with httpx.AsyncClient(base_url=Servers(servers).registry.url) as client:
        return all([(await client.get("/subjects")).is_success for _ in range(20)])


async def test_postgres_killed(open_shop: Shop, tmp_path: Path) -> None:
    """After kill -9 of Postgres in the middle of sales every committed change is captured, and no other."""
    first, *ids = open_shop.next_ids(400)
    await open_shop.sell(first)
    await open_shop.agree(
        [first], "before the kill"
    )  # the registry, which stores in Postgres too, has given its schemas
    killed = False
    for number in ids:
        try:
            await open_shop.sell(number)
            await open_shop.sql.execute("UPDATE sales SET amount = 2.00 WHERE id = $1", number)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            break
        if number == ids[100] and not killed:
            killed = True
            listener(open_shop.servers["POSTGRES_PORT"]).send_signal(signal.SIGKILL)

    async def back() -> bool:
        try:
            open_shop.sql = await connected(open_shop.servers)
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    await until(back, "Postgres is back", DEADLINE_S)
    environment = {**open_shop.servers, "CONNECT_WATCHER_INTERVAL_S": "0.5"}
    async with service("connect_watcher", environment, tmp_path / "log"):
        await open_shop.sell(ids[-1])
        await open_shop.agree(ids, "after the kill")
    assert len(await open_shop.rows(ids)) > 100
    await until(lambda: registry_is_well(open_shop.servers), "the registry has dropped its broken connections")
    await open_shop.sql.close()


async def test_the_slot_advances_while_nothing_is_sold(open_shop: Shop) -> None:
    """While only another table is written to, the slot releases the log, so that it does not fill the disk."""
    await open_shop.sql.execute("CREATE TABLE IF NOT EXISTS other_business (note text)")
    await open_shop.sql.execute("INSERT INTO other_business SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
    written = await open_shop.sql.fetchval("SELECT pg_current_wal_lsn()")

    async def advanced() -> bool:
        query = "SELECT confirmed_flush_lsn >= $2 FROM pg_replication_slots WHERE slot_name = $1"
        return bool(await open_shop.sql.fetchval(query, SLOT, written))

    await until(advanced, "the slot confirms the position after the other table's changes", 60)
    assert await open_shop.sql.fetchval("SHOW max_slot_wal_keep_size") == "512MB"


async def test_schema_of_the_bench(open_shop: Shop, servers: Mapping[str, str]) -> None:
    """The envelopes of `task bench:streams` are in the schema that Debezium registered first."""
    (number,) = ids = open_shop.next_ids(1)
    await open_shop.sell(number)
    await open_shop.agree(ids, "captured")
    registered = await Servers(servers).client.get_schema("sales.postgres-value", version=1)
    assert registered is not None
    assert registered.schema.raw_schema == orjson.loads(SCHEMA.read_bytes())
