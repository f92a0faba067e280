"""The bytes of a letter as a record: read with the schema that they were written with, patched, and written again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from fastavro.validation import ValidationError
from schema_registry.client import AsyncSchemaRegistryClient

from contracts.catalogue import Topic
from contracts.codec import MAGIC, DecodeError, Decoder, encode_body
from contracts.examples import plain, typed
from services.dead_letters.transform import merge_patch


class UnfitError(Exception):
    """A patched record is not one of its schema or of its topic's contract; the message says where."""


@dataclass(frozen=True)
class Written:
    """A record as its producer wrote it: the schema with its id in the registry, and the values as JSON."""

    schema_id: int
    schema: Mapping[str, Any]
    values: Mapping[str, Any]


async def as_written(registry: AsyncSchemaRegistryClient, topic: Topic, content: bytes) -> Written:
    """The record in `content` with every field that its producer wrote.

    Raises:
        DecodeError: no record, or its schema cannot be had.
        httpx.HTTPError | ClientError: the registry is away.
    """
    if len(content) < 5 or content[0] != MAGIC:
        raise DecodeError("wire_format", "not in the Confluent wire format")
    schema_id = int.from_bytes(content[1:5])
    try:
        found = await registry.get_by_id(schema_id) if schema_id else None  # the client cannot ask for 0
    except (SchemaParseException, UnknownType) as error:
        raise DecodeError("schema_incompatible", f"schema id {schema_id} is no Avro schema") from error
    if found is None:
        raise DecodeError("schema_unknown", f"schema id {schema_id} is not in the registry")
    schema = found.raw_schema
    if not isinstance(schema, Mapping) or schema.get("type") != "record":
        raise DecodeError("schema_incompatible", f"schema id {schema_id} is not the schema of a record")
    decoder = Decoder(registry, topic.model_copy(update={"avro": schema}))
    return Written(schema_id, schema, plain(await decoder.decode(content)))


async def patched(
    registry: AsyncSchemaRegistryClient, topic: Topic, content: bytes, patch: Mapping[str, Any]
) -> tuple[bytes, Mapping[str, Any]]:
    """The bytes of the record after a merge patch, in the schema that it was written with, and its values as JSON.

    Raises:
        UnfitError: the bytes cannot be read, or what the patch makes of them fits the schema or the contract no more.
        httpx.HTTPError | ClientError: the registry is away.
    """
    try:
        written = await as_written(registry, topic, content)
    except DecodeError as error:
        raise UnfitError(f"the bytes cannot be read, so there is nothing to patch: {error.detail}") from error
    values = merge_patch(written.values, patch)
    schema = fastavro.parse_schema(dict(written.schema))
    try:
        record = typed(written.schema, values)
        fastavro.validate(record, schema, strict=True, raise_errors=True)
        made = encode_body(written.schema_id, schema, record)
    except KeyError as error:
        raise UnfitError(f"the patched record has a field that schema id {written.schema_id} lacks: {error}") from error
    except ValidationError as error:
        raise UnfitError(f"the patched record does not fit schema id {written.schema_id}: {_first(error)}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise UnfitError(
            f"the patched record does not fit schema id {written.schema_id}: {type(error).__name__}: {error}"
        ) from error
    try:
        await Decoder(registry, topic).decode(made)
    except DecodeError as error:
        raise UnfitError(f"the patched record does not fit the contract of {topic.name}: {error.detail}") from error
    before = written.values
    if "version" in before and values != before and values["version"] <= before["version"]:
        raise UnfitError(f"version stays {before['version']}: raise it too, because of equal versions the first counts")
    return made, values


def _first(error: ValidationError) -> str:
    return "; ".join(str(one) for one in error.errors[:3])
