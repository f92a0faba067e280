"""The sink against real Kafka, registry and ClickHouse."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from schema_registry.client import AsyncSchemaRegistryClient

from chassis.clickhouse import ClickHouse, StoreUnavailableError
from chassis.settings import ClickHouseSettings
from contracts import codec
from contracts.catalogue import catalogue
from contracts.rankings import BY_NAME
from contracts.windows import window_lengths
from services.clickhouse_sink import ddl
from services.clickhouse_sink.app import table_columns
from services.clickhouse_sink.mapping import ranking_mapping
from tests.connected.serving import Database, database, hour_of_its_own, ranking_set, service
from tests.connected.streams import Servers, forwarder, free_port, unique, until
from tests.connected.unit_process import UnitProcess

CITY = """
SELECT rank, city, total_sales, transaction_count, revision FROM top_sales_city FINAL
WHERE window_start = toDateTime(%(start)s, 'UTC') ORDER BY rank
"""


@pytest.fixture
async def db(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A database of the test's own."""
    async with database(servers) as made:
        yield made


def sale(sale_id: str, version: int, **changes: Any) -> dict[str, Any]:
    """A sale event."""
    return {
        "sale_id": sale_id,
        "source": "files",
        "salesman_name": "Ana Souza",
        "city": "São Paulo",
        "country": "BR",
        "amount": Decimal("9999999999999999.99"),
        "product": "SSD",
        "event_time": datetime(2026, 2, 19, 10, 0, 0, 123000, tzinfo=UTC),
        "ingestion_time": datetime(2026, 2, 19, 10, 0, 1, 1000, tzinfo=UTC),
        "version": version,
        "deleted": False,
    } | changes


WINDOWS = "1h,1d@America/Sao_Paulo"
LENGTHS = window_lengths(WINDOWS)


async def ended_well(module: str, environment: Mapping[str, str]) -> None:
    """Run a command to its end, which must be a good one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env={**os.environ, **environment}, stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        assert await process.wait() == 0, module


async def feed(servers: Mapping[str, str], topic: str, *records: Mapping[str, Any]) -> None:
    """Publish records as the topic's producer does, all to be read in their order."""
    reached = Servers(servers)
    encode = await codec.encoder(AsyncSchemaRegistryClient(reached.registry.url), catalogue(LENGTHS)[topic])
    for record in records:
        await reached.feed(topic, [encode(record)])


def sink(servers: Mapping[str, str], db: Database, folder: Path, group: str, **more: str) -> Any:
    """The sink as a process, into the test's database, in a group of the test's own."""
    return service(
        "clickhouse_sink", servers, folder, CLICKHOUSE_DB=db.settings.db, CLICKHOUSE_SINK_GROUP=group, **more
    )


async def revision(db: Database, start: datetime, expected: int) -> None:
    """Wait until the window's ten rows are of this revision."""

    async def arrived() -> bool:
        return {row[4] for row in await db.store.select(CITY, {"start": int(start.timestamp())})} == {expected}

    await until(arrived, f"revision {expected} of {start} is stored")


async def test_sets_replace_shrink_and_empty(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A newer set replaces the older one wholly: more names, fewer names, none, and more again."""
    start = hour_of_its_own()
    async with sink(servers, db, tmp_path, unique("sink")):
        for number, names in enumerate((list("abcdefghij"), list("xyz"), [], list("jihgfedcba")), 1):
            await feed(servers, "rankings.city", ranking_set("rankings.city", start, number, names))
            await revision(db, start, number)
            stored = await db.store.select(CITY, {"start": int(start.timestamp())})
            assert [row[0] for row in stored] == list(range(1, 11))
            assert [row[1] for row in stored] == names + [""] * (10 - len(names))
            assert [row[2] for row in stored[: len(names)]] == [
                Decimal(number + 10 - rank) + Decimal("0.01") for rank in range(1, len(names) + 1)
            ]


async def test_further_window_lengths(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A day's sets go into the day's tables, which are made like those of the hour and are not made twice."""
    settings = {**servers, "RANKING_WINDOWS": WINDOWS}
    for module in ("chassis.publish", "services.clickhouse_sink.ddl", "services.clickhouse_sink.ddl"):
        await ended_well(module, settings)
    start = hour_of_its_own()
    async with database(servers, WINDOWS) as db, sink(settings, db, tmp_path, unique("sink")):
        await ended_well("services.clickhouse_sink.ddl", {**settings, "CLICKHOUSE_DB": db.settings.db})
        shapes = {
            table: (await table_columns(db.store, table))
            for table in ("top_sales_city", "top_sales_city_1d", "top_salesman_country", "top_salesman_country_1d")
        }
        assert shapes["top_sales_city"] == shapes["top_sales_city_1d"] != ({}, "")
        assert shapes["top_salesman_country"] == shapes["top_salesman_country_1d"] != ({}, "")

        await feed(settings, "rankings.city", ranking_set("rankings.city", start, 1, ["of the hour"]))
        await feed(settings, "rankings.city.1d", ranking_set("rankings.city", start, 2, ["of the day"]))
        await feed(settings, "rankings.salesman.1d", ranking_set("rankings.salesman", start, 3, ["Ana"], country="BR"))

        async def stored() -> bool:
            names = []
            for column, base in (("city", "top_sales_city"), ("salesman_name", "top_salesman_country")):
                for table in (base, f"{base}_1d"):
                    query = f"SELECT {column} FROM {table} FINAL WHERE rank = 1 AND toUInt32(window_start) = %(start)s"  # noqa: S608 - names of ours
                    names.append(await db.store.select(query, {"start": int(start.timestamp())}))
            return names == [[("of the hour",)], [("of the day",)], [], [("Ana",)]]

        await until(stored, "each length's set is in its own table")


async def test_older_revision_changes_nothing(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A set of an older revision that arrives later leaves the newer one."""
    start, marker = hour_of_its_own(), hour_of_its_own()
    async with sink(servers, db, tmp_path, unique("sink")):
        await feed(servers, "rankings.city", ranking_set("rankings.city", start, 7, ["new"]))
        await revision(db, start, 7)
        await feed(servers, "rankings.city", ranking_set("rankings.city", start, 6, ["old", "older"]))
        await feed(servers, "rankings.city", ranking_set("rankings.city", marker, 1, ["later"]))
        await revision(db, marker, 1)
        await revision(db, start, 7)


async def test_sale_is_stored_exactly(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A sale is stored to the cent and the millisecond; its highest version counts, a deletion is kept as such."""
    name, gone = unique("sale"), unique("gone")
    async with sink(servers, db, tmp_path, unique("sink")):
        await feed(servers, "sales.unified", sale(name, 2), sale(gone, 1), sale(gone, 2, deleted=True))
        await feed(servers, "sales.unified", sale(name, 1, city="Recife"))

        async def stored() -> bool:
            rows = await db.store.select(
                "SELECT sale_id, amount, city, event_time_ms, ingestion_time_ms, version, deleted FROM sales FINAL "
                "WHERE sale_id IN %(names)s ORDER BY deleted",
                {"names": (name, gone)},
            )
            amount = Decimal("9999999999999999.99")
            return rows == [
                (name, amount, "São Paulo", 1771495200123, 1771495201001, 2, 0),
                (gone, amount, "São Paulo", 1771495200123, 1771495201001, 2, 1),
            ]

        await until(stored, "both sales are stored as they are now")


async def test_undecodable_record_is_a_dead_letter(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A record that cannot be decoded becomes a dead letter with its bytes, is stored as such, and holds up nothing."""
    start, garbage = hour_of_its_own(), unique("garbage").encode()
    group = unique("sink")
    async with sink(servers, db, tmp_path, group) as process:
        await Servers(servers).feed("rankings.city", [garbage])
        await feed(servers, "rankings.city", ranking_set("rankings.city", start, 1, ["after"]))
        await revision(db, start, 1)

        async def stored() -> bool:
            return await db.store.select(
                "SELECT topic, value, reason, unit FROM dead_letters FINAL WHERE value = %(value)s LIMIT 1",
                {"value": garbage.decode()},
            ) == [("rankings.city", garbage.decode(), "wire_format", "clickhouse_sink")]

        await until(stored, "the dead letter is in its table")
        assert 'outcome="dead_letter",topic="rankings.city"' in await process.metrics()


async def test_set_that_does_not_fit_is_a_dead_letter(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A set whose count is beyond its column is a dead letter that names the field; it is not cut."""
    start, after = hour_of_its_own(), hour_of_its_own()
    record = ranking_set("rankings.city", start, 1, ["a"])
    record["entries"][0]["transaction_count"] = 2**32
    async with sink(servers, db, tmp_path, unique("sink")):
        await feed(servers, "rankings.city", record, ranking_set("rankings.city", after, 1, ["b"]))
        await revision(db, after, 1)
        assert await db.store.select(CITY, {"start": int(start.timestamp())}) == []

        async def dead_lettered() -> bool:
            query = "SELECT detail FROM dead_letters FINAL WHERE topic = 'rankings.city' AND reason = 'store_rejected'"
            return any("field transaction_count" in detail for (detail,) in await db.store.select(query))

        await until(dead_lettered, "the dead letter names the field")


async def test_garbage_in_dead_letters_makes_no_new_one(
    servers: Mapping[str, str], db: Database, tmp_path: Path
) -> None:
    """A record of sales.dlq that cannot be decoded is logged and counted, and makes no dead letter of its own."""
    garbage = unique("garbage").encode()
    async with sink(servers, db, tmp_path, unique("sink")) as process:
        await Servers(servers).feed("sales.dlq", [garbage])

        async def counted() -> bool:
            return 'outcome="ignored",topic="sales.dlq"' in await process.metrics()

        await until(process.ready, "the sink is ready")
        await until(counted, "the record is counted")
        assert 'outcome="dead_letter",topic="sales.dlq"' not in await process.metrics()
        assert "record_rejected" in process.logged()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_restart_repeats_nothing_visible(
    number: signal.Signals, servers: Mapping[str, str], db: Database, tmp_path: Path
) -> None:
    """A sink that is stopped or killed while it writes loses nothing, and what it writes twice is seen once."""
    prefix, group = unique("sale"), unique("sink")
    reached = Servers(servers)
    encode = await codec.encoder(AsyncSchemaRegistryClient(reached.registry.url), catalogue()["sales.unified"])
    seen = "SELECT count(), uniqExact(sale_id), sum(amount) FROM sales FINAL WHERE sale_id LIKE %(prefix)s"
    async with sink(servers, db, tmp_path, group) as process:
        for part in range(4):
            await reached.feed(
                "sales.unified",
                [encode(sale(f"{prefix}-{part}-{n}", 1, amount=Decimal("0.01"))) for n in range(500)],
            )
            await until(process.ready, "the sink is ready")
            await process.end(number)
            await process.start()

        async def whole() -> bool:
            totals = await db.store.select(seen, {"prefix": f"{prefix}-%"})
            return totals == [(2000, 2000, Decimal("20.00"))]

        await until(whole, "every sale is stored once")


async def test_readers_never_see_a_mixture(servers: Mapping[str, str], db: Database) -> None:
    """While a set is replaced again and again by longer, shorter and empty ones, each read is one whole revision."""
    start = hour_of_its_own()
    done = asyncio.Event()

    async def write() -> None:
        for number in range(1, 201):
            names = [f"{number}" for _ in range((10, 7, 0, 10)[number % 4])]
            await db.write("rankings.city", ranking_set("rankings.city", start, number, names))
        done.set()

    writing = asyncio.create_task(write())
    reads, seen = 0, set()
    while not done.is_set() or reads < 50:
        stored = await db.store.select(CITY, {"start": int(start.timestamp())})
        if stored:
            reads += 1
            revisions = {row[4] for row in stored}
            assert len(stored) == 10
            assert len(revisions) == 1
            number = revisions.pop()
            seen.add(number)
            assert [row[1] for row in stored] == [f"{number}"] * (10, 7, 0, 10)[number % 4] + [""] * (
                10 - (10, 7, 0, 10)[number % 4]
            )
    await writing
    assert len(seen) > 5


async def test_unavailable_store_holds_offsets_back(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """While ClickHouse is down the sink says address and setting and is not ready; then it writes what waited."""
    start, port, group = hour_of_its_own(), free_port(), unique("sink")
    host, target = servers["CLICKHOUSE_HOST"], int(servers["CLICKHOUSE_NATIVE_PORT"])
    moved = {**servers, "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_NATIVE_PORT": str(port)}

    async def says_why(process: UnitProcess) -> bool:
        why = (await process.missing() or {}).get("clickhouse", "")
        return f"127.0.0.1:{port}" in why and "CLICKHOUSE_NATIVE_PORT" in why

    async with sink(moved, db, tmp_path, group) as process:
        await until(lambda: says_why(process), "the sink says what it cannot reach")
        async with forwarder(port, host, target):
            await until(process.ready, "the sink is ready")
            await feed(servers, "rankings.city", ranking_set("rankings.city", start, 1, ["before"]))
            await revision(db, start, 1)
        await feed(servers, "rankings.city", ranking_set("rankings.city", start, 2, ["meanwhile"]))
        await until(lambda: says_why(process), "the sink says again what it cannot reach")
        async with forwarder(port, host, target):
            await revision(db, start, 2)
            await until(process.ready, "the sink is ready again")


async def test_offsets_are_committed_after_the_insert(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """What is stored is committed: the group's offset follows the newest stored set."""
    start, group = hour_of_its_own(), unique("sink")
    reached = Servers(servers)
    encode = await codec.encoder(AsyncSchemaRegistryClient(reached.registry.url), catalogue()["rankings.city"])
    async with sink(servers, db, tmp_path, group):
        positions = await reached.feed(
            "rankings.city", [encode(ranking_set("rankings.city", start, number, ["x"])) for number in (1, 2, 3)]
        )
        await revision(db, start, 3)

        async def committed() -> bool:
            return (await reached.committed(group)).get(("rankings.city", 0)) == positions[-1][1] + 1

        await until(committed, "the offset is committed")


async def test_wrong_mapping_ends_the_process(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A mapping that does not fit the real table ends the process at start, naming table, column and field."""
    wrong = ranking_mapping(BY_NAME["city"], "top_sales_city").model_dump(mode="json")
    wrong["columns"]["city"] = "entries.transaction_count"
    path = tmp_path / "mappings.yaml"
    path.write_text(yaml.safe_dump({"rankings.city": wrong}), "utf-8")
    async with sink(servers, db, tmp_path, unique("sink"), CLICKHOUSE_SINK_MAPPINGS=str(path)) as process:
        assert await process.exit_status() == 1
    assert (
        "column city, field transaction_count" in process.logged() or "column city, field entries" in process.logged()
    )
    assert "String cannot hold long" in process.logged()


async def test_missing_table_ends_the_process(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """A table that is not there ends the process with the command that creates it."""
    await db.store.execute("DROP TABLE top_sales_city")
    async with sink(servers, db, tmp_path, unique("sink")) as process:
        assert await process.exit_status() == 1
    assert "python -m services.clickhouse_sink.ddl" in process.logged()


async def test_ddl_is_idempotent(servers: Mapping[str, str], db: Database) -> None:
    """Applying the DDL again keeps tables and rows."""
    start = hour_of_its_own()
    await db.write("rankings.city", ranking_set("rankings.city", start, 1, ["kept"]))
    await ddl.apply(db.settings, ddl.scripts(LENGTHS))
    assert len(await db.store.select(CITY, {"start": int(start.timestamp())})) == 10


async def test_connection_is_good_after_a_rejection(db: Database) -> None:
    """After a statement that the server rejects, the next one on the same pool succeeds."""
    for _ in range(5):
        with pytest.raises(Exception, match="Syntax error"):
            await db.store.execute("SELEKT nonsense")
        assert await db.store.select("SELECT 1") == [(1,)]


async def test_unreachable_store() -> None:
    """A port on which nobody listens is StoreUnavailableError, not an error of the caller."""
    store = ClickHouse(ClickHouseSettings(native_port=free_port()), 1, 2)
    with pytest.raises(StoreUnavailableError):
        await store.select("SELECT 1")
    await store.close()
