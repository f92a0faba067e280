"""A JSON merge patch on the bytes of a record, which keep the schema that they were written with."""

from collections.abc import Mapping
from typing import Any

import fastavro
from schema_registry.client import AsyncSchemaRegistryClient

from contracts.catalogue import Topic
from contracts.codec import DecodeError, Decoder, as_written, encode_body
from contracts.json_avro import RejectedError, plain, typed


def merge_patch(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386) applied: null removes a field, an object goes into an object, the rest replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


async def patched(
    registry: AsyncSchemaRegistryClient, topic: Topic, content: bytes, patch: Mapping[str, Any]
) -> tuple[bytes, Mapping[str, Any]]:
    """The bytes of the record after a merge patch, in the schema that it was written with, and its values as JSON.

    Raises:
        RejectedError: the bytes cannot be read, or what the patch makes of them does not fit the contract.
        RegistryUnavailableError: the registry is unavailable.
    """
    try:
        written = await as_written(registry, content)
    except DecodeError as error:
        raise RejectedError(f"the bytes cannot be read, so there is nothing to patch: {error.detail}") from error
    before = plain(written.record)
    values = merge_patch(before, patch)
    try:
        record = typed(written.schema, values)
    except RejectedError as error:
        raise RejectedError(f"the patched record does not fit schema id {written.schema_id}: {error}") from error
    made = encode_body(written.schema_id, fastavro.parse_schema(dict(written.schema)), record)
    try:
        await Decoder(registry, topic).decode(made)
    except DecodeError as error:
        raise RejectedError(f"the patched record does not fit the contract of {topic.name}: {error.detail}") from error
    if "version" in before and values != before and values["version"] <= before["version"]:
        raise RejectedError(
            f"version stays {before['version']}: raise it too, because of equal versions the first counts"
        )
    return made, values
