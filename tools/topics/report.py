"""Topics and records as text for people, or as one JSON object per line."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from tools.records import position
from tools.table import Rows, console, print_json
from tools.topics.app import DecodedRecord, KnownTopic
from tools.topics.transform import kind


def _values(topic: KnownTopic) -> dict[str, Any]:
    contract, extent = topic.contract, topic.extent
    values: dict[str, Any] = {"topic": topic.name, "partitions": None, "offsets": None}
    if extent is not None:
        values |= {"partitions": len(extent.ends), "offsets": extent.offsets}
    if contract is None:
        return {**values, "kept": None, "key": None, "description": None}
    age = "for ever" if contract.retention_days is None else f"{contract.retention_days} days"
    kept = "newest of each key" if contract.cleanup == "compact" else age
    return {**values, "kept": kept, "key": contract.key, "description": contract.description}


def print_list(topics: Sequence[KnownTopic], *, as_json: bool) -> None:
    """Print a line for each topic."""
    rows = Rows("topic", "partitions", "offsets", "kept", "key", "description", as_json=as_json)
    for topic in topics:
        values = _values(topic)
        description = values["description"] or "not in contracts/topics"
        if topic.extent is None:
            description = "not on the broker: run `task contracts:publish`"
        rows.add(values, description=description)
    rows.print()


def print_one(topic: KnownTopic, versions: Sequence[tuple[int, int]], *, as_json: bool) -> None:
    """Print everything that is known of a topic."""
    contract, extent = topic.contract, topic.extent
    values = _values(topic)
    if contract is not None:
        values |= contract.model_dump(mode="json", include={"producers", "consumers", "owner", "compatibility"})
    partitions = [] if extent is None else [(p.partition, extent.first[p], end) for p, end in extent.ends.items()]
    fields = None if contract is None else contract.avro["fields"]
    if as_json:
        held = [{"partition": number, "first": first, "end": end} for number, first, end in partitions]
        subject = [{"version": version, "schema_id": schema_id} for version, schema_id in versions]
        print_json({**values, "held": held, "subject": subject, "fields": fields})
        return
    registered = ", ".join(f"version {version} is schema id {schema_id}" for version, schema_id in versions)
    lines = {
        **{name: ", ".join(value) if isinstance(value, list) else value for name, value in values.items()},
        **{f"partition {number}": f"{first} to {end}" for number, first, end in partitions},
        "subject": f"{topic.name}-value: {registered or 'not in the registry'}",
    }
    for name, line in lines.items():
        print(f"{name:<14} {'-' if line is None else line}")
    if fields is not None:
        rows = Rows("name", "type", "doc", as_json=False)
        for field in fields:
            rows.add(field, type=kind(field["type"]), doc=field.get("doc", ""))
        rows.print()


def print_record(record: DecodedRecord, *, as_json: bool) -> None:
    """Print one record."""
    if as_json:
        print_json(asdict(record))
        return
    key = record.key if isinstance(record.key, str) else "-" if record.key is None else json.dumps(record.key)
    schema = "" if record.schema_id is None else f"  schema {record.schema_id}"
    headers = "".join(f"  {name}={value}" for name, value in record.headers.items())
    title = escape(position(record.topic, record.partition, record.offset))
    out = console()
    out.print(f"[bold]{title}[/]  {escape(f'{record.time}  key {key}{schema}{headers}')}", soft_wrap=True)
    if record.unreadable is not None:
        line = f"  no Avro record ({record.unreadable}), {record.bytes} bytes: {record.value}"
        out.print(escape(line), style="yellow", soft_wrap=True)
    elif record.value is None:
        out.print("  a tombstone: the key is deleted", style="yellow")
    else:
        out.print_json(json.dumps(record.value), indent=2, ensure_ascii=False)
