"""Records as JSON that people write and read, and as the Python values that the codec takes and gives.

In JSON a decimal is text, a timestamp is text in ISO 8601 with milliseconds and Z, and bytes are text of code points 0
to 255 (as in Avro's own JSON encoding).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any


def logical(schema: Mapping[str, Any], value: Any) -> Any:
    """The Python value of a JSON value that holds no others.

    Raises:
        ValueError | TypeError | AttributeError | ArithmeticError: it does not fit the schema's logical type.
    """
    match schema.get("logicalType"), schema["type"]:
        case "decimal", _:
            return Decimal(value)
        case "timestamp-millis", _:
            return datetime.fromisoformat(value)
        case _, "bytes":
            return value.encode("latin-1")
        case _:
            return value


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


def _typed(schema: Any, value: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):  # a union of null and one other type
        return None if value is None else _typed(next(b for b in schema if b != "null"), value, named)
    if isinstance(schema, str):
        schema = named.get(schema, {"type": schema})
    if schema["type"] == "array":
        return [_typed(schema["items"], item, named) for item in value]
    if schema["type"] == "record":
        kinds = {field["name"]: field["type"] for field in schema["fields"]}
        return {name: _typed(kinds[name], item, named) for name, item in value.items()}
    return logical(schema, value)


def typed(schema: Any, value: Any) -> Any:
    """The value of an example with the types of its schema.

    Raises:
        KeyError: the example has a field that the schema does not have.
    """
    return _typed(schema, value, dict(records(schema)))


def plain(value: Any) -> Any:
    """The JSON of a value; `typed` makes it the value again."""
    match value:
        case Decimal():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case bytes():
            return value.decode("latin-1")
        case Mapping():
            return {name: plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value
