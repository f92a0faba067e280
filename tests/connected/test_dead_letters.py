"""Every kind of bad input through the real units, and the dead letters' command against what they leave."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from lxml import etree

from chassis import kafka
from chassis.dead_letters import dead_letter
from chassis.results import Rejected
from contracts import codec
from contracts.catalogue import Topic, catalogue
from services.file_poller.splitter import KEPT_BYTES
from tests import invalid
from tests.connected.commands import Run, placar, process
from tests.connected.serving import Database, database
from tests.connected.sources import bucket, service
from tests.connected.streams import Page, Published, Servers, answering, free_port, unique, unit_in_process, until
from tests.connected.test_legacy import address, answer, misbehaving, soap_environment
from tests.connected.unit_process import UnitProcess
from tests.contract.test_streams import AGENTS as STREAMS

AGENTS = {agent.consumes: agent for agent in STREAMS}
FILES = AGENTS["sales.files"]
# what is delivered by webhooks is sent to the receiver in test_webhooks.py
CASES = {
    name: cases
    for name, topic in catalogue().items()
    if (cases := {key: case for key, case in topic.examples("invalid").items() if "delivery" not in case})
}


@dataclass(frozen=True)
class Expected:
    """The dead letter that a bad input must become."""

    unit: str
    reason: str
    value: bytes


async def schema_id(servers: Servers, name: str, schema: Any) -> int:
    """The id of a topic's schema, or of another one, under a subject of its own."""
    topic = catalogue()[name]
    if schema == topic.avro and topic.schema_role == "writer":
        registered = await servers.client.check_version(topic.subject, dict(schema))
        assert registered is not None
        known: int = registered.schema_id
        return known
    number: int = await servers.client.register(f"{unique(name)}-value", dict(schema))
    return number


async def fed(servers: Servers, topic: Topic, unit: str) -> dict[tuple[str, int, int], Expected]:
    """Write the topic's bad records; what must become of each, by its position."""
    cases = [case for case in CASES[topic.name].values() if invalid.is_record(case)]
    payloads = [await invalid.payload(case, topic, lambda *of: schema_id(servers, *of)) for case in cases]
    positions = await servers.feed(topic.name, payloads)
    return {
        (topic.name, *position): Expected(unit, case["reason"], payload)
        for position, case, payload in zip(positions, cases, payloads, strict=True)
    }


def uploaded(servers: Mapping[str, str], prefix: str) -> dict[str, Expected]:
    """Upload the bad files; what must become of each, by its key in the bucket."""
    cases = {f"{prefix}/{name}.csv": case for name, case in CASES["sales.files"].items() if "object" in case}
    for key, case in cases.items():
        bucket(servers).put(key, invalid.content(case))
    return {
        key: Expected("file_poller", case["reason"], invalid.kept(case)[:KEPT_BYTES]) for key, case in cases.items()
    }


def soap_sales(prefix: str) -> dict[str, dict[str, str]]:
    """The bad sales of the legacy service, each with an id of its own, by name of the case."""
    made = {}
    for name, case in CASES["sales.legacy"].items():
        if "soap" in case:
            element = etree.fromstring(invalid.content(case))
            values = {str(child.tag): child.text or "" for child in element}
            made[name] = values | {"saleId": f"{prefix}-{name}"}
    return made


def key_of(dead_letter: Mapping[str, Any]) -> str:
    """The file or the sale that a poller's dead letter is about."""
    return str((dead_letter["key"] or b"").decode(errors="replace").partition("#")[0].removeprefix("sales-data/"))


async def unaccounted(process: UnitProcess) -> dict[str, float]:
    """What a process cannot account for, by series."""
    return {name: value for name, value in (await process.samples()).items() if "records_unaccounted" in name}


def in_process(text: str, gauge: str) -> list[int]:
    """The values of a gauge of the ledger in an exposition text."""
    return [int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"placar_records_{gauge}{{")]


@pytest.mark.timeout(420)
async def test_every_kind_of_bad_input_is_one_dead_letter(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Each named kind of bad input ends as exactly one dead letter, with its reason and its original bytes."""
    reached, prefix = Servers(servers), unique("bad")
    env = soap_environment(servers, tmp_path, FILE_POLLER_PREFIX=prefix, FILE_POLLER_INTERVAL_S=0.3)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(database(servers))
        env |= {"CLICKHOUSE_DB": db.settings.db, "CLICKHOUSE_SINK_GROUP": prefix}
        names = {topic: unique(topic) for topic in AGENTS}
        of_topic: dict[tuple[str, int, int], Expected] = {}
        for name in CASES:
            of_topic |= await fed(reached, catalogue()[name], names.get(name, "clickhouse_sink"))
        # what is wrong in sales.unified is written before anybody here reads it
        published, read = await stack.enter_async_context(reached.published())
        async with service("legacy_soap", env, tmp_path / "soap"), httpx.AsyncClient() as client:
            wsdl = (await client.get(f"{address(env)}?wsdl")).content
        soap = soap_sales(prefix)
        port = int(env["LEGACY_SOAP_PORT"])
        await stack.enter_async_context(misbehaving(wsdl, port, [], answer(*soap.values())))

        objects = uploaded(servers, prefix)
        units = [
            await stack.enter_async_context(unit_in_process(reached, agent, names[topic]))
            for topic, agent in AGENTS.items()
        ]
        processes = [
            await stack.enter_async_context(service(name, env, tmp_path / name, wait=False))
            for name in ("clickhouse_sink", "file_poller", "legacy_poller")
        ]

        def mine() -> list[dict[str, Any]]:
            units_of = {*names.values(), "clickhouse_sink", "file_poller", "legacy_poller"}
            values = [value for topic, _, value in published.records if topic == "sales.dlq"]
            return [
                one
                for one in values
                if one["unit"] in units_of
                and ((one["topic"], one["partition"], one["offset"]) in of_topic or prefix in key_of(one))
            ]

        wanted = len(of_topic) + len(objects) + len(soap)
        assert wanted == sum(map(len, CASES.values())) >= 60

        async def complete() -> bool:
            await read()
            assert not [work for _, work in units if work.done()]
            return len(mine()) >= wanted

        await until(complete, "every bad input is a dead letter", 180)
        # the good sales of the same files are published, so each file was read to its end
        await until(lambda: settled(units, processes), "everything that was received has its outcome")
        await read()

    dead_letters = mine()
    assert len(dead_letters) == wanted
    for one in dead_letters:
        position = (one["topic"], one["partition"], one["offset"])
        if position in of_topic:
            expected = of_topic[position]
        elif one["unit"] == "file_poller":
            expected = objects[key_of(one)]
        else:
            case = key_of(one).removeprefix(f"{prefix}-")
            assert (one["unit"], one["reason"]) == ("legacy_poller", CASES["sales.legacy"][case]["reason"])
            assert_same_sale(one["value"], soap[case], CASES["sales.legacy"][case])
            continue
        assert (one["unit"], one["reason"]) == (expected.unit, expected.reason), (position, one["detail"])
        assert one["value"] == expected.value, (position, one["detail"])
        assert one["attempt"] == 1
    assert len({(one["topic"], one["partition"], one["offset"], one["key"]) for one in dead_letters}) == wanted


async def settled(units: Sequence[Any], processes: Sequence[UnitProcess]) -> bool:
    """Whether no unit has a record in flight; every one must account for all that it received."""
    texts = [unit.metrics.render(["text/plain"])[0].decode() for unit, _ in units]
    assert all(in_process(text, "unaccounted") == [0] for text in texts)
    idle = all(in_process(text, "in_flight") == [0] for text in texts)
    for unit in processes:
        assert set((await unaccounted(unit)).values()) == {0}
        series = await unit.samples()
        idle = idle and not any(value for name, value in series.items() if "records_in_flight" in name)
    return idle


def assert_same_sale(content: bytes, sale: Mapping[str, str], case: Mapping[str, Any]) -> None:
    """A SOAP sale is kept element by element; of one that is too large its beginning."""
    if "original_bytes" in case:
        assert len(content) == case["original_bytes"]
        assert content.count(b"x") > case["original_bytes"] - 1000
        return
    kept = {etree.QName(child).localname: child.text or "" for child in etree.fromstring(content)}
    assert kept == sale


async def command(servers: Mapping[str, str], *arguments: str) -> Run:
    """Run the command."""
    return await placar(servers, "dead-letters", *arguments)


def file_sale(sale_id: str, **more: Any) -> dict[str, Any]:
    """A record of `sales.files`."""
    return {**catalogue()["sales.files"].examples()["canonical"], "sale_id": sale_id, **more}


def versions(published: Published, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Every unified sale of a prefix that was published, by sale."""
    made: dict[str, list[dict[str, Any]]] = {}
    for topic, _, value in published.records:
        if topic == "sales.unified" and value["sale_id"].startswith(prefix):
            made.setdefault(value["sale_id"], []).append(value)
    return made


async def about(servers: Mapping[str, str], unit: str, prefix: str) -> dict[str, dict[str, Any]]:
    """The listed dead letters of a unit whose detail has the prefix, by id."""
    listed = await command(servers, "list", "--unit", unit, "--json")
    assert listed.status == 0
    return {line["id"]: line for line in listed.lines if prefix in line["detail"]}


async def assert_shown(servers: Mapping[str, str], unit: str, prefix: str, encoded: Sequence[bytes]) -> None:
    """List and show have three dead letters about the country `prefix`, as tables and as JSON."""
    mine = await about(servers, unit, prefix)
    values = {(line["attempt"], line["replayed_at"], line["topic"], line["reason"]) for line in mine.values()}
    assert (len(mine), values) == (3, {(1, None, "sales.files", "country_unknown")})
    table = await command(servers, "list", "--unit", unit, "--reason", "country_unknown")
    assert all(identity in table.out for identity in mine)
    (shown,) = (await command(servers, "show", "--json", min(mine))).lines
    assert shown["value"]["record"]["country"] == prefix
    assert bytes.fromhex(shown["value"]["hex"]) in encoded
    assert f'"country": "{prefix}"' in (await command(servers, "show", min(mine))).out


async def test_a_replayed_sale_counts_once(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A record is replayed once, as it was or patched, with attempt + 1; whatever comes twice, the sale counts once."""
    reached, prefix, unit = Servers(servers), unique("replay"), unique("files")
    patch = tmp_path / "patch.json"
    patch.write_text(json.dumps({"country": "BR", "amount": "7.50"}), "utf-8")
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(database(servers))
        published, read = await stack.enter_async_context(reached.published())
        await stack.enter_async_context(unit_in_process(reached, FILES, unit))
        rows = [file_sale(f"{prefix}-{number}", country=prefix) for number in (1, 2)]
        encoded = await reached.encode("sales.files", rows)
        await reached.feed("sales.files", encoded)
        await reached.feed("sales.files", encoded[:1])  # once more under the same key: two dead letters of one record

        def dead_letters() -> list[dict[str, Any]]:
            of_unit = [value for topic, _, value in published.records if topic == "sales.dlq" and value["unit"] == unit]
            return [value for value in of_unit if prefix in value["detail"]]

        def sales() -> list[dict[str, Any]]:
            return [value for values in versions(published, prefix).values() for value in values]

        async def number(count: int, what: Callable[[], Sequence[Any]]) -> None:
            async def there() -> bool:
                await read()
                assert len(what()) <= count
                return len(what()) == count

            await until(there, f"{count} of {what()}")

        async def replay(*options: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
            run = await command(servers, "replay", *await about(servers, unit, prefix), *options, "--json")
            return run.status, run.lines[:-1], run.lines[-1]

        await number(3, dead_letters)
        await assert_shown(servers, unit, prefix, encoded)

        # a dry run shows what it would do, and does nothing
        status, would, outcome = await replay("--patch", str(patch), "--dry-run")
        assert (status, outcome["would_replay"], outcome["replayed"]) == (0, 2, 0)
        assert {line["record"]["country"] for line in would} == {"BR"}
        assert {line["replayed_at"] for line in (await about(servers, unit, prefix)).values()} == {None}

        # as they were: rejected again, each with attempt 2, and of the two dead letters of one record one
        status, _, outcome = await replay()
        assert (status, outcome["replayed"]) == (0, 2)
        await number(5, dead_letters)
        assert sorted(value["attempt"] for value in dead_letters()) == [1, 1, 1, 2, 2]
        assert sales() == []

        # patched: accepted; the dead letters of attempt 1 and 2 are of one record, so each record is sent once
        status, sent, outcome = await replay("--patch", str(patch))
        assert (status, outcome["replayed"], {line["attempt"] for line in sent}) == (0, 2, {3})
        await number(2, sales)

        # once: another replay sends nothing; --again does, and the sale still counts once
        status, sent, outcome = await replay("--patch", str(patch))
        assert (status, sent, outcome["replayed"], outcome["replayed_before"]) == (0, [], 0, 2)
        for times in (4, 6):
            _, _, outcome = await replay("--patch", str(patch), "--again")
            assert outcome["replayed"] == 2
            await number(times, sales)
        assert len({(value["sale_id"], value["version"]) for value in sales()}) == 2
        env = {**servers, "CLICKHOUSE_DB": db.settings.db, "CLICKHOUSE_SINK_GROUP": prefix}
        async with service("clickhouse_sink", env, tmp_path / "sink") as sink:
            stored = await stored_sales(db, sink, tuple(f"{prefix}-{number}" for number in (1, 2)))
        assert stored == [(f"{prefix}-{number}", Decimal("7.50")) for number in (1, 2)]


async def stored_sales(db: Database, sink: UnitProcess, names: tuple[str, ...]) -> list[Any]:
    """Id and amount of these sales in ClickHouse, once they are there and the sink has written all that it read."""
    query = "SELECT sale_id, amount FROM sales FINAL WHERE sale_id IN %(ids)s ORDER BY sale_id"

    async def there() -> bool:
        stored = await db.store.select(query, {"ids": names})
        return len(stored) >= len(names) and await nothing_waits(sink)

    await until(there, "the sales are stored")
    return await db.store.select(query, {"ids": names})


async def nothing_waits(sink: UnitProcess) -> bool:
    """Whether the sink has nothing in flight."""
    return not any(value for name, value in (await sink.samples()).items() if "records_in_flight" in name)


async def test_what_cannot_be_replayed_is_named(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A row that never was in a topic, bytes that cannot be patched and a wrong patch fail; the rest is sent."""
    reached, prefix, unit = Servers(servers), unique("never"), unique("files")
    patch, wrong = tmp_path / "patch.json", tmp_path / "wrong.json"
    patch.write_text(json.dumps({"country": "BR"}), "utf-8")
    wrong.write_text(json.dumps({"price": 1}), "utf-8")
    env = {**servers, "FILE_POLLER_PREFIX": prefix, "FILE_POLLER_INTERVAL_S": "0.3"}
    async with AsyncExitStack() as stack:
        published, read = await stack.enter_async_context(reached.published())
        await stack.enter_async_context(unit_in_process(reached, FILES, unit))
        await stack.enter_async_context(service("file_poller", env, tmp_path / "poller"))
        header = b"sale_id,salesman_name,city,country,amount,product,sale_date\n"
        bucket(servers).put(f"{prefix}/a.csv", header + f"{prefix}-9,Ana,Recife\n".encode())
        (row,) = await reached.encode("sales.files", [file_sale(f"{prefix}-1", country="BRA")])
        positions = await reached.feed("sales.files", [row, f"{prefix} is no Avro".encode()])

        async def there() -> bool:
            await read()
            values = [value for topic, _, value in published.records if topic == "sales.dlq"]
            return sum(prefix.encode() in (value["value"] or b"") for value in values) == 3

        await until(there, "the row, the record and the text are dead letters")
        ids = {
            line["reason"]: line["id"]
            for line in (await command(servers, "list", "--topic", "sales.files", "--json")).lines
            if (line["unit"] == unit and (line["partition"], line["offset"]) in positions) or prefix in line["detail"]
        }
        assert set(ids) == {"row_ragged", "country_unknown", "wire_format"}

        rejected = await command(servers, "replay", *ids.values(), "--patch", str(wrong), "--json")
        assert (rejected.status, rejected.lines[-1]["replayed"], rejected.lines[-1]["rejected"]) == (1, 0, 3)
        why = {line["id"]: line["rejected"] for line in rejected.lines[:-1]}
        assert "never was in a topic" in why[ids["row_ragged"]]
        assert "upload it again" in why[ids["row_ragged"]]
        assert "nothing to patch" in why[ids["wire_format"]]
        assert "field price is not in the schema" in why[ids["country_unknown"]]

        some = await command(servers, "replay", *ids.values(), "--patch", str(patch))
        assert some.status == 1
        assert some.out.endswith("1 replayed, 2 cannot be replayed\n")

        async def accepted() -> bool:
            await read()
            return set(versions(published, prefix)) == {f"{prefix}-1"}

        await until(accepted, "the patched sale is published")


async def dead_lettered(reached: Servers, unit: str, *values: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Write dead letters of a unit with these fields; the position of each."""
    encode = await codec.encoder(reached.client, catalogue()["sales.dlq"])
    records = []
    for fields in values:
        rejected = Rejected("country_unknown", unit)
        record = dead_letter(encode, unit, rejected, **{"topic": "sales.files", "key": b"k", **fields})
        records.append(record.value)
    return await reached.feed("sales.dlq", records)


async def test_a_dead_letter_that_was_written_twice_is_one(servers: Mapping[str, str]) -> None:
    """What a killed unit has dead-lettered twice is listed once, replayed once, and both are noted as replayed."""
    reached, prefix, unit = Servers(servers), unique("twice"), unique("files")
    (value,) = await reached.encode("sales.files", [file_sale(prefix)])
    same = {"value": value, "partition": 1, "offset": 7}
    positions = await dead_lettered(reached, unit, same, same, {**same, "offset": 8}, {**same, "attempt": 2})
    mine = await about(servers, unit, unit)
    assert sorted((line["offset"], line["attempt"]) for line in mine.values()) == [(7, 1), (7, 2), (8, 1)]
    assert (await command(servers, "list", "--unit", unit)).out.endswith("3 dead letters\n")
    replayed = [(await command(servers, "replay", "--unit", unit, "--json")).lines[-1] for _ in range(2)]
    assert [(line["replayed"], line["replayed_before"]) for line in replayed] == [(1, 0), (0, 1)]
    for partition, offset in positions:
        (shown,) = (await command(servers, "show", "--json", f"{partition}-{offset}")).lines
        assert shown["replayed_at"] is not None


async def test_bytes_are_kept_exact(servers: Mapping[str, str]) -> None:
    """A row with a stray quote, odd white space or any byte is shown as it is, and a replay sends the very bytes."""
    reached, unit = Servers(servers), unique("bytes")
    row = f'{unit},Ana,Recife,BR,10.00,"TV 32" LED",2026-02-19T10:00:00Z\t \r'.encode()
    raw = bytes(range(256))
    (record,) = await reached.encode("sales.files", [file_sale(unit, product='"TV 32" LED" \u00a0\t')])
    values: list[dict[str, Any]] = [{"value": row}, *({"value": of, "partition": 0} for of in (raw, record))]
    ids = [f"{partition}-{offset}" for partition, offset in await dead_lettered(reached, unit, *values)]
    shown = [(await command(servers, "show", "--json", identity)).lines[0]["value"] for identity in ids]
    assert [bytes.fromhex(value["hex"]) for value in shown] == [row, raw, record]
    assert shown[0]["text"].encode() == row
    assert shown[2]["record"]["product"] == '"TV 32" LED" \u00a0\t'
    assert f"{len(row)} bytes, as text: {row.decode()}\n" in (await command(servers, "show", ids[0])).out

    async with kafka.reading("test", reached.kafka, ["sales.files"]) as client:
        ends = await client.end_offsets(list(client.assignment()))
        for partition, offset in ends.items():
            client.seek(partition, offset)
        replayed = await command(servers, "replay", *ids)
        assert (replayed.status, replayed.out.splitlines()[-1]) == (1, "2 replayed, 1 cannot be replayed")
        sent = [message.value async for message in kafka.messages_to_end(client)]
    assert {raw, record} <= set(sent)
    assert row not in sent


async def test_nothing_matches_and_nobody_answers(servers: Mapping[str, str]) -> None:
    """A list of nothing ends with 0, a replay of nothing with 1; a server that is down is named, with status 2."""
    nobody = unique("nobody")
    for arguments, status in ((("list",), 0), (("list", "--json"), 0), (("replay",), 1)):
        nothing = await command(servers, *arguments, "--unit", nobody)
        assert (nothing.status, nothing.err.splitlines()[-1]) == (status, "there is no dead letter that matches")
        assert nothing.out == ("" if arguments[0] == "list" else "0 replayed\n")
    gone = await command(servers, "show", "0-999999999")
    assert (gone.status, gone.err) == (1, "there is no dead letter 0-999999999 in sales.dlq (any more)\n")
    down = await process("tools", {**servers, "KAFKA_PORT": "1"}, "dead-letters", "list")
    assert (down.status, down.out) == (2, "")
    assert "127.0.0.1:1 (settings KAFKA_HOST, KAFKA_PORT)" in down.err
    assert "Traceback" not in down.err
    port = free_port()
    elsewhere = {**servers, "SCHEMA_REGISTRY_HOST": "127.0.0.1", "SCHEMA_REGISTRY_PORT": str(port)}
    unregistered = await command(elsewhere, "replay")
    async with answering(port, Page()):
        proxied = await command(elsewhere, "list")
    for run, why in ((unregistered, "ConnectError"), (proxied, "status 503")):
        assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)
        assert f"127.0.0.1:{port}/" in run.err
        assert "settings SCHEMA_REGISTRY_HOST, SCHEMA_REGISTRY_PORT" in run.err
        assert why in run.err
