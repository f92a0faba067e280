"""The codec on hostile bytes."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema_registry.client import AsyncSchemaRegistryClient

from chassis.results import Context, Output, Rejected
from contracts.catalogue import Topic, catalogue
from contracts.codec import DecodeError, Decoder, encode_body, parse
from contracts.json_avro import typed
from contracts.reasons import REASONS
from streams.cdc.transform import transform

TOPIC = catalogue()["sales.legacy"]


def decoder(schemas: dict[int, Any], topic: Topic = TOPIC) -> Decoder:
    """A decoder of the topic whose registry has these schemas."""

    async def get_by_id(schema_id: int) -> SimpleNamespace | None:
        return SimpleNamespace(raw_schema=schemas[schema_id]) if schema_id in schemas else None

    return Decoder(cast(AsyncSchemaRegistryClient, SimpleNamespace(get_by_id=get_by_id)), topic)


@given(st.binary(max_size=200))
async def test_any_body_is_read_or_rejected(body: bytes) -> None:
    """Whatever follows a known schema id is a record or a rejection with a known reason; nothing else is raised."""
    try:
        record = await decoder({1: TOPIC.avro}).decode(b"\x00\x00\x00\x00\x01" + body)
    except DecodeError as error:
        reason = error.reason
    else:
        reason = "avro_malformed"
        assert set(record) == {field["name"] for field in TOPIC.avro["fields"]}
    assert reason in REASONS


async def test_bytes_after_the_record_are_rejected() -> None:
    """Bytes that follow the record are not silently dropped."""
    whole = encode_body(1, parse(TOPIC.avro), {"fetched_at": 1771496160000})
    assert (await decoder({1: TOPIC.avro}).decode(whole))["sale_id"] is None
    with pytest.raises(DecodeError) as rejected:
        await decoder({1: TOPIC.avro}).decode(whole + b"\x00")
    assert rejected.value.reason == "avro_malformed"


async def test_removed_column_is_named() -> None:
    """A writer schema without a column of the contract is rejected with the column's name."""
    topic = catalogue()["sales.files"]
    fields = [field for field in topic.avro["fields"] if field["name"] != "amount"]
    schema = {**topic.avro, "fields": fields}
    values = {field["name"]: 1 if field["type"] != "string" else "x" for field in fields}
    with pytest.raises(DecodeError) as rejected:
        await decoder({1: schema}, topic).decode(encode_body(1, parse(schema), values))
    assert rejected.value.reason == "schema_incompatible"
    assert "amount" in rejected.value.detail


@pytest.mark.parametrize(("amount", "reason"), [("100.0000", None), ("100.0050", "amount_scale")])
async def test_amount_of_a_widened_column(amount: str, reason: str | None) -> None:
    """After ALTER COLUMN amount TYPE numeric(14,4) a change keeps its exact amount, and cents of cents are rejected."""
    topic = catalogue()["sales.postgres"]
    widened = json.loads(json.dumps(topic.avro).replace('"precision": 12, "scale": 2', '"precision": 14, "scale": 4'))
    assert widened != topic.avro
    example = topic.examples()["insert"]
    change = typed(widened, {**example, "after": {**example["after"], "amount": amount}})
    record = await decoder({1: widened}, topic).decode(encode_body(1, parse(widened), change))
    result = transform(record, Context(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)), epoch=1)
    if reason is None:
        assert isinstance(result, Output)
        assert result.value["amount"] == Decimal("100.00")
    else:
        assert isinstance(result, Rejected)
        assert result.reason == reason


@pytest.mark.parametrize("schema", [{"type": "no such type"}, "not a schema", {"type": "record", "name": "X"}])
async def test_unreadable_writer_schema_is_rejected(schema: Any) -> None:
    """A schema id that stands for something that is no Avro schema makes a rejection, not a crash."""
    with pytest.raises(DecodeError) as rejected:
        await decoder({1: schema}).decode(b"\x00\x00\x00\x00\x01\x00")
    assert rejected.value.reason == "schema_incompatible"


async def test_unavailable_registry_is_not_the_records_fault() -> None:
    """When the registry cannot be asked, its error is raised; the record is not rejected."""

    async def get_by_id(_: int) -> SimpleNamespace:
        raise httpx.ConnectError("no answer")

    reading = Decoder(cast(AsyncSchemaRegistryClient, SimpleNamespace(get_by_id=get_by_id)), TOPIC)
    with pytest.raises(httpx.ConnectError):
        await reading.decode(b"\x00\x00\x00\x00\x01\x00")
