"""Whether records written with one Avro schema can be read with another: schema resolution without any record.

Stricter than the Avro specification in one point: a logical type must stay what it is, because a timestamp that is read
as a plain long, or a decimal of another scale, resolves and means something else.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Rule = Literal["FULL_TRANSITIVE", "BACKWARD_TRANSITIVE"]

_PROMOTIONS: Mapping[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_LOGICAL = ("logicalType", "scale", "precision")


def _full_name(schema: Mapping[str, Any], namespace: str) -> str:
    name = str(schema["name"])
    return name if "." in name else f"{schema.get('namespace', namespace)}.{name}"


def _expanded(schema: Any, known: dict[str, Any], namespace: str = "") -> Any:
    """The schema with every primitive as a mapping and every reference replaced by what it names."""
    if isinstance(schema, list):
        return [_expanded(branch, known, namespace) for branch in schema]
    if isinstance(schema, str):
        qualified = schema if "." in schema else f"{namespace}.{schema}"
        return known.get(qualified, {"type": schema})
    if isinstance(schema["type"], (list, dict)):
        return _expanded(schema["type"], known, namespace)
    if schema["type"] == "array":
        return {**schema, "items": _expanded(schema["items"], known, namespace)}
    if schema["type"] != "record":
        return schema
    name = _full_name(schema, namespace)
    inner = name.rpartition(".")[0]
    expanded: dict[str, Any] = {**schema, "name": name}
    known[name] = expanded
    expanded["fields"] = [{**field, "type": _expanded(field["type"], known, inner)} for field in schema["fields"]]
    return expanded


def _shown(schema: Any) -> str:
    return " | ".join(map(_shown, schema)) if isinstance(schema, list) else str(schema.get("name", schema["type"]))


def _problems(reader: Any, writer: Any, at: str) -> Iterator[str]:
    if isinstance(writer, list):
        for branch in writer:
            yield from _problems(reader, branch, at)
    elif isinstance(reader, list):
        if all(any(_problems(branch, writer, at)) for branch in reader):
            yield f"{at}: {_shown(writer)} cannot be read as {_shown(reader)}"
    elif reader["type"] != writer["type"]:
        if reader["type"] not in _PROMOTIONS.get(writer["type"], frozenset()) or "logicalType" in (reader | writer):
            yield f"{at}: {_shown(writer)} cannot be read as {_shown(reader)}"
    elif reader["type"] == "array":
        yield from _problems(reader["items"], writer["items"], f"{at}[]")
    elif reader["type"] == "record":
        yield from _record_problems(reader, writer, at)
    else:
        for name in _LOGICAL:
            if reader.get(name) != writer.get(name):
                yield f"{at}: {name} {writer.get(name)} cannot be read as {reader.get(name)}"


def _record_problems(reader: Mapping[str, Any], writer: Mapping[str, Any], at: str) -> Iterator[str]:
    if reader["name"] != writer["name"]:
        yield f"{at}: record {writer['name']} is not record {reader['name']}"
    written = {field["name"]: field["type"] for field in writer["fields"]}
    for field in reader["fields"]:
        names = [name for name in (field["name"], *field.get("aliases", ())) if name in written]
        place = f"{at}.{field['name']}" if at else field["name"]
        if names:
            yield from _problems(field["type"], written[names[0]], place)
        elif "default" not in field:
            yield f"{place}: not in the other schema, and without a default"


def unreadable(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> list[str]:
    """Why records of schema `writer` cannot be read with schema `reader`, by field; empty where they can.

    Knows what the contracts use: records, arrays, unions, primitives, logical types; no enum, map or fixed, and no
    record that holds itself.
    """
    return list(_problems(_expanded(reader, {}), _expanded(writer, {}), ""))


def incompatible(rule: Rule, newer: Mapping[str, Any], older: Mapping[str, Any]) -> list[str]:
    """Why `newer` may not follow `older` under a topic's compatibility rule; empty where it may."""
    found = [f"a consumer with the newer schema: {why}" for why in unreadable(newer, older)]
    if rule == "FULL_TRANSITIVE":
        found += [f"a consumer with the older schema: {why}" for why in unreadable(older, newer)]
    return found
