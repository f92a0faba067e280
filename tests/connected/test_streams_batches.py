"""The streams units against a real broker and registry: what becomes of each record, and when it is committed."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from faust.app.base import App

from chassis import kafka
from chassis.kafka import Record
from chassis.results import Context, Ignored, Output, Rejected
from chassis.stream import Agent
from contracts.catalogue import catalogue
from tests.connected.streams import Servers, unique, unit_in_process, until
from tests.contract.test_streams import AGENTS

FILES = AGENTS[1]
OUTCOMES = ("received", "published", "dead_letter", "ignored")


@pytest.fixture
def reached(servers: Mapping[str, str]) -> Servers:
    """Broker and registry."""
    return Servers(servers)


def rows(prefix: str, count: int, first: int = 1) -> list[dict[str, Any]]:
    """Records of `sales.files` with ids of their own, counted from `first`."""
    example = catalogue()["sales.files"].examples()["canonical"]
    return [
        {**example, "sale_id": f"{prefix}-{number}", "row_number": number} for number in range(first, first + count)
    ]


def ids(prefix: str, count: int) -> set[str]:
    """The sale ids of `rows`."""
    return {f"{prefix}-{number}" for number in range(1, count + 1)}


def final_id(example: Mapping[str, Any]) -> str:
    """The sale id of a raw example after validation; empty where it is no sale."""
    if "body" in example:
        body = json.loads(example["body"])
        charge = body.get("data", {}).get("object", {"id": body["id"]})
        intent = charge.get("payment_intent")
        return str((intent["id"] if isinstance(intent, dict) else intent) or charge["id"])
    if "op" not in example:
        return str(example["sale_id"]).strip()
    row = example["after"] or example["before"]
    return str(row["id"]) if example["source"]["table"] == "sales" else ""


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.consumes)
async def test_mixed_batch(agent: Agent, reached: Servers) -> None:
    """Valid records reach sales.unified, invalid ones sales.dlq with bytes and position, and then all is committed."""
    name, topic = unique("mixed"), catalogue()[agent.consumes]
    examples = topic.examples()
    invalid = {name: case for name, case in topic.examples("invalid").items() if set(case) == {"record", "reason"}}
    good = await reached.encode(topic.name, list(examples.values()))
    bad = await reached.encode(topic.name, [case["record"] for case in invalid.values()])
    async with reached.published() as (published, read):
        payloads = [None, *good, *bad, b"not Avro", b"", None]
        positions = await reached.feed(topic.name, payloads)
        async with unit_in_process(reached, agent, name) as (unit, work):
            ends = {
                (topic.name, number): max(offset for at, offset in positions if at == number) + 1
                for number, _ in positions
            }

            async def committed() -> bool:
                assert not work.done()
                return (await reached.committed(name)).items() >= ends.items()

            await until(committed, "every offset is committed")
            assert unit.readiness.missing == {}
            text = unit.metrics.render(["text/plain"])[0].decode()
        fed = dict(zip(positions, payloads, strict=True))
        wrong = {position for position, payload in fed.items() if payload in (*bad, b"not Avro", b"")}
        expected_ids = {sale_id for sale_id in map(final_id, examples.values()) if sale_id}

        async def complete() -> bool:
            await read()
            return wrong <= set(published.dead_letters(name)) and expected_ids <= set(published.sales())

        await until(complete, "every record is in sales.unified or sales.dlq")
    dead = published.dead_letters(name)
    assert {at: dead[at]["value"] for at in wrong} == {at: fed[at] for at in wrong}
    reasons = [case["reason"] for case in invalid.values()] + ["wire_format"] * 2
    assert sorted(dead[at]["reason"] for at in wrong) == sorted(reasons)
    assert not set(dead) & (set(fed) - wrong)
    counted = {line.split()[0]: int(line.split()[1]) for line in text.splitlines() if "records_total{" in line}
    by_outcome = {outcome: sum(n for key, n in counted.items() if f'"{outcome}"' in key) for outcome in OUTCOMES}
    assert by_outcome["received"] == sum(by_outcome[outcome] for outcome in OUTCOMES[1:])


async def test_largest_record(reached: Servers) -> None:
    """A record as large as its topic takes, and not readable, is a dead letter with all of its bytes."""
    name, payload = unique("large"), b"x" * (1024 * 1024 - 200)
    async with reached.published() as (published, read), unit_in_process(reached, FILES, name):
        (position,) = await reached.feed("sales.files", [payload])

        async def complete() -> bool:
            await read()
            return position in published.dead_letters(name)

        await until(complete, "the dead letter is there")
    assert published.dead_letters(name)[position]["value"] == payload


class CrashError(Exception):
    """Stands for whatever ends a process at the worst moment."""


@pytest.mark.parametrize("position", [1, 10, 20], ids=["first", "middle", "last"])
async def test_crash_in_a_batch(position: int, reached: Servers) -> None:
    """A crash at the first, a middle or the last record commits none of the batch; after the restart all is there."""
    name, prefix = unique("crash"), unique("C")
    fatal = f"{prefix}-{position}"

    def crashing(record: dict[str, Any], context: Context) -> Output | Rejected | Ignored:
        if record["sale_id"] == fatal:
            raise CrashError
        return FILES.transform(record, context)

    async with reached.published() as (published, read):
        positions = await reached.feed("sales.files", await reached.encode("sales.files", rows(prefix, 20)))
        async with unit_in_process(reached, replace(FILES, transform=crashing), name) as (_, work):
            with pytest.raises(CrashError):
                async with asyncio.timeout(60):
                    await work
        partition, offset = positions[position - 1]
        assert (await reached.committed(name)).get(("sales.files", partition), 0) <= offset
        async with unit_in_process(reached, FILES, name):

            async def complete() -> bool:
                await read()
                return ids(prefix, 20) <= set(published.sales())

            await until(complete, "every sale is in sales.unified")


async def test_crash_whose_stop_is_cancelled(reached: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stopped the agent is raised also where Faust's own stop ends with a cancellation."""

    stop = App.stop

    async def cancelled(app: App) -> None:
        await stop(app)
        raise asyncio.CancelledError

    def crashing(record: dict[str, Any], context: Context) -> Output | Rejected | Ignored:
        raise CrashError

    monkeypatch.setattr(App, "stop", cancelled)
    await reached.feed("sales.files", await reached.encode("sales.files", rows(unique("C"), 1)))
    async with unit_in_process(reached, replace(FILES, transform=crashing), unique("crash")) as (_, work):
        with pytest.raises(CrashError):
            async with asyncio.timeout(60):
                await work


async def test_publish_fails_half_way(reached: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the broker takes half of the outputs and then fails, nothing is committed and the restart completes all."""
    name, prefix = unique("half"), unique("H")
    whole = kafka.publish

    async def half(client: Any, records: Any) -> int:
        chosen: list[Record] = list(records)
        await whole(client, chosen[: len(chosen) // 2])
        raise KafkaError("the broker is gone")

    async with reached.published() as (published, read):
        await reached.feed("sales.files", await reached.encode("sales.files", rows(prefix, 20)))
        with monkeypatch.context() as broken:
            broken.setattr(kafka, "publish", half)
            async with unit_in_process(reached, FILES, name) as (_, work):
                with pytest.raises(KafkaError, match="the broker is gone"):
                    async with asyncio.timeout(60):
                        await work
        assert await reached.committed(name) == {}
        async with unit_in_process(reached, FILES, name):

            async def complete() -> bool:
                await read()
                return ids(prefix, 20) <= set(published.sales())

            await until(complete, "every sale is in sales.unified")
