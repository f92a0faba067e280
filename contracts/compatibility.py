"""Whether records written with one Avro schema can be read with another: schema resolution without any record.

Avro's own checker, stricter in one point: a logical type must stay what it is, because a timestamp that is read as a
plain long, or a decimal of another scale, resolves and means something else.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityResult,
    SchemaCompatibilityType,
    SchemaIncompatibilityType,
    lookup_writer_field,
    merge,
)
from avro.compatibility import (
    incompatible as mismatch,
)
from avro.schema import RecordSchema, Schema, parse

Rule = Literal["FULL_TRANSITIVE", "BACKWARD_TRANSITIVE"]

_LOGICAL = ("logicalType", "scale", "precision")
_OK = SchemaCompatibilityType.compatible


class _Checker(ReaderWriterCompatibilityChecker):
    """Avro's checker with logical types."""

    def calculate_compatibility(self, reader: Schema, writer: Schema, location: list[str]) -> SchemaCompatibilityResult:
        result = super().calculate_compatibility(reader, writer, location)
        if result.compatibility is not _OK or "union" in (reader.type, writer.type):
            return result  # of a union each branch is checked
        for name in _LOGICAL:
            written, read = writer.props.get(name), reader.props.get(name)
            if written != read:
                why = f"{name} {written} cannot be read as {read}"
                result = merge(result, mismatch(SchemaIncompatibilityType.type_mismatch, why, location))
        return result


def _parsed(schema: Mapping[str, Any]) -> RecordSchema:
    parsed = parse(json.dumps(schema))
    if not isinstance(parsed, RecordSchema):
        raise TypeError(f"a schema of type {parsed.type}, not of a record")
    return parsed


def unreadable(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> list[str]:
    """Why records of schema `writer` cannot be read with schema `reader`, by field; empty where they can."""
    read, written = _parsed(reader), _parsed(writer)
    checker = _Checker()  # type: ignore[no-untyped-call]
    whole = checker.get_compatibility(read, written)
    if whole.compatibility is _OK:
        return []
    problems = []
    for field in read.fields:
        other = lookup_writer_field(written, field)
        if other is not None:
            result = checker.get_compatibility(field.type, other.type)
            if result.compatibility is not _OK:
                problems.append(f"{field.name}: {'; '.join(sorted(result.messages))}")
        elif not field.has_default:
            problems.append(f"{field.name}: not in the other schema, and without a default")
    return problems or sorted(whole.messages)


def incompatible(rule: Rule, newer: Mapping[str, Any], older: Mapping[str, Any]) -> list[str]:
    """Why `newer` may not follow `older` under a topic's compatibility rule; empty where it may."""
    problems = [f"a consumer with the newer schema: {why}" for why in unreadable(newer, older)]
    if rule == "FULL_TRANSITIVE":
        problems += [f"a consumer with the older schema: {why}" for why in unreadable(older, newer)]
    return problems
