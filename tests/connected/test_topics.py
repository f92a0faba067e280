"""`placar topics` and `placar produce` against a real broker and registry."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from contracts.catalogue import catalogue
from contracts.text import quoted
from tests.connected.commands import Run, placar
from tests.connected.streams import Servers, free_port, unique

pytestmark = pytest.mark.timeout(120)

LEGACY = catalogue()["sales.legacy"]


class Scene:
    """The command on the shared servers, and files of the test's own."""

    def __init__(self, servers: Mapping[str, str], folder: Path) -> None:
        self.servers = servers
        self.folder = folder

    async def run(self, *arguments: str, **more: str) -> Run:
        """Run the command."""
        group = () if arguments[0] == "produce" else ("topics",)
        return await placar({**self.servers, **more}, *group, *arguments)

    async def produce(self, topic: str, content: object, *options: str) -> Run:
        """Write what is a JSON value, or bytes as they are."""
        file = self.folder / "record"
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return await self.run("produce", topic, str(file), *options)


@pytest.fixture
def scene(servers: Mapping[str, str], tmp_path: Path) -> Scene:
    """A scene of the test's own."""
    return Scene(servers, tmp_path)


async def test_what_is_produced_is_seen_decoded(scene: Scene) -> None:
    """Records as JSON: each with its position, key and values, as tail shows them for machines and for people."""
    name = unique("sale")
    sales = [{**LEGACY.examples()["canonical"], "sale_id": name, "amount": amount} for amount in ("1.00", "2.00")]
    made = await scene.produce("sales.legacy", b"\n".join(json.dumps(sale).encode() for sale in sales), "--key", name)
    assert (made.status, made.err) == (0, "")
    first, second = made.out.splitlines()

    lines = (await scene.run("tail", "sales.legacy", "-n", "2", "--json")).lines
    assert [line["value"] for line in lines] == sales
    assert [f"{line['topic']}-{line['partition']}@{line['offset']}" for line in lines] == [first, second]
    assert {line["key"] for line in lines} == {name}
    assert all(line["schema_id"] > 0 and line["time"].endswith("Z") for line in lines)

    shown = await scene.run("tail", "sales.legacy", "-n", "1")
    assert shown.out.startswith(f"{second}  {lines[1]['time']}  key {name}  schema {lines[1]['schema_id']}\n")
    assert f'  "sale_id": "{name}",\n' in shown.out
    assert "1.00" not in shown.out

    oldest = await scene.run("tail", "sales.legacy", "--from-beginning", "-n", "1", "--json")
    assert oldest.lines[0]["offset"] == 0
    everything = (await scene.run("tail", "sales.legacy", "--from-beginning", "--json")).lines
    assert [line["value"] for line in everything if line["key"] == name] == sales


async def test_a_record_that_does_not_fit_is_not_written(scene: Scene) -> None:
    """One line names the record and the field, the status is 2, and nothing is written, not even what fits."""
    before = await scene.run("describe", "sales.legacy", "--json")
    assert len(before.lines[0]["held"]) == LEGACY.partitions
    good = LEGACY.examples()["canonical"]
    for wrong, message in (
        ({**good, "sale_date": "today"}, "field sale_date is 'today'"),
        ({**good, "price": 1}, "field price is not in the schema"),
        ({}, "field fetched_at is missing"),
    ):
        run = await scene.produce("sales.legacy", json.dumps(good).encode() + json.dumps(wrong).encode(), "--key", "k")
        assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)
        assert run.err.startswith("produce not done: record 2 does not fit the contract of sales.legacy: ")
        assert message in run.err
    for content, message in ((b"{", "line 1 column 2"), (b"", "is empty"), (b"\xff", "holds no JSON")):
        run = await scene.produce("sales.legacy", content)
        assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)
        assert message in run.err
    absent = await scene.run("produce", "sales.legacy", str(scene.folder / "absent"))
    assert (absent.status, absent.err) == (
        2,
        f"produce not done: FILE {quoted(str(scene.folder / 'absent'))}: No such file or directory\n",
    )
    assert (await scene.run("describe", "sales.legacy", "--json")).lines == before.lines


async def test_raw_bytes_are_written_and_shown_as_such(scene: Scene) -> None:
    """With --raw anything is written; tail shows why it is no record, and its bytes shortened, and goes on."""
    for content, why, value in (
        (b"not Avro\n", "first byte is 110", "not Avro\\n"),
        (b"\0\x7f\xff\xff\xff" + b"\1" * 500, "schema id 2147483647 is not in the registry", "007fffffff0101"),
        (b"", "0 bytes are too few", ""),
    ):
        made = await scene.produce("sales.legacy", content, "--raw")
        assert made.status == 0
        assert "without a key; sales.legacy has sale id as its key" in made.err
        (line,) = (await scene.run("tail", "sales.legacy", "-n", "1", "--json")).lines
        assert (line["schema_id"], line["key"], line["bytes"]) == (None, None, len(content))
        assert why in line["unreadable"]
        assert line["value"].startswith(value)
        assert len(line["value"]) <= 200
        shown = await scene.run("tail", "sales.legacy", "-n", "1")
        assert shown.status == 0
        assert f"{len(content)} bytes: {line['value']}".rstrip() in shown.out


async def test_a_topic_whose_schema_is_its_producers(scene: Scene) -> None:
    """A record of Debezium's topic is written with the schema that Debezium registered; tail shows it whole."""
    topic = catalogue()["sales.postgres"]
    example = topic.examples()["insert"]
    await Servers(scene.servers).encode("sales.postgres", [example])  # registers the schema, as Debezium does
    made = await scene.produce("sales.postgres", example, "--key", "k")
    assert made.status == 0, made.err
    (line,) = (await scene.run("tail", "sales.postgres", "-n", "1", "--json")).lines
    assert line["value"] == example


async def test_topics_are_listed_and_described(scene: Scene) -> None:
    """Every topic of the catalogue with its partitions and what it carries; one with its schemas and fields."""
    listed = {line["topic"]: line for line in (await scene.run("list", "--json")).lines}
    assert {name: listed[name]["partitions"] for name in catalogue()} == {
        name: topic.partitions for name, topic in catalogue().items()
    }
    table = (await scene.run("list")).out
    assert all(name in table for name in catalogue())
    (whole,) = (await scene.run("describe", "sales.unified", "--json")).lines
    assert whole["description"] == catalogue()["sales.unified"].description
    assert whole["subject"][0]["version"] == 1
    assert {field["name"] for field in whole["fields"]} >= {"amount", "version"}
    shown = (await scene.run("describe", "sales.unified")).out
    assert "decimal(18, 2)" in shown
    assert f"version 1 is schema id {whole['subject'][0]['schema_id']}" in shown


async def test_following_shows_what_comes_until_it_is_interrupted(scene: Scene) -> None:
    """With -f new records are shown as they come; Ctrl-C ends it with status 0."""
    name = unique("followed")
    sale = {**LEGACY.examples()["canonical"], "sale_id": name}
    await scene.produce("sales.legacy", {**sale, "sale_id": unique("before")}, "--key", "k")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools", "topics", "tail", "sales.legacy", "-n", "1", "-f", "--json",
        env={**os.environ, **scene.servers}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline())["value"]["sale_id"].startswith("before")
        await scene.produce("sales.legacy", sale, "--key", "k")
        assert json.loads(await process.stdout.readline())["value"] == sale
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_what_is_not_there_is_one_line_and_status_2(scene: Scene) -> None:
    """An unknown topic, a missing key of a compacted one, a server that is unavailable: named, with what to do."""
    for arguments, message in (
        (("tail", "sales.unfied"), "the broker has no topic 'sales.unfied'; it has "),
        (("produce", "sales.unfied", os.devnull), "TOPIC 'sales.unfied' is not in contracts/topics; there are "),
        (("produce", "ingestion.progress", os.devnull, "--raw"), "give one with --key (unit/cursor)"),
    ):
        run = await scene.run(*arguments)
        assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)
        assert run.err.startswith(f"{'topics' if arguments[0] == 'tail' else 'produce'} not done: ")
        assert message in run.err
    for setting, server in (("KAFKA_PORT", "kafka"), ("SCHEMA_REGISTRY_PORT", "schema registry")):
        run = await scene.run("describe", "sales.legacy", **{setting: str(free_port())})
        assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)
        assert run.err.startswith(f"topics not done: {server} at ")
        assert setting in run.err
