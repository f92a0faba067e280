"""What a reader needs of a writer's records, compiled once for each pair of schemas.

fastavro compares the two schemas again for every record. Here the writer's schema is rewritten once so that reading
with it alone gives the same: values that the reader has are read as they are, all others raw (no text, no logical
type: nothing in them can be wrong) and dropped.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import fastavro
from fastavro.schema import expand_schema

UNUSED = "_"
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
CONTENT = {"array": "items", "map": "values"}
RAW = {"string": "bytes", "enum": "int"}

Prune = Callable[[dict[str, Any]], object]


class UnlikeError(Exception):
    """Reading with the writer's schema alone would not give what Avro's resolution gives."""


def _kind(schema: Any) -> str:
    kind = schema["type"] if isinstance(schema, Mapping) else schema
    if kind not in PRIMITIVES and kind not in ("record", "array", "map", "enum", "fixed"):
        raise UnlikeError(f"{kind} is recursive")
    return str(kind)


def _logical(schema: Any) -> Any:
    return schema.get("logicalType") if isinstance(schema, Mapping) else None


class _Projection:
    """Rewrites one pair of schemas; records get new names, because expanded ones come twice."""

    def __init__(self) -> None:
        self._number = count()

    def _record(self, fields: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "record", "name": f"r{next(self._number)}", "fields": fields}

    def used(self, writer: Any, reader: Any) -> Any:
        """The writer's schema of a value that the reader has."""
        if isinstance(writer, list):
            return [self.used(branch, reader) for branch in writer]
        if isinstance(reader, list):
            reader = next((b for b in reader if _kind(b) == _kind(writer) and _logical(b) == _logical(writer)), None)
        if reader is None or _kind(writer) != _kind(reader) or _logical(writer) != _logical(reader):
            raise UnlikeError(f"{writer} is not {reader}")
        if _kind(writer) in PRIMITIVES:
            return writer
        if _kind(writer) != "record" or writer["name"].rpartition(".")[2] != reader["name"].rpartition(".")[2]:
            raise UnlikeError(f"{writer} is not {reader}")
        wanted = {field["name"]: field["type"] for field in reader["fields"]}
        if UNUSED in wanted or not wanted.keys() <= {field["name"] for field in writer["fields"]}:
            raise UnlikeError(f"{reader['name']} has more fields")
        return self._record(
            [
                {"name": field["name"], "type": self.used(field["type"], wanted[field["name"]])}
                if field["name"] in wanted
                else {"name": UNUSED, "type": self.unused(field["type"])}
                for field in writer["fields"]
            ]
        )

    def unused(self, writer: Any) -> Any:
        """The writer's schema of a value that the reader does not have, of the same length in bytes."""
        if isinstance(writer, list):
            return [self.unused(branch) for branch in writer]
        kind = _kind(writer)
        if kind == "record":
            return self._record([{"name": UNUSED, "type": self.unused(field["type"])} for field in writer["fields"]])
        if kind == "fixed":
            return {"type": "fixed", "name": f"f{next(self._number)}", "size": writer["size"]}
        if content := CONTENT.get(kind):
            return {"type": kind, content: self.unused(writer[content])}
        return RAW.get(kind, kind)


def _pruner(schema: Any) -> Prune | None:
    """What drops the unused values of a record that was read with a rewritten schema; None where there are none."""
    if isinstance(schema, list):
        prunes = [prune for prune in map(_pruner, schema) if prune]
        if not prunes:
            return None
        if len(schema) - ("null" in schema) > 1:
            raise UnlikeError("a union of several")
        branch = prunes[0]
        return lambda value: value is None or branch(value)
    if _kind(schema) != "record":
        return None
    inner = [(f["name"], prune) for f in schema["fields"] if f["name"] != UNUSED and (prune := _pruner(f["type"]))]
    unused = any(field["name"] == UNUSED for field in schema["fields"])
    if not inner:
        return (lambda record: record.pop(UNUSED)) if unused else None

    def pruned(record: dict[str, Any]) -> None:
        if unused:
            del record[UNUSED]
        for name, prune in inner:
            prune(record[name])

    return pruned


def projection(writer: Any, reader: Any) -> tuple[Any, Prune | None] | None:
    """The parsed schema to read the writer's records with, and what to do with each record then.

    None where only Avro's resolution does: a field that the writer lacks, a type that is promoted, a recursive type.
    """
    try:
        schema = _Projection().used(expand_schema(writer), expand_schema(reader))
        return fastavro.parse_schema(schema), _pruner(schema)
    except UnlikeError:
        return None
