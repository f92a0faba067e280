"""Avro in the Confluent wire format: byte 0, a 4-byte big-endian schema id, then the Avro body."""

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from schema_registry.client import AsyncSchemaRegistryClient

from contracts.catalogue import Topic

MAGIC = 0
SAID = 160
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
        httpx.HTTPError: the registry is unreachable.
    """
    registered = await registry.check_version(topic.subject, dict(topic.avro))
    if registered is None:
        raise ContractError(f"subject {topic.subject} does not hold this schema: run `task contracts:publish`")
    schema_id, parsed = registered.schema_id, parse(topic.avro)
    return lambda record: encode_body(schema_id, parsed, record)


def _why(schema_id: int, what: str, error: Exception) -> str:
    """A detail of bounded length: fastavro quotes whole schemas."""
    said = str(error)
    return f"schema id {schema_id}: {what}: {said if len(said) <= SAID else said[:SAID] + '...'}"


class Decoder:
    """Decodes values of one topic into its reader schema, whatever schema they were written with."""

    def __init__(self, registry: AsyncSchemaRegistryClient, topic: Topic) -> None:
        self._registry = registry
        self._reader = parse(topic.avro)
        self._writers: dict[int, Any] = {}

    async def _writer(self, schema_id: int) -> Any:
        if schema_id == 0:  # the client would ask for no schema at all, and fail over the answer
            raise DecodeError("schema_unknown", "schema id 0 is never given")
        if schema_id not in self._writers:
            try:
                found = await self._registry.get_by_id(schema_id)
            except (SchemaParseException, UnknownType) as error:
                raise DecodeError("schema_incompatible", _why(schema_id, "no Avro schema", error)) from error
            if found is None:
                raise DecodeError("schema_unknown", f"schema id {schema_id} is not in the registry")
            try:
                self._writers[schema_id] = fastavro.parse_schema(found.raw_schema)
            except (SchemaParseException, UnknownType, TypeError, ValueError, KeyError) as error:
                raise DecodeError("schema_incompatible", _why(schema_id, "no Avro schema", error)) from error
        return self._writers[schema_id]

    async def decode(self, payload: bytes) -> dict[str, Any]:
        """One record as a mapping; decimals are Decimal, timestamp-millis are aware UTC datetimes.

        Raises:
            DecodeError: the bytes are not a record of this contract.
            httpx.HTTPError | schema_registry ClientError: the registry is away; the record is not to blame.
        """
        if len(payload) < _HEADER.size:
            raise DecodeError("wire_format", f"{len(payload)} bytes are too few for the Confluent wire format")
        magic, schema_id = _HEADER.unpack_from(payload)
        if magic != MAGIC:
            raise DecodeError("wire_format", f"first byte is {magic}, not 0: not in the Confluent wire format")
        writer = await self._writer(schema_id)
        body = io.BytesIO(payload[_HEADER.size :])
        try:
            record = fastavro.schemaless_reader(body, writer, self._reader)
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
