"""The ledger against real servers: a sale that is missing at any step is found there, and named."""

import asyncio
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chassis import dead_letters
from chassis.kafka import Record
from chassis.postgres import open_connection
from chassis.results import Rejected
from chassis.settings import PostgresSettings
from contracts import codec
from contracts.catalogue import catalogue
from contracts.json_avro import plain, typed
from contracts.time import at_ms
from contracts.versions import pack_postgres
from tests.connected.commands import placar
from tests.connected.serving import Database, database, hour_of_its_own
from tests.connected.sources import bucket, put, service
from tests.connected.streams import Page, Servers, answering, free_port, unique
from tests.connected.test_legacy import register, soap_environment
from tests.webhook_events import charge_event, order_event
from tools.raw_sales import found
from tools.traffic.database import COMMAND_S, staff, wall

COLUMNS = "sale_id,salesman_name,city,country,amount,product,sale_date\n"
# how far each planted sale has come: at its source, then in as many steps after it
WAYS = {"stored": 3, "no topic": 0, "not unified": 1, "not stored": 2, "rejected": 1}
RAW = {"postgres": "sales.postgres", "files": "sales.files", "legacy": "sales.legacy"}
FIRST_ID = 7_000_000_001


@dataclass(frozen=True)
class Planted:
    """A sale of a source: its id there, its way, and when it happened."""

    source: str
    name: str
    way: str
    at: datetime

    def raw(self) -> dict[str, Any]:
        """The record of its source's topic, as JSON."""
        ms = int(self.at.timestamp() * 1000)
        match self.source:
            case "postgres":
                record = catalogue()["sales.postgres"].examples()["insert"]
                return {**record, "after": {**record["after"], "id": int(self.name), "sale_date": ms * 1000}}
            case "files":
                record = catalogue()["sales.files"].examples()["canonical"]
                return {**record, "sale_id": self.name, "sale_date": self.at.isoformat()}
            case _:
                record = catalogue()["sales.legacy"].examples()["canonical"]
                return {**record, "sale_id": self.name, "sale_date": ms}

    def unified(self, **more: Any) -> dict[str, Any]:
        """The unified sale, as JSON."""
        example = catalogue()["sales.unified"].examples()["sale"]
        return {**example, "source": self.source, "sale_id": self.name, "event_time": plain(self.at)} | more


class Scene:
    """Servers, and a database of the test's own."""

    def __init__(self, servers: Mapping[str, str], db: Database) -> None:
        self.servers, self.db = servers, db
        self.reached = Servers(servers)

    async def travel(self, sales: list[Planted], last: int | None = None) -> None:
        """Write each sale to the steps after its source that its way says, or up to the `last`."""
        for source, topic in RAW.items():
            of_source = [one for one in sales if one.source == source]
            reach = {one: WAYS[one.way] if last is None else last for one in of_source}
            raw = [one.raw() for one in of_source if reach[one] >= 1]
            await self.reached.feed(topic, await self.reached.encode(topic, raw))
            unified = [one.unified() for one in of_source if reach[one] >= 2]
            await self.reached.feed("sales.unified", await self.reached.encode("sales.unified", unified))
            for one in of_source:
                if reach[one] >= 3:
                    await self.store(one.unified())

    async def unify(self, sale: dict[str, Any]) -> None:
        """Write a version of a unified sale, given as JSON, to sales.unified and into ClickHouse."""
        await self.reached.feed("sales.unified", await self.reached.encode("sales.unified", [sale]))
        await self.store(sale)

    async def store(self, sale: dict[str, Any]) -> None:
        """Write a unified sale into ClickHouse as the sink does."""
        await self.db.write("sales.unified", typed(catalogue()["sales.unified"].avro, sale))

    async def reject(self, sales: list[Planted]) -> None:
        """Make the sales dead letters of their topics, each written twice, as by a unit that is killed between."""
        encode = await codec.encoder(self.reached.client, catalogue()["sales.dlq"])
        dead: list[Record] = []
        for one in sales:
            (value,) = await self.reached.encode(RAW[one.source], [one.raw()])
            rejected = Rejected("country_unknown", "planted")
            topic = RAW[one.source]
            dead.append(
                dead_letters.dead_letter(
                    encode, "planted", rejected, topic=topic, key=None, value=value, partition=0, offset=0
                )
            )
        await self.reached.feed("sales.dlq", [record.value for record in dead for _ in range(2)])

    async def reject_value(self, topic: str, record: Mapping[str, Any]) -> None:
        """Make a record, as it is decoded, a dead letter of its topic."""
        (value,) = await self.reached.encode(topic, [plain(record)])
        encode = await codec.encoder(self.reached.client, catalogue()["sales.dlq"])
        rejected = Rejected("currency_not_ranked", "planted")
        dead = dead_letters.dead_letter(
            encode, "planted", rejected, topic=topic, key=None, value=value, partition=0, offset=0
        )
        await self.reached.feed("sales.dlq", [dead.value])

    async def ledger(self, hour: datetime, *options: str, **more: str) -> tuple[int, str, str]:
        """Run the command over an hour; returns its status and what it printed."""
        period = ("--from", hour.isoformat(), "--to", (hour + timedelta(hours=1)).isoformat())
        environment = {**self.servers, "CLICKHOUSE_DB": self.db.settings.db, **more}
        run = await placar(environment, "ledger", *period, *options)
        return run.status, run.out, run.err


def postgres(servers: Mapping[str, str]) -> PostgresSettings:
    """The retailer's database."""
    return PostgresSettings(host=servers["POSTGRES_HOST"], port=int(servers["POSTGRES_PORT"]))


async def insert(connection: asyncpg.Connection, sale_id: int, at: datetime) -> None:
    """A row of the database."""
    (name, number), *_ = (await staff(connection)).items()
    query = (
        "insert into sales (id, salesman_id, salesman, city, amount, product, sale_date)"
        " values ($1, $2, $3, 'Recife', $4, 'SSD', $5)"
    )
    await connection.execute(query, sale_id, number, name, Decimal("1.00"), wall(at))


async def inserted(connection: asyncpg.Connection, hour: datetime) -> list[Planted]:
    """A row of each way in the database."""
    made = []
    for minute, way in enumerate(WAYS):
        at = hour + timedelta(minutes=minute)
        # of its own: other tests write sales of small numbers to the topics
        sale_id = FIRST_ID + minute
        await insert(connection, sale_id, at)
        made.append(Planted("postgres", str(sale_id), way, at))
    return made


async def uploaded(servers: Mapping[str, str], hour: datetime) -> list[Planted]:
    """A CSV file with a row of each way and one that is no row, part of it packed, and a key that obstore rejects."""
    prefix = unique("ledger")
    made = [
        Planted("files", f"{prefix}-{minute}", way, hour + timedelta(minutes=minute)) for minute, way in enumerate(WAYS)
    ]
    lines = [f"{one.name},Ana,Recife,BR,1.00,SSD,{one.at.isoformat()}\n" for one in made]
    bucket(servers).put(f"{prefix}/a.csv", "".join([COLUMNS, *lines[:3], "F-0,Ana\n"]).encode())
    bucket(servers).put(f"{prefix}/b.csv.gz", gzip.compress("".join([COLUMNS, *lines[3:]]).encode()))
    assert await put(servers, f"{prefix}/tab\there//.csv", COLUMNS.encode())
    return made


async def booked(environment: Mapping[str, str], hour: datetime) -> list[Planted]:
    """A sale of each way in the legacy service's book."""
    prefix = unique("ledger")
    made = [
        Planted("legacy", f"{prefix}-{minute}", way, hour + timedelta(minutes=minute))
        for minute, way in enumerate(WAYS)
    ]
    sale = {"salesmanName": "Ana", "city": "Recife", "country": "BR", "amount": Decimal(1), "product": "SSD"}
    sales = [{"saleId": one.name, "saleDate": int(one.at.timestamp() * 1000), **sale} for one in made]
    await register(environment, *sales)
    return made


@pytest.mark.timeout(300)
async def test_a_missing_sale_is_named_where_it_is_missing(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A sale of any source that did not reach its topic, sales.unified or ClickHouse is named there, with status 1."""
    hour = hour_of_its_own()
    env = soap_environment(servers, tmp_path)
    async with database(servers) as db, service("legacy_soap", env, tmp_path / "soap") as soap:
        scene = Scene(env, db)
        assert await soap.ready()
        connection = await open_connection(postgres(servers), COMMAND_S)
        try:
            sales = await inserted(connection, hour) + await uploaded(servers, hour) + await booked(env, hour)
            await scene.travel(sales)
            await scene.reject([one for one in sales if one.way == "rejected"])
            # a row that is gone from the database, and everywhere but in ClickHouse
            kept = Planted("postgres", "999999999999", "stored", hour)
            await scene.travel([kept])
            gone = {**kept.raw(), "op": "d", "before": kept.raw()["after"], "after": None}
            gone["source"] = {**gone["source"], "lsn": gone["source"]["lsn"] + 1}
            (delete,) = await scene.reached.encode("sales.postgres", [gone])
            await scene.reached.feed("sales.postgres", [delete])
            deletion = kept.unified(deleted=True, version=kept.unified()["version"] + 1)
            (deleted,) = await scene.reached.encode("sales.unified", [deletion])
            await scene.reached.feed("sales.unified", [deleted])

            status, out, err = await scene.ledger(hour, "--settle", "0", "--json")
            assert (status, err) == (1, "")
            lines = [json.loads(line) for line in out.splitlines()]
            missing = {(line["source"], line["sale_id"]): line["missing_in"] for line in lines if "sale_id" in line}
            steps = {"not unified": "sales.unified", "not stored": "ClickHouse"}
            expected = {
                (one.source, one.name): RAW[one.source] if one.way == "no topic" else steps[one.way]
                for one in sales
                if one.way not in ("stored", "rejected")
            }
            assert missing == {**expected, ("postgres", kept.name): "ClickHouse"}
            numbers = {line["source"]: line for line in lines if "at_source" in line}
            of_files = numbers["files"]
            assert [of_files[step] for step in ("at_source", "topic", "unified", "clickhouse")] == [5, 4, 2, 1]
            assert (of_files["dead_letters"], of_files["missing"]) == (1, 3)
            assert [numbers[source]["dead_letters"] for source in RAW] == [1, 1, 1]
            assert (numbers["postgres"]["at_source"], numbers["postgres"]["clickhouse"]) == (5, 2)

            # what was missing arrives while the ledger waits for it
            running = asyncio.create_task(scene.ledger(hour, "--settle", "60"))
            late = [one for one in sales if one.way not in ("stored", "rejected")]
            await scene.travel(late, last=3)
            await scene.store(deletion)
            status, out, err = await running
        finally:
            await connection.execute("delete from sales where sale_date < '2020-01-01'")
            await connection.close()
    assert status == 0, (out, err)
    assert out.splitlines()[-1].endswith("nothing is missing")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()[0] in RAW}
    assert rows == {source: ["5", "5", "4", "4", "1", "0", "0"] for source in RAW}


async def test_a_server_that_is_down_is_named(servers: Mapping[str, str], tmp_path: Path) -> None:
    """What cannot be compared ends with status 2 and says which server is missing and which settings decide."""
    async with database(servers) as db:
        scene = Scene({**servers, "LEGACY_SOAP_PORT": "1"}, db)
        hour = hour_of_its_own()
        for more, words in (
            ({}, "legacy service at http://127.0.0.1:1/ws/sales (settings LEGACY_SOAP_HOST, LEGACY_SOAP_PORT)"),
            ({"POSTGRES_PORT": "1"}, "postgres at 127.0.0.1:1 (settings POSTGRES_*)"),
        ):
            status, out, err = await scene.ledger(hour, "--settle", "0", **more)
            assert (status, out) == (2, "")
            assert words in err
            assert "Traceback" not in err
        for more, words in (
            ({"KAFKA_PORT": "1"}, "kafka at 127.0.0.1:1 (settings KAFKA_HOST, KAFKA_PORT)"),
            ({"CLICKHOUSE_NATIVE_PORT": "1"}, "clickhouse at 127.0.0.1:1"),
        ):
            status, out, err = await scene.ledger(hour, "--settle", "0", "--source", "postgres", **more)
            assert (status, out) == (2, "")
            assert words in err
        port = free_port()
        async with answering(port, Page()):
            more = {"SCHEMA_REGISTRY_HOST": "127.0.0.1", "SCHEMA_REGISTRY_PORT": str(port)}
            status, out, err = await scene.ledger(hour, "--settle", "0", "--source", "postgres", **more)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"127.0.0.1:{port}/" in err
        assert "(settings SCHEMA_REGISTRY_HOST, SCHEMA_REGISTRY_PORT): status 503" in err
        wrong = await placar(servers, "ledger", "--from", hour.isoformat(), "--to", hour.isoformat())
        assert wrong.status == 2
        assert "--from" in wrong.err
        assert "is not before --to" in wrong.err
        status, out, _ = await scene.ledger(hour, "--settle", "0", "--source", "postgres")
        assert (status, out.splitlines()[-1].endswith("nothing is missing")) == (0, True)


async def test_a_sale_that_a_restore_brought_back_is_not_missing(servers: Mapping[str, str]) -> None:
    """Its deletion before the restore has a higher log position than the row after it, but is older."""
    hour = hour_of_its_own()
    sale = Planted("postgres", str(FIRST_ID + 100), "stored", hour)
    async with database(servers) as db:
        scene = Scene(servers, db)
        connection = await open_connection(postgres(servers), COMMAND_S)
        try:
            await insert(connection, int(sale.name), hour)
            raw = sale.raw()
            changes: tuple[tuple[int, str, int], ...] = ((1, "c", 900), (1, "d", 901), (2, "r", 500))
            for epoch, op, lsn in changes:
                images = {"before": raw["after"], "after": None} if op == "d" else {}
                record = {**raw, **images, "op": op, "source": {**raw["source"], "lsn": lsn}}
                await scene.reached.feed("sales.postgres", await scene.reached.encode("sales.postgres", [record]))
                unified = sale.unified(version=pack_postgres(epoch, lsn), deleted=op == "d")
                await scene.reached.feed("sales.unified", await scene.reached.encode("sales.unified", [unified]))
                await scene.store(unified)
            status, out, err = await scene.ledger(hour, "--settle", "0", "--source", "postgres")
        finally:
            await connection.execute("delete from sales where sale_date < '2020-01-01'")
            await connection.close()
    assert (status, err) == (0, ""), out
    assert out.splitlines()[1].split() == ["postgres", "1", "1", "1", "1", "0", "0", "0"]


async def test_the_sales_of_webhooks_balance(servers: Mapping[str, str]) -> None:
    """Several events of a sale count once, what is no sale is missing nowhere, and a payment is no sale anywhere."""
    hour = hour_of_its_own()
    number = int(hour.timestamp()) + 10**12
    stored, lost, cancelled, rejected, paid_by = (str(number + each) for each in range(5))
    sold, authorised, payment, kept = (unique(name) for name in ("sold", "authorised", "payment", "kept"))
    async with database(servers) as db:
        scene = Scene(servers, db)

        async def deliver(event: dict[str, Any], *, reach: bool = True) -> None:
            """An event in its topic, and what follows from it in sales.unified and ClickHouse."""
            topic = event["topic"]
            await scene.reached.feed(topic, await scene.reached.encode(topic, [plain(event)]))
            for source, name, version in found(event["provider"], event) if reach else ():
                at = plain(hour if version.at is None else at_ms(version.at))
                example = catalogue()["sales.unified"].examples()["sale"]
                sale = {"source": source, "sale_id": name, "event_time": at, "deleted": version.deleted}
                await scene.unify({**example, **sale, "version": version.version})

        def order(name: str, **fields: Any) -> dict[str, Any]:
            return order_event(at=hour, id=int(name), created_at=hour.isoformat(), **fields) | {"object_id": name}

        def charge(name: str, **fields: Any) -> dict[str, Any]:
            return charge_event(at=hour, payment_intent=name, created=int(hour.timestamp()), **fields)

        await deliver(order(stored))
        await deliver(order(stored) | {"occurred_at": hour + timedelta(seconds=1)})
        await deliver(order(cancelled, cancelled_at=hour.isoformat()), reach=False)
        await deliver(order(rejected, currency="USD"), reach=False)
        await scene.reject_value("shopify.orders", order(rejected, currency="USD"))
        await deliver(charge(sold))
        await deliver(charge(authorised, captured=False, amount_captured=0), reach=False)
        await deliver(charge(payment))
        await deliver(charge(kept))
        named = [{"name": "stripe_payment_intent", "value": payment}]
        await deliver(order(paid_by, note_attributes=named))
        options = ("--settle", "0", "--source", "shopify", "--source", "stripe", "--json")
        status, out, err = await scene.ledger(hour, *options)
        assert (status, err) == (0, ""), out
        shopify, stripe = map(json.loads, out.splitlines())
        steps = ("at_source", "topic", "unified", "clickhouse", "dead_letters", "missing")
        assert [shopify[step] for step in steps] == [None, 3, 2, 2, 1, 0]
        assert [stripe[step] for step in steps] == [None, 2, 2, 2, 0, 0]

        # an order that never arrived, and one that names a charge which is still sold
        await deliver(order(lost), reach=False)
        named = [{"name": "stripe_charge", "value": kept}]
        await deliver(order(lost, note_attributes=named), reach=False)
        status, out, err = await scene.ledger(hour, *options)
    assert (status, err) == (1, "")
    lines = [json.loads(line) for line in out.splitlines()]
    missing = {(line["source"], line["sale_id"]): line["missing_in"] for line in lines if "sale_id" in line}
    assert missing == {("shopify", lost): "sales.unified", ("stripe", kept): "sales.unified"}


async def test_a_sale_whose_newest_change_is_a_dead_letter_is_outdated(servers: Mapping[str, str]) -> None:
    """It is named, and nothing is missing: what is ranked is the version before."""
    hour = hour_of_its_own()
    sale = Planted("files", unique("outdated"), "stored", hour)
    async with database(servers) as db:
        scene = Scene(servers, db)
        await scene.travel([sale])
        newer = {**sale.raw(), "country": "XX", "object_version": sale.raw()["object_version"] + 1}
        (value,) = await scene.reached.encode("sales.files", [newer])
        ((partition, offset),) = await scene.reached.feed("sales.files", [value])
        options = ("--settle", "0", "--source", "files", "--json")
        _, before, _ = await scene.ledger(hour, *options)
        encode = await codec.encoder(scene.reached.client, catalogue()["sales.dlq"])
        dead = dead_letters.dead_letter(
            encode,
            "files",
            Rejected("country_unknown", "planted"),
            topic="sales.files",
            key=None,
            value=value,
            partition=partition,
            offset=offset,
        )
        await scene.reached.feed("sales.dlq", [dead.value])
        status, out, err = await scene.ledger(hour, *options)
    assert (status, err) == (0, ""), out
    assert [json.loads(line)["outdated"] for line in before.splitlines()] == [0]
    named, numbers = map(json.loads, out.splitlines())
    assert named == {"source": "files", "sale_id": sale.name, "outdated": True}
    assert (numbers["outdated"], numbers["missing"]) == (1, 0)
