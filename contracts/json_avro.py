"""Records as JSON that people write and read, and as the Python values that the codec takes and gives.

In JSON a decimal is text, a timestamp is text in ISO 8601 with Z and milliseconds, or microseconds where it has any,
and bytes are text of code points 0 to 255 (as in Avro's own JSON encoding).
"""

import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro

from contracts.text import quoted


class RejectedError(Exception):
    """A value does not fit its schema; the message names the field, the value and what it must be."""


def records(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every record type of a schema by name."""
    if isinstance(schema, list):
        for branch in schema:
            yield from records(branch)
    elif isinstance(schema, Mapping) and schema["type"] == "array":
        yield from records(schema["items"])
    elif isinstance(schema, Mapping) and schema["type"] == "record":
        yield schema["name"], schema
        yield f"{schema.get('namespace', '')}.{schema['name']}", schema
        for field in schema["fields"]:
            yield from records(field["type"])


def _expected(schema: Mapping[str, Any]) -> str:
    match schema.get("logicalType"), schema["type"]:
        case "decimal", _:
            digits = f"at most {schema['precision']} digits, {schema.get('scale', 0)} of them after the point"
            return f'a decimal as text, such as "12.50", of {digits}'
        case "timestamp-millis" | "timestamp-micros", _:
            return 'an instant with a time zone, such as "2026-02-19T10:00:00Z"'
        case _, "bytes":
            return "text of code points 0 to 255, one for each byte"
        case _, "enum":
            return f"one of {', '.join(schema['symbols'])}"
        case _, kind:
            return f"of type {kind}"


def _converted(schema: Mapping[str, Any], value: Any) -> Any:
    match schema.get("logicalType"), schema["type"]:
        case "decimal", _:
            return Decimal(value)
        case "timestamp-millis" | "timestamp-micros", _:
            return datetime.fromisoformat(value)
        case _, "bytes":
            return value.encode("latin-1")
        case _:
            return value


def _value(schema: Mapping[str, Any], value: Any, path: str) -> Any:
    """A value that holds no others: it can be written, or it does not fit."""
    try:
        converted = _converted(schema, value)
        parsed = fastavro.parse_schema(dict(schema))
        fits = fastavro.validate(converted, parsed, strict=True, raise_errors=False)
        if fits and not (isinstance(converted, datetime) and converted.tzinfo is None):
            fastavro.schemaless_writer(io.BytesIO(), parsed, converted)  # only a writer counts a decimal's digits
            return converted
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise RejectedError(f"field {path} is {quoted(value)}, not {_expected(schema)}") from error
    raise RejectedError(f"field {path} is {quoted(value)}, not {_expected(schema)}")


def _record(schema: Mapping[str, Any], value: Any, named: Mapping[str, Any], path: str) -> dict[str, Any]:
    where = f"field {path}" if path else "the record"
    if not isinstance(value, Mapping):
        raise RejectedError(f"{where} is {quoted(value)}, not a JSON object")
    fields = {field["name"]: field for field in schema["fields"]}
    within = f"{path}." if path else ""
    for name in value:
        if name not in fields:
            raise RejectedError(f"field {within}{name} is not in the schema; there are {', '.join(fields)}")
    for name, field in fields.items():
        if name not in value and "default" not in field:
            raise RejectedError(f"field {within}{name} is missing")
    return {name: _typed(fields[name]["type"], item, named, f"{within}{name}") for name, item in value.items()}


def _typed(schema: Any, value: Any, named: Mapping[str, Any], path: str) -> Any:
    if isinstance(schema, list):  # a union of null and one other type
        if value is None and "null" in schema:
            return None
        return _typed(next(branch for branch in schema if branch != "null"), value, named, path)
    if isinstance(schema, str):
        schema = named.get(schema, {"type": schema})
    if schema["type"] == "record":
        return _record(schema, value, named, path)
    if schema["type"] == "array":
        if not isinstance(value, list):
            raise RejectedError(f"field {path} is {quoted(value)}, not a JSON array")
        return [_typed(schema["items"], item, named, f"{path}[{number}]") for number, item in enumerate(value)]
    return _value(schema, value, path)


def typed(schema: Any, value: Any) -> Any:
    """The record (or what else the schema describes) that the JSON `value` is, in the types that an encoder takes.

    Raises:
        RejectedError: a field is missing, unknown, or does not fit.
    """
    return _typed(schema, value, dict(records(schema)), "")


def plain(value: Any) -> Any:
    """The JSON of a value; of a record, `typed` makes it the record again."""
    match value:
        case Decimal():
            return str(value)
        case datetime():
            finest = "microseconds" if value.microsecond % 1000 else "milliseconds"
            return value.astimezone(UTC).isoformat(timespec=finest).replace("+00:00", "Z")
        case bytes():
            return value.decode("latin-1")
        case Mapping():
            return {name: plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value
