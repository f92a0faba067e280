"""JSON that somebody wrote as a record of a schema, or which field does not fit and what it must be."""

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import fastavro

from contracts.examples import logical, records
from contracts.text import quoted


class RejectedError(Exception):
    """A value does not fit its schema; the message names the field, the value and what it must be."""


def _expected(schema: Mapping[str, Any]) -> str:
    match schema.get("logicalType"), schema["type"]:
        case "decimal", _:
            digits = f"at most {schema['precision']} digits, {schema.get('scale', 0)} of them after the point"
            return f'a decimal as text, such as "12.50", of {digits}'
        case "timestamp-millis", _:
            return 'an instant with a time zone, such as "2026-02-19T10:00:00Z"'
        case _, "bytes":
            return "text of code points 0 to 255, one for each byte"
        case _, "enum":
            return f"one of {', '.join(schema['symbols'])}"
        case _, kind:
            return f"of type {kind}"


def _value(schema: Mapping[str, Any], value: Any, path: str) -> Any:
    """A value that holds no others: it can be written, or it does not fit."""
    try:
        converted = logical(schema, value)
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
    return {name: _fitted(fields[name]["type"], item, named, f"{within}{name}") for name, item in value.items()}


def _fitted(schema: Any, value: Any, named: Mapping[str, Any], path: str) -> Any:
    if isinstance(schema, list):  # a union of null and one other type
        if value is None and "null" in schema:
            return None
        return _fitted(next(branch for branch in schema if branch != "null"), value, named, path)
    if isinstance(schema, str):
        schema = named.get(schema, {"type": schema})
    if schema["type"] == "record":
        return _record(schema, value, named, path)
    if schema["type"] == "array":
        if not isinstance(value, list):
            raise RejectedError(f"field {path} is {quoted(value)}, not a JSON array")
        return [_fitted(schema["items"], item, named, f"{path}[{number}]") for number, item in enumerate(value)]
    return _value(schema, value, path)


def fitted(schema: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """The record that the JSON `value` is, in the types that an encoder of the schema takes.

    Raises:
        RejectedError: a field is missing, unknown, or does not fit.
    """
    return _record(schema, value, dict(records(schema)), "")
