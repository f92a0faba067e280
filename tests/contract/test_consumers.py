"""Every example of every topic through every consumer that the catalogue names for it."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from chassis import progress
from contracts.catalogue import Topic, catalogue
from contracts.codec import DecodeError, Decoder, encode_body, parse
from contracts.json_avro import plain, typed
from contracts.rankings import BY_NAME, ranking_windows
from contracts.windows import window_length
from flink.ranking import sql
from flink.ranking.configuration import read
from services.api.live_rankings import live_set
from services.clickhouse_sink.mapping import check, load_mappings
from services.clickhouse_sink.settings import MAPPINGS_FILE
from services.clickhouse_sink.transform import RejectedError, rows
from services.file_poller.transform import reading
from services.legacy_poller.transform import Cursor, cursor
from tests import invalid
from tests.contract.registry import MemoryRegistry
from tests.contract.test_streams import AGENTS, EXPECTED
from tests.unit.test_clickhouse_sink_mapping import TABLES
from tools.dead_letters.transform import DeadLetter, Position, Query, position, unreplayable

MAPPINGS = load_mappings(MAPPINGS_FILE, [window_length("1h")])
Record = dict[str, Any]


def sink(topic: Topic, record: Record) -> None:
    """clickhouse_sink: as many rows as its mapping says, each with a value for every column."""
    mapping = MAPPINGS[topic.name]
    plan = check(topic, mapping, *TABLES[mapping.table])
    made = rows(plan, {**record, "$partition": 0, "$offset": 7})
    assert len(made) == (mapping.each.rows if mapping.each else 1)
    assert {len(row) for row in made} == {len(plan.columns)}


# what the ranking job's SQL types hold, as Flink's avro-confluent format gives it: times as epoch ms
FLINK: Mapping[str, Callable[[Any], bool]] = {
    "STRING": lambda value: isinstance(value, str),
    "BIGINT": lambda value: isinstance(value, datetime) or (isinstance(value, int) and -(2**63) <= value < 2**63),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "DECIMAL(18, 2)": lambda value: (
        isinstance(value, Decimal) and abs(value) < Decimal(10) ** 16 and value == value.quantize(Decimal("0.01"))
    ),
}


def ranking(_: Topic, record: Record) -> None:
    """The ranking job: each column of its source table is a value of the column's type."""
    statement = sql.sales_table(read({}), ranking_windows([window_length("1h")]))
    columns = re.findall(r"(\w+) (STRING|BIGINT|BOOLEAN|DECIMAL\(18, 2\))", statement)
    assert {"sale_id", "source", "country", "amount", "event_time", "version", "deleted"} <= dict(columns).keys()
    for name, kind in columns:
        assert FLINK[kind](record[name]), (name, kind, record[name])


def file_poller(_: Topic, record: Record) -> None:
    """The file poller: its own position is read back as it was written."""
    read_back = progress.newest(record["position"])
    assert read_back is not None
    if record["unit"] == "file_poller":
        before = reading(read_back)
        assert before is not None
        assert before.position() == read_back


def legacy_poller(_: Topic, record: Record) -> None:
    """The legacy poller: its own position is read back as it was written."""
    read_back = progress.newest(record["position"])
    assert read_back is not None
    if record["unit"] == "legacy_poller":
        assert cursor(read_back) != Cursor()
        assert cursor(read_back).position() == read_back


def streams(topic: Topic, _: Record) -> None:
    """A streams service: tests/contract/test_streams.py has an expectation for each example."""
    assert set(EXPECTED[topic.name]) == set(topic.examples())


def dead_letters(topic: Topic, record: Record) -> None:
    """The dead letters' command: lists a dead letter of its topic, and reads its own positions back."""
    if topic.name == "sales.dlq":
        one = DeadLetter(Position(0, 7), **record)
        assert Query(reason=one.reason, topic=one.topic, unit=one.unit, since=one.time).matches(one)
        assert (unreplayable(one, catalogue()[one.topic]) is None) == (one.partition >= 0)
    elif record["unit"] == "dead_letters":
        assert position(record["cursor"]) == (2, 17)
        assert (progress.newest(record["position"]) or {}).keys() == {"attempt", "replayed_at"}


def api(topic: Topic, record: Record) -> None:
    """api: the live stream's set has every entry, total for total."""
    made = live_set(BY_NAME[record["ranking"]], "1h", record, 0, 7)
    assert (made.group.country, made.revision) == (record["country"], record["revision"])
    totals = [entry["totalSales"] for entry in json.loads(made.body, parse_float=Decimal)["rankings"]]
    assert totals == [entry["total_sales"] for entry in record["entries"]]


def topics(topic: Topic, record: Record) -> None:
    """The topics' command: prints a record as JSON that can be produced again."""
    assert typed(topic.avro, plain(record)) == record


CONSUMERS: Mapping[str, Callable[[Topic, Record], None]] = {
    **{consumer: streams for agent in AGENTS for consumer in catalogue()[agent.consumes].consumers},
    "api": api,
    "clickhouse_sink": sink,
    "ranking": ranking,
    "file_poller": file_poller,
    "legacy_poller": legacy_poller,
    "dead_letters": dead_letters,
    "topics": topics,
}
PAIRS = [(topic, consumer) for topic in catalogue().values() for consumer in topic.consumers]


@pytest.mark.parametrize(("topic", "consumer"), PAIRS, ids=[f"{topic.name}-{consumer}" for topic, consumer in PAIRS])
async def test_every_example_through_every_consumer(topic: Topic, consumer: str) -> None:
    """A consumer that the catalogue names takes every example of the topic, off the wire."""
    assert consumer in CONSUMERS, f"{consumer} reads {topic.name}: add it to AGENTS of test_streams.py, or to CONSUMERS"
    decoder = Decoder(MemoryRegistry(topic).client, topic)
    for example in topic.examples().values():
        payload = encode_body(1, parse(topic.avro), typed(topic.avro, example))
        CONSUMERS[consumer](topic, await decoder.decode(payload))


SUNK = [(name, case_name) for name in MAPPINGS for case_name in catalogue()[name].examples("invalid")]


@pytest.mark.parametrize(("name", "case_name"), SUNK, ids=[f"{name}-{case}" for name, case in SUNK])
async def test_the_sink_rejects_invalid_examples(name: str, case_name: str) -> None:
    """Each invalid example of a topic that is stored is rejected for its reason, read or when fitted; also live."""
    topic = catalogue()[name]
    case = topic.examples("invalid")[case_name]
    registry = MemoryRegistry(topic)
    payload = await invalid.payload(case, topic, registry.schema_id)
    try:
        record = await Decoder(registry.client, topic).decode(payload)
    except DecodeError as error:
        reason = error.reason
    else:
        with pytest.raises(RejectedError):
            sink(topic, record)
        if "api" in topic.consumers:  # what the store does not keep is not served live either
            with pytest.raises(ValueError, match=r"rank|window|validation error"):
                api(topic, record)
        reason = "store_rejected"
    assert reason == case["reason"]
