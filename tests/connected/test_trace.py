"""`placar trace` against real servers: one sale at every step."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from chassis import dead_letters, kafka
from chassis.kafka import Record
from chassis.results import Rejected
from contracts import codec
from contracts.catalogue import catalogue
from contracts.json_avro import plain, typed
from contracts.time import to_ms
from contracts.versions import MAX_VERSION
from tests.connected.commands import Run, placar
from tests.connected.serving import Database, database, hour_of_its_own, ranking_set
from tests.connected.streams import Servers, free_port, unique
from tests.webhook_events import charge_event, order_event
from tools.raw_sales import found

pytestmark = pytest.mark.timeout(120)


class Scene:
    """Servers, a database of the test's own, an hour and a sale that nobody else has."""

    def __init__(self, servers: Mapping[str, str], db: Database) -> None:
        self.environment = {**servers, "CLICKHOUSE_DB": db.settings.db}
        self.reached = Servers(servers)
        self.db = db
        self.hour: datetime = hour_of_its_own()
        self.at = self.hour + timedelta(minutes=10)
        self.name = unique("sale")

    async def publish(self, topic: str, key: str | bytes, *records: Mapping[str, Any]) -> bytes:
        """Publish records, given as JSON, and return the bytes of the last."""
        key = key.encode() if isinstance(key, str) else key
        values = await self.reached.encode(topic, records)
        async with kafka.sending("test", self.reached.kafka) as client:
            await kafka.publish(client, [Record(topic, key, value) for value in values])
        return values[-1]

    async def debezium_key(self) -> bytes:
        """The key of the sale's row as Debezium writes it."""
        key = {"type": "record", "name": "Key", "namespace": "shop", "fields": [{"name": "id", "type": "long"}]}
        registered = await self.reached.client.register("sales.postgres-key", key)
        return codec.encode_body(registered, codec.parse(key), {"id": int(self.name)})

    async def change(self, op: str, lsn: int) -> None:
        """Publish a change of the sale's row in Postgres, as Debezium captures it."""
        example = catalogue()["sales.postgres"].examples()["insert"]
        row = {**example["after"], "id": int(self.name), "sale_date": to_ms(self.at) * 1000}
        images = {"before": row if op == "d" else None, "after": None if op == "d" else row}
        record = {**example, **images, "op": op, "source": {**example["source"], "lsn": lsn}}
        await self.publish("sales.postgres", await self.debezium_key(), record)

    async def unify(self, source: str, version: int, **more: Any) -> None:
        """Publish a version of the unified sale, and store it."""
        await self.publish("sales.unified", f"{source}:{self.name}", self.unified(source, version, **more))
        await self.store(self.unified(source, version, **more))

    def unified(self, source: str, version: int, **more: Any) -> dict[str, Any]:
        """The unified sale, as JSON: Ana sells in Recife for 5.00."""
        sale = {
            "source": source,
            "sale_id": self.name,
            "city": "Recife",
            "country": "BR",
            "salesman_name": "Ana",
            "amount": "5.00",
            "event_time": plain(self.at),
            "version": version,
        }
        return {**catalogue()["sales.unified"].examples()["sale"], **sale, **more}

    async def store(self, sale: Mapping[str, Any]) -> None:
        """Write a unified sale into ClickHouse as the sink does."""
        await self.db.write("sales.unified", typed(catalogue()["sales.unified"].avro, sale))

    async def reject(
        self, topic: str, value: bytes, key: bytes | None = None, partition: int = 1, offset: int = 7
    ) -> None:
        """Make a dead letter of a record; it never was in the topic where the partition is -1."""
        encode = await codec.encoder(self.reached.client, catalogue()["sales.dlq"])
        rejected = Rejected("country_unknown", "planted")
        dead = dead_letters.dead_letter(
            encode, "files", rejected, topic=topic, key=key, value=value, partition=partition, offset=offset
        )
        await self.reached.feed("sales.dlq", [dead.value])

    async def rank(self, topic: str, names: list[str], country: str = "") -> None:
        """Serve a set; the total of each name is some hundreds."""
        await self.db.write(topic, ranking_set(topic, self.hour, 700, names, country=country))

    async def trace(self, source: str, *options: str, **more: str) -> Run:
        """Run the command."""
        return await placar({**self.environment, **more}, "trace", source, self.name, *options)

    async def steps(self, source: str) -> list[dict[str, Any]]:
        """What it prints with --json, where the sale is known."""
        run = await self.trace(source, "--json")
        assert run.status == 0, run.err
        return run.lines


@pytest.fixture
async def scene(servers: Mapping[str, str]) -> AsyncIterator[Scene]:
    """A scene of the test's own."""
    async with database(servers) as db:
        yield Scene(servers, db)


async def test_a_corrected_sale_is_shown_from_its_rows_to_its_rank(scene: Scene) -> None:
    """Both uploads, the first one's dead letter, the version made from the second, the stored row, the rankings."""
    example = catalogue()["sales.files"].examples()["canonical"]
    row = {**example, "sale_id": f" {scene.name} ", "sale_date": scene.at.isoformat(), "row_number": 3}
    first = await scene.publish("sales.files", "a", {**row, "object_version": 100, "country": "XX"})
    await scene.publish("sales.files", "a", {**row, "object_version": 200})
    await scene.reject("sales.files", first)
    version = (200 << 31) + 3
    await scene.publish("sales.unified", f"files:{scene.name}", scene.unified("files", version))
    await scene.store(scene.unified("files", version))
    await scene.rank("rankings.city", ["Natal", "Recife"])
    await scene.rank("rankings.salesman", ["Bia", "Caio"], "BR")

    raw1, raw2, dead, unified, stored, city, salesman, product = await scene.steps("files")
    assert [raw1["step"], raw2["step"]] == ["raw", "raw"]
    assert [raw1["version"], raw2["version"]] == [(100 << 31) + 3, version]
    assert raw2["record"]["object_version"] == 200
    assert raw2["where"].startswith("sales.files-")
    assert (dead["step"], dead["reason"], dead["of"]) == ("dead letter", "country_unknown", "sales.files-1@7")
    assert (unified["step"], unified["version"], unified["deleted"]) == ("unified", version, False)
    assert unified["made_from"] == raw2["where"]
    assert (stored["step"], stored["version"], stored["amount"]) == ("clickhouse", version, "5.00")
    assert city["where"].startswith("top_sales_city ")
    assert city["message"].startswith("city Recife is rank 2: 708.01 of 2 sales; the stored sales say 5.00 of 1 sales")
    assert (city["revision"], city["status"]) == (700, "provisional")
    assert salesman["message"].startswith("not ranked: salesperson Ana has 5.00 of 1 sales, rank 2 (Caio) has 708.01")
    assert product["message"] == "not ranked: there is no ranking of this window yet"

    shown = await scene.trace("files")
    assert shown.status == 0
    beginnings = [line.split()[0] for line in shown.out.splitlines() if line[:2] != "  "]  # a row may wrap
    assert beginnings[:4] == ["step", "raw", "raw", "dead"]
    assert "top_salesman_country" in shown.out


async def test_a_deleted_row_of_the_database_is_shown_to_its_deletion(scene: Scene) -> None:
    """Insert and delete by their log positions, versions under the epoch, and why there is no rank."""
    scene.name = str(int(scene.at.timestamp()) + 10**12)
    for op, lsn in (("c", 41), ("d", 42)):
        await scene.change(op, lsn)
        await scene.unify("postgres", 1 << 56 | lsn, deleted=op == "d")

    steps = await scene.steps("postgres")
    assert [step["step"] for step in steps] == ["raw"] * 2 + ["unified"] * 2 + ["clickhouse"] + ["ranking"] * 3
    raw, unified = steps[:2], sorted(steps[2:4], key=lambda step: int(step["version"]))
    assert [(one["lsn"], one["version"], one["deleted"]) for one in raw] == [
        (41, 1 << 56 | 41, False),
        (42, 1 << 56 | 42, True),
    ]
    assert [one["made_from"] for one in unified] == [one["where"] for one in raw]
    assert steps[4]["deleted"] is True
    assert {step["message"] for step in steps[5:]} == {"not ranked: the sale is deleted"}


async def test_an_order_is_shown_from_its_webhooks_to_its_rank(scene: Scene) -> None:
    """Event, id and time of each webhook with its body, the version made of it, the stored row, the rank."""
    scene.name = str(int(scene.at.timestamp()) + 10**12)
    order = {"id": int(scene.name), "created_at": scene.at.isoformat()}
    for second, event_type in enumerate(("orders/create", "orders/paid")):
        event = order_event(event_type, scene.at + timedelta(seconds=second), **order) | {"object_id": scene.name}
        await scene.publish("shopify.orders", scene.name, plain(event))
        ((_, _, version),) = found("shopify", event)
        await scene.unify("shopify", version.version)
    await scene.rank("rankings.city", ["Recife"])

    created, paid, *unified, stored, city, _, _ = await scene.steps("shopify")
    assert [one["message"] for one in (created, paid)] == [
        f"event_type {event_type}, event_id an event, received_at {plain(event['received_at'])}"
        for event_type in ("orders/create", "orders/paid")
    ]
    assert json.loads(paid["record"]["body"])["id"] == int(scene.name)
    assert [one["made_from"] for one in unified] == [created["where"], paid["where"]]
    assert (stored["step"], stored["version"]) == ("clickhouse", paid["version"])
    assert city["message"].startswith("city Recife is rank 1")


async def test_a_charge_that_an_order_names_is_shown_with_the_order(scene: Scene) -> None:
    """The order's event is a raw record of the charge's sale: its deletion was made from it."""
    charge = charge_event(at=scene.at, payment_intent=scene.name, created=to_ms(scene.at) // 1000)
    order = order_event(at=scene.at, note_attributes=[{"name": "stripe_payment_intent", "value": scene.name}])
    await scene.publish("stripe.charges", "a charge", plain(charge))
    ((_, _, version),) = found("stripe", charge)
    await scene.unify("stripe", version.version)
    await scene.publish("shopify.orders", "an order", plain(order))
    await scene.unify("stripe", MAX_VERSION, deleted=True)

    sold, paid, first, second, stored, *rankings = await scene.steps("stripe")
    assert [one["where"].rpartition("-")[0] for one in (sold, paid)] == ["stripe.charges", "shopify.orders"]
    assert [one["made_from"] for one in (first, second)] == [sold["where"], paid["where"]]
    assert [one["deleted"] for one in (sold, paid, stored)] == [False, True, True]
    assert {one["message"] for one in rankings} == {"not ranked: the sale is deleted"}


async def test_a_sale_that_has_come_half_way_is_shown_so_far(scene: Scene) -> None:
    """In its topic, not unified: one line; stored but in no ranking yet: it says so."""
    example = catalogue()["sales.legacy"].examples()["canonical"]
    raw = {**example, "sale_id": scene.name, "sale_date": to_ms(scene.at)}
    await scene.publish("sales.legacy", scene.name, raw)
    assert [step["step"] for step in await scene.steps("legacy")] == ["raw"]
    await scene.store(scene.unified("legacy", 1, amount=str(Decimal("7.50"))))
    steps = await scene.steps("legacy")
    assert [step["step"] for step in steps] == ["raw", "clickhouse"] + ["ranking"] * 3
    assert {step["message"] for step in steps[2:]} == {"not ranked: there is no ranking of this window yet"}


@pytest.mark.parametrize("source", ["postgres", "files", "legacy"])
async def test_a_sale_whose_record_nobody_can_read_is_found_in_its_dead_letter(scene: Scene, source: str) -> None:
    """By Debezium's key, by the first column of the row, by the legacy sale's key."""
    key, value, partition = scene.name.encode(), b"no record", 1
    if source == "postgres":
        scene.name = str(int(scene.at.timestamp()) + 10**12)
        key = await scene.debezium_key()
    if source == "files":
        key, value, partition = b"sales-data/a.csv#3", f"{scene.name},Ana,one column too few".encode(), -1
    await scene.reject(f"sales.{source}", value, key, partition)
    (dead,) = await scene.steps(source)
    assert (dead["step"], dead["reason"]) == ("dead letter", "country_unknown")
    assert dead["of"] == (None if source == "files" else f"sales.{source}-1@7")
    assert ("never was in sales.files" in dead["message"]) == (source == "files")


async def test_log_positions_that_come_again_after_a_restore_are_kept_apart(scene: Scene) -> None:
    """A row that was deleted before the restore and is there again: each version has its own raw record."""
    scene.name = str(int(scene.at.timestamp()) + 10**12)
    for epoch, op, lsn in ((1, "c", 41), (1, "d", 42), (2, "r", 41)):
        await scene.change(op, lsn)
        await scene.unify("postgres", epoch << 56 | lsn, deleted=op == "d")
    steps = await scene.steps("postgres")
    versions = [1 << 56 | 41, 1 << 56 | 42, 2 << 56 | 41]
    assert [step["version"] for step in steps[:6]] == versions * 2
    assert [step["made_from"] for step in steps[3:6]] == [step["where"] for step in steps[:3]]
    assert (steps[6]["version"], steps[6]["deleted"]) == (versions[-1], False)


async def test_a_sale_whose_newest_change_is_a_dead_letter_is_outdated(scene: Scene) -> None:
    """The stored version is older: it says so, and names the change."""
    example = catalogue()["sales.legacy"].examples()["canonical"]
    await scene.publish("sales.legacy", scene.name, {**example, "sale_id": scene.name})
    raw = {**example, "sale_id": scene.name, "country": "XX"}
    await scene.unify("legacy", 1)
    assert [step["outdated"] for step in await scene.steps("legacy") if step["step"] == "clickhouse"] == [False]
    value = await scene.publish("sales.legacy", scene.name, raw)
    _, newest, *_ = await scene.steps("legacy")
    _, partition, offset = newest["where"].replace("@", "-").rsplit("-", 2)
    await scene.reject("sales.legacy", value, scene.name.encode(), int(partition), int(offset))
    (stored,) = [step for step in await scene.steps("legacy") if step["step"] == "clickhouse"]
    assert stored["outdated"] is True
    assert stored["message"].endswith(f"; outdated: the newest change, {newest['where']}, is a dead letter")


@pytest.mark.parametrize("source", ["postgres", "files", "legacy"])
async def test_few_records_are_decoded_for_a_sale_among_many(
    scene: Scene, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics are searched by their bytes: what is decoded does not grow with the other sales, wherever they are."""
    scene.name = str(int(scene.at.timestamp()) + 10**12)
    topic, others = f"sales.{source}", 20_000
    if source == "postgres":
        await scene.change("c", 41)
    else:
        example = catalogue()[topic].examples()["canonical"]
        await scene.publish(topic, scene.name, {**example, "sale_id": f" {scene.name[:4]}\u200b{scene.name[4:]} "})
    await scene.unify(source, 1)
    sale = scene.unified("files", 1)
    await scene.publish("sales.unified", "other", *({**sale, "sale_id": f"other {n}"} for n in range(others)))
    row = catalogue()["sales.files"].examples()["canonical"]
    await scene.publish("sales.files", "other", *({**row, "sale_id": f"other {n}"} for n in range(others)))
    decoded = []
    decode = codec.Decoder.decode

    async def counted(self: codec.Decoder, payload: bytes) -> dict[str, Any]:
        decoded.append(payload)
        return await decode(self, payload)

    monkeypatch.setattr(codec.Decoder, "decode", counted)
    steps = await scene.steps(source)
    assert [step["step"] for step in steps] == ["raw", "unified", "clickhouse", *["ranking"] * 3]
    assert 2 <= len(decoded) < others / 10


async def test_a_sale_that_nobody_knows_is_status_1(scene: Scene) -> None:
    """One line that names it, nothing on standard output."""
    run = await scene.trace("legacy")
    assert (run.status, run.out) == (1, "")
    assert run.err == f"no step knows the sale '{scene.name}' of legacy\n"


@pytest.mark.parametrize(
    ("setting", "server"),
    [("KAFKA_PORT", "kafka"), ("SCHEMA_REGISTRY_PORT", "schema registry"), ("CLICKHOUSE_NATIVE_PORT", "clickhouse")],
)
async def test_a_server_that_is_down_is_one_line_and_status_2(scene: Scene, setting: str, server: str) -> None:
    """The line names the server, its address and the settings, and no secret."""
    example = catalogue()["sales.legacy"].examples()["canonical"]
    await scene.publish("sales.legacy", scene.name, {**example, "sale_id": scene.name})
    port = str(free_port())
    run = await scene.trace("legacy", **{"CLICKHOUSE_PASSWORD": "hidden-word", setting: port})
    assert (run.status, run.out) == (2, "")
    (line,) = run.err.splitlines()
    assert line.startswith(f"trace not done: {server} at ")
    assert port in line
    assert setting in line or server == "clickhouse"
    assert "hidden-word" not in line
