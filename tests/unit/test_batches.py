"""The rules for batches, the same for both kinds of consumer: a Faust agent's and the ClickHouse sink's."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from chassis.batches import HALTED, BatchConsumer
from chassis.clickhouse import ClickHouse
from chassis.dead_letters import ATTEMPT_HEADER
from chassis.errors import HaltedError
from chassis.kafka import Record
from chassis.metrics import IN_FLIGHT, UNACCOUNTED, Metrics
from chassis.ops import Readiness
from chassis.rejections import RejectionGuard, RejectionSettings
from chassis.results import Output, Rejected
from chassis.stream import Agent, Codecs, StreamSettings, Worker
from chassis.unit import Unit
from contracts.catalogue import catalogue
from contracts.codec import DecodeError, Decoder
from contracts.windows import window_lengths
from services.clickhouse_sink.agents import TableWriter
from services.clickhouse_sink.mapping import Plan, check, load_mappings
from services.clickhouse_sink.settings import MAPPINGS_FILE, SinkSettings
from tests.batches import Member, batch, message, published
from tests.unit.test_clickhouse_sink_mapping import TABLES

GOOD, BAD, BROKEN = b"good", b"bad", b"broken"
NOW = datetime(2026, 2, 19, 10, tzinfo=UTC)
OUTCOMES = ("received", "published", "dead_letter", "ignored")


class OutageError(Exception):
    """Stands for whatever is no record's fault."""


async def decode(payload: bytes) -> dict[str, Any]:
    """A sale, none, or an outage, as the payload says."""
    if payload.startswith(BAD):
        raise DecodeError("schema_unknown", "schema id 7 is not in the registry")
    if payload == BROKEN:
        raise OutageError
    texts = dict.fromkeys(("source", "salesman_name", "city", "country", "product"), "x")
    times = {"event_time": NOW, "ingestion_time": NOW}
    return {**texts, **times, "sale_id": payload.decode(), "amount": Decimal("1.00"), "version": 1, "deleted": False}


def plan_of(topic: str) -> Plan:
    """The sink's plan of a topic."""
    mapping = load_mappings(MAPPINGS_FILE, window_lengths("1h"))[topic]
    return check(catalogue()[topic], mapping, *TABLES[mapping.table])


@dataclass
class Scene:
    """A consumer, and what came out of it: delivered sale ids and the dead letters' fields."""

    topic: str
    unit: Unit
    consumer: BatchConsumer
    dead: list[dict[str, Any]]
    records: list[Record]
    inserted: list[str] = field(default_factory=list)
    member: Member = field(default_factory=Member)

    def delivered(self) -> list[str]:
        """The sale ids that were published or inserted, in order."""
        unified = [record.key.decode() for record in self.records if record.topic == "sales.unified" and record.key]
        return unified + self.inserted

    async def handle(self, values: Sequence[bytes | None], *, offset: int = 0, generation: int = 1) -> int:
        """Handle a batch of these values, the first of them at this offset."""
        messages = [message(self.topic, value, offset=number) for number, value in enumerate(values, offset)]
        return await self.consumer.handle([batch(messages, generation)], self.member)

    def counted(self) -> dict[str, int]:
        """The ledger."""
        return {outcome: self.unit.metrics.recorded(self.topic, outcome) for outcome in OUTCOMES}

    def gauge(self, metric: Any) -> float:
        """A gauge of the topic."""
        return cast(float, self.unit.metrics[metric].get({"topic": self.topic}))


Make = Callable[..., Awaitable[Scene]]


@pytest.fixture(params=["faust", "sink"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes a consumer of one of the two kinds."""
    context: AbstractAsyncContextManager[list[Record]] = published()
    async with context as records:

        async def scene(topic: str = "", **limits: Any) -> Scene:
            dead: list[dict[str, Any]] = []

            def encode_dead_letter(record: Any) -> bytes:
                dead.append(dict(record))
                return b"dead letter"

            unit = Unit("unit", structlog.get_logger("placar"), Metrics("unit"), Readiness())
            decoder = cast(Decoder, SimpleNamespace(decode=decode))
            rejections = RejectionSettings(**limits)
            inserted: list[str] = []
            if request.param == "faust":
                topic = topic or "sales.files"
                agent = Agent(topic, "sales.unified", lambda record, _: Output(record["sale_id"].encode(), record))
                settings = StreamSettings(ops_port=1, rejections=rejections)
                codecs = Codecs(decoder, lambda _: b"", encode_dead_letter)
                worker = Worker(unit, settings, agent, codecs, cast(AIOKafkaProducer, None))
                return Scene(topic, unit, worker.consumer, dead, records, inserted)
            topic = topic or "sales.unified"
            plan = plan_of(topic)

            async def insert(_: str, columns: Sequence[str], block: Sequence[tuple[Any, ...]]) -> None:
                inserted.extend(row[columns.index("sale_id")] for row in block)

            store = cast(ClickHouse, SimpleNamespace(insert=insert))
            writer = TableWriter(unit, SinkSettings(), plan, decoder, store, cast(AIOKafkaProducer, None))
            consumer = BatchConsumer(unit, topic, writer, rejections, encode_dead_letter)
            return Scene(topic, unit, consumer, dead, records, inserted)

        yield scene


async def test_every_record_has_its_outcome_and_then_the_batch_is_acknowledged(make: Make) -> None:
    """Good records are delivered, bad ones dead-lettered with their position, tombstones ignored; all is counted."""
    scene = await make()
    assert await scene.handle([b"a", BAD, None, b"b"], offset=40) == 4
    assert scene.delivered() == ["a", "b"]
    (dead,) = scene.dead
    assert (dead["topic"], dead["partition"], dead["offset"], dead["value"]) == (scene.topic, 0, 41, BAD)
    assert (dead["reason"], dead["attempt"], dead["unit"]) == ("schema_unknown", 1, "unit")
    assert scene.member.acknowledged == [(0, 43)]
    assert scene.counted() == {"received": 4, "published": 2, "dead_letter": 1, "ignored": 1}
    assert (scene.gauge(IN_FLIGHT), scene.gauge(UNACCOUNTED)) == (0, 0)


async def test_a_replayed_records_dead_letter_counts_its_attempts(make: Make) -> None:
    """The attempt is that of the header."""
    scene = await make()
    again = message(scene.topic, BAD, headers=[(ATTEMPT_HEADER, b"3")])
    await scene.consumer.handle([batch([again])], scene.member)
    assert [dead["attempt"] for dead in scene.dead] == [3]


async def test_what_was_fetched_before_a_rebalance_is_dropped(make: Make) -> None:
    """A batch of an earlier generation is neither delivered nor acknowledged nor counted; a newer one beside it is."""
    scene = await make()
    scene.member.generation = 2
    assert await scene.handle([b"old"]) == 0
    old, new = (
        batch([message(scene.topic, name, offset=7)], number) for number, name in enumerate((b"old", b"new"), 1)
    )
    assert await scene.consumer.handle([old, new], scene.member) == 1
    assert scene.delivered() == ["new"]
    assert scene.member.acknowledged == [(0, 7)]
    assert scene.counted()["received"] == 1


async def test_an_error_that_is_no_records_fault_acknowledges_nothing(make: Make) -> None:
    """The error is raised; nothing is delivered, dead-lettered or acknowledged."""
    scene = await make()
    with pytest.raises(OutageError):
        await scene.handle([b"a", BAD, BROKEN])
    assert (scene.delivered(), scene.records, scene.member.acknowledged) == ([], [], [])


async def test_a_failed_delivery_acknowledges_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker does not acknowledge a dead letter, the batch is not acknowledged either."""
    scene = await make()

    async def fail(*_: Any) -> int:
        raise OutageError

    monkeypatch.setattr("chassis.kafka.publish", fail)
    with pytest.raises(OutageError):
        await scene.handle([b"a", BAD])
    assert scene.member.acknowledged == []


async def test_a_dead_letter_about_a_dead_letter_is_not_made() -> None:
    """A record of sales.dlq that cannot be used is counted as ignored."""
    unit = Unit("unit", structlog.get_logger("placar"), Metrics("unit"), Readiness())
    writer = TableWriter(
        unit,
        SinkSettings(),
        plan_of("sales.dlq"),
        cast(Decoder, SimpleNamespace(decode=decode)),
        cast(ClickHouse, None),
        cast(AIOKafkaProducer, None),
    )
    consumer = BatchConsumer(unit, "sales.dlq", writer, RejectionSettings(), lambda _: b"")
    async with published() as records:
        member = Member()
        await consumer.handle([batch([message("sales.dlq", BAD)])], member)
    assert records == []
    assert member.acknowledged == [(0, 0)]
    assert unit.metrics.recorded("sales.dlq", "ignored") == 1


async def test_a_long_run_of_rejections_halts_before_anything_is_published(make: Make) -> None:
    """The run counts over batches; the batch that completes it is neither dead-lettered nor acknowledged."""
    scene = await make(run_max=10, share_max=0)
    await scene.handle([b"a", *[BAD] * 6])
    assert scene.gauge(HALTED) == 0
    with pytest.raises(HaltedError) as halted:
        await scene.handle([*[BAD] * 4, b"b"], offset=7)
    assert len(scene.dead) == 6
    assert scene.delivered() == ["a"]
    assert scene.member.acknowledged == [(0, 6)]
    assert scene.gauge(HALTED) == 1
    text = str(halted.value)
    for part in (scene.topic, "10 records in a row", "schema_unknown", "partition 0 offset 7", "REJECTED_RUN_MAX=0"):
        assert part in text
    assert "register the schema" in text


async def test_a_large_share_of_rejections_halts(make: Make) -> None:
    """More than the share of a whole window halts, also where good records are between."""
    scene = await make(share_max=0.5, window=20, run_max=0)
    await scene.handle([b"a", BAD] * 10)
    with pytest.raises(HaltedError, match=r"5\d% of the last 2\d records rejected"):
        await scene.handle([BAD, BAD], offset=20)
    assert len(scene.dead) == 10


async def test_a_few_bad_records_halt_nothing(make: Make) -> None:
    """Not even a start with nothing but bad records halts before the window is full or the run is long."""
    scene = await make()
    await scene.handle([BAD] * 9_999)
    await scene.handle([b"a"], offset=9_999)
    await scene.handle([BAD] * 9_000, offset=10_000)
    assert len(scene.dead) == 18_999


async def test_limits_that_are_off(make: Make) -> None:
    """With both limits 0 everything is dead-lettered."""
    scene = await make(share_max=0, run_max=0, window=1)
    await scene.handle([BAD] * 30_000)
    assert len(scene.dead) == 30_000


def test_a_share_counts_the_newest_records() -> None:
    """What lies before the window is forgotten."""
    guard = RejectionGuard("t", RejectionSettings(share_max=0.5, window=10, run_max=0))
    bad = [Rejected("field_missing", "x")]

    def check(results: Sequence[Any]) -> None:
        guard.check([message("t", b"", offset=number) for number in range(len(results))], results)

    for _ in range(5):
        check([*bad, Output(b"", {})])
    check([Output(b"", {})] * 10)
    check([*bad * 5, *[Output(b"", {})] * 5])
    with pytest.raises(HaltedError):
        check(bad * 2)
