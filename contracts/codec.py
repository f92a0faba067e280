"""Avro in the Confluent wire format: byte 0, a 4-byte big-endian schema id, then the Avro body."""

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from schema_registry.client import AsyncSchemaRegistryClient

from contracts.catalogue import Topic
from contracts.projection import Prune, projection
from contracts.text import shortened

MAGIC = 0
DETAIL_LIMIT = 160
_HEADER = struct.Struct(">bI")

Encoder = Callable[[Mapping[str, Any]], bytes]


class DecodeError(Exception):
    """The bytes are not a record of the contract: the record's fault, never the registry's.

    `reason` is a code of contracts/reasons.py.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class ContractError(Exception):
    """The registry does not hold the contract that this process was built for; the message names the remedy."""


def parse(schema: Mapping[str, Any]) -> Any:
    """Parse an Avro schema once for repeated use."""
    return fastavro.parse_schema(dict(schema))


def encode_body(schema_id: int, parsed_schema: Any, record: Mapping[str, Any]) -> bytes:
    """One record in the Confluent wire format.

    Raises:
        ValueError | TypeError: the record does not fit the schema.
    """
    buffer = io.BytesIO()
    buffer.write(_HEADER.pack(MAGIC, schema_id))
    fastavro.schemaless_writer(buffer, parsed_schema, record, strict_allow_default=True)
    return buffer.getvalue()


async def encoder(registry: AsyncSchemaRegistryClient, topic: Topic) -> Encoder:
    """An encoder of the topic's values, bound to the id that the registry gave to our schema.

    Raises:
        ContractError: the subject does not hold our schema (publish the contracts first).
        whatever the client raises when the registry does not answer.
    """
    registered = await registry.check_version(topic.subject, dict(topic.avro))
    if registered is None:
        raise ContractError(f"subject {topic.subject} does not hold this schema: run `task contracts:publish`")
    schema_id, parsed = registered.schema_id, parse(topic.avro)
    return lambda record: encode_body(schema_id, parsed, record)


def _why(schema_id: int, what: str, error: Exception) -> str:
    """A detail of bounded length: fastavro quotes whole schemas."""
    return f"schema id {schema_id}: {what}: {shortened(str(error), DETAIL_LIMIT)}"


def _split(payload: bytes) -> tuple[int, bytes]:
    """The schema id and the body.

    Raises:
        DecodeError: not in the Confluent wire format.
    """
    if len(payload) < _HEADER.size:
        raise DecodeError("wire_format", f"{len(payload)} bytes are too few for the Confluent wire format")
    magic, schema_id = _HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise DecodeError("wire_format", f"first byte is {magic}, not 0: not in the Confluent wire format")
    return schema_id, payload[_HEADER.size :]


async def _writer(registry: AsyncSchemaRegistryClient, schema_id: int) -> tuple[Any, Any]:
    """The schema of an id as it was registered, and parsed.

    Raises:
        DecodeError: there is none, or it is no Avro schema.
    """
    if schema_id == 0:  # the client would ask for no schema at all, and fail over the answer
        raise DecodeError("schema_unknown", "schema id 0 is never given")
    try:
        schema = await registry.get_by_id(schema_id)
    except (SchemaParseException, UnknownType) as error:
        raise DecodeError("schema_incompatible", _why(schema_id, "no Avro schema", error)) from error
    if schema is None:
        raise DecodeError("schema_unknown", f"schema id {schema_id} is not in the registry")
    try:
        return schema.raw_schema, fastavro.parse_schema(schema.raw_schema)
    except (SchemaParseException, UnknownType, TypeError, ValueError, KeyError) as error:
        raise DecodeError("schema_incompatible", _why(schema_id, "no Avro schema", error)) from error


def _record(schema_id: int, content: bytes, writer: Any, reader: Any) -> dict[str, Any]:
    """The record that a body is.

    Raises:
        DecodeError: it is none, or something follows it.
    """
    body = io.BytesIO(content)
    try:
        record = fastavro.schemaless_reader(body, writer, reader)
    except (SchemaParseException, fastavro.read.SchemaResolutionError) as error:
        raise DecodeError("schema_incompatible", _why(schema_id, "other fields", error)) from error
    except (
        EOFError,
        ValueError,
        IndexError,
        TypeError,
        OverflowError,
        KeyError,
        ArithmeticError,
        StopIteration,
    ) as error:
        raise DecodeError("avro_malformed", _why(schema_id, type(error).__name__, error)) from error
    if not isinstance(record, dict):
        raise DecodeError("schema_incompatible", f"schema id {schema_id}: a {type(record).__name__}, not a record")
    if body.read(1):
        raise DecodeError("avro_malformed", f"schema id {schema_id}: bytes follow the record")
    return record


@dataclass(frozen=True)
class Written:
    """A record as its producer wrote it: the schema with its id in the registry, and the values."""

    schema_id: int
    schema: Mapping[str, Any]
    record: dict[str, Any]


async def as_written(registry: AsyncSchemaRegistryClient, payload: bytes) -> Written:
    """The record with every field that its producer wrote, whatever topic it is of.

    Raises:
        DecodeError: the bytes are no record, or their schema is not in the registry.
        whatever the client raises when the registry does not answer.
    """
    schema_id, body = _split(payload)
    schema, parsed = await _writer(registry, schema_id)
    if not isinstance(schema, Mapping) or schema.get("type") != "record":
        raise DecodeError("schema_incompatible", f"schema id {schema_id} is not the schema of a record")
    return Written(schema_id, schema, _record(schema_id, body, parsed, None))


class Decoder:
    """Decodes values of one topic into its reader schema, whatever schema they were written with."""

    def __init__(self, registry: AsyncSchemaRegistryClient, topic: Topic) -> None:
        self._registry = registry
        self._reader = parse(topic.avro)
        self._schemas: dict[int, tuple[Any, Any, Prune | None]] = {}

    async def _known(self, schema_id: int) -> tuple[Any, Any, Prune | None]:
        """How records of this schema id are read: its schema, the reader's where the two must be resolved, the rest."""
        _, writer = await _writer(self._registry, schema_id)
        # fastavro would compare the two for every record
        known: tuple[Any, Any, Prune | None]
        if writer == self._reader:
            known = writer, None, None
        elif projected := projection(writer, self._reader):
            known = projected[0], None, projected[1]
        else:
            known = writer, self._reader, None
        self._schemas[schema_id] = known
        return known

    async def decode(self, payload: bytes) -> dict[str, Any]:
        """One record as a mapping; decimals are Decimal, timestamp-millis are aware UTC datetimes.

        Raises:
            DecodeError: the bytes are not a record of this contract.
            whatever the client raises when the registry does not answer; the record is not to blame.
        """
        schema_id, body = _split(payload)
        writer, reader, prune = self._schemas.get(schema_id) or await self._known(schema_id)
        record = _record(schema_id, body, writer, reader)
        if prune:
            prune(record)
        return record
