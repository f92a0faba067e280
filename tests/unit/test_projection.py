"""Reading with a rewritten writer's schema, beside Avro's own resolution."""

import io
from decimal import Decimal
from typing import Any

import fastavro
import orjson
import pytest

from contracts.catalogue import catalogue
from contracts.projection import projection
from tests.performance import streams_live

READER = dict(catalogue()["sales.postgres"].avro)
WRITER = orjson.loads(streams_live.SCHEMA.read_bytes())
CHANGES = [streams_live.change(number, 1_796_131_704_991) for number in range(20)]


def record(*fields: tuple[str, Any]) -> dict[str, Any]:
    """A record schema of these fields."""
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields]}


def written(schema: Any, value: Any) -> io.BytesIO:
    """The value in the schema's binary form."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
    body.seek(0)
    return body


def read(body: io.BytesIO, writer: Any, reader: Any) -> Any:
    """What the body holds, read by the projection of the writer's schema onto the reader's."""
    projected = projection(fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    assert projected is not None
    schema, prune = projected
    decoded: Any = fastavro.schemaless_reader(body, schema, None)
    if prune:
        prune(decoded)
    assert not body.read()
    return decoded


@pytest.mark.parametrize("change", CHANGES[-3:], ids=["insert", "update", "delete"])
def test_debeziums_envelope_is_read_as_avro_resolves_it(change: dict[str, Any]) -> None:
    """A change in Debezium's own schema gives exactly what Avro's resolution gives, without what the reader lacks."""
    body = written(WRITER, change)
    resolved: Any = fastavro.schemaless_reader(body, fastavro.parse_schema(WRITER), fastavro.parse_schema(READER))
    body.seek(0)
    assert read(body, WRITER, READER) == resolved
    assert set(resolved["source"]) == {"lsn", "ts_ms", "snapshot", "table"}


UNUSED_VALUES: list[tuple[Any, Any]] = [
    ("string", "x"),
    (["null", "string", "bytes"], b"\xff"),
    ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, Decimal("1.25")),
    ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, "b"),
    ({"type": "fixed", "name": "F", "size": 3}, b"abc"),
    ({"type": "array", "items": {**record(("inner", "string")), "name": "I"}}, [{"inner": "x"}, {"inner": "y"}]),
    ({"type": "map", "values": "double"}, {"x": 1.0}),
]


@pytest.mark.parametrize(("kind", "value"), UNUSED_VALUES)
def test_values_that_the_reader_lacks_are_dropped(kind: Any, value: Any) -> None:
    """A field of any type that only the writer has is passed over, wherever it stands."""
    writer = record(("before", kind), ("kept", "long"))
    body = written(writer, {"before": value, "kept": 7})
    assert read(body, writer, record(("kept", "long"))) == {"kept": 7}


def test_nothing_in_an_unused_value_can_be_wrong() -> None:
    """A text that is no UTF-8, or a time beyond all years, harms no record whose reader does not ask for it."""
    writer = record(("text", "string"), ("at", {"type": "long", "logicalType": "timestamp-millis"}), ("kept", "long"))
    raw = record(("text", "bytes"), ("at", "long"), ("kept", "long"))
    body = written(raw, {"text": b"\xff", "at": 2**62, "kept": 7})
    assert read(body, writer, record(("kept", "long"))) == {"kept": 7}


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (record(("a", "long")), record(("a", "long"), ("b", "long"))),
        (record(("a", "int")), record(("a", "double"))),
        (record(("a", "string")), record(("a", "bytes"))),
        (record(("a", ["null", "long"])), record(("a", "long"))),
        (record(("a", "bytes")), record(("a", {"type": "bytes", "logicalType": "decimal", "precision": 4}))),
        (record(("a", ["null", "R"])), record(("a", ["null", "R"]))),
        ("long", "string"),
    ],
    ids=["field missing", "promoted", "text and bytes", "null not read", "logical type", "recursive", "no records"],
)
def test_what_must_be_resolved_is_left_to_avro(writer: Any, reader: Any) -> None:
    """Where reading as written would not do, there is no projection, and each record is resolved."""
    assert projection(fastavro.parse_schema(writer), fastavro.parse_schema(reader)) is None
