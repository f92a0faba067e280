"""How it is shown: for people, or one JSON object per line."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tools.topics.app import Known
from tools.topics.transform import Seen

PLAIN_WIDTH = 160


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def _line(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
    sys.stdout.flush()  # what follows may take long


def _kept(known: Known) -> str:
    if known.contract is None:
        return "-"
    days = known.contract.retention_days
    return "newest of each key" if known.contract.cleanup == "compact" else f"{days} days" if days else "for ever"


def _values(known: Known) -> dict[str, Any]:
    contract, extent = known.contract, known.extent
    return {
        "topic": known.name,
        "partitions": None if extent is None else len(extent.ends),
        "offsets": None if extent is None else extent.offsets,
        "kept": _kept(known),
        "key": None if contract is None else contract.key,
        "description": None if contract is None else contract.description,
    }


def print_list(topics: Sequence[Known], *, as_json: bool) -> None:
    """Print a line for each topic."""
    if as_json:
        for known in topics:
            _line(_values(known))
        return
    right = (Column(name, justify="right") for name in ("partitions", "offsets"))
    grid = Table(Column("topic", no_wrap=True), *right, "kept", "key", "what", box=None)
    for known in topics:
        values = _values(known)
        what = values["description"] or "not in contracts/topics"
        if known.extent is None:
            what = "not on the broker: run `task contracts:publish`"
        cells = (values["topic"], values["partitions"], values["offsets"], values["kept"], values["key"], what)
        grid.add_row(*("-" if cell is None else escape(str(cell)) for cell in cells))
    _console().print(grid)


def print_one(known: Known, versions: Sequence[tuple[int, int]], *, as_json: bool) -> None:
    """Print everything that is known of a topic."""
    contract, extent = known.contract, known.extent
    values = _values(known)
    if contract is not None:
        values |= {
            "producers": list(contract.producers),
            "consumers": list(contract.consumers),
            "owner": contract.owner,
            "compatibility": contract.compatibility,
        }
    places = [] if extent is None else [(p.partition, extent.first[p], end) for p, end in extent.ends.items()]
    if as_json:
        _line(
            {
                **values,
                "held": [{"partition": number, "first": first, "end": end} for number, first, end in places],
                "subject": [{"version": version, "schema_id": schema_id} for version, schema_id in versions],
                "fields": None if contract is None else contract.avro["fields"],
            }
        )
        return
    for name, value in values.items():
        shown = ", ".join(value) if isinstance(value, list) else "-" if value is None else value
        sys.stdout.write(f"{name:<14} {shown}\n")
    for number, first, end in places:
        sys.stdout.write(f"{'partition ' + str(number):<14} {first} to {end}\n")
    held = ", ".join(f"version {version} is schema id {schema_id}" for version, schema_id in versions)
    sys.stdout.write(f"{'subject':<14} {known.name}-value: {held or 'not in the registry'}\n")
    if contract is not None:
        grid = Table("field", "type", "what", box=None)
        for field in contract.avro["fields"]:
            grid.add_row(field["name"], escape(kind(field["type"])), escape(field.get("doc", "")))
        _console().print(grid)


def kind(schema: Any) -> str:
    """A field's type in a word or two."""
    match schema:
        case list():
            said = " or ".join(kind(branch) for branch in schema)
        case {"logicalType": "decimal", "precision": digits, **more}:
            said = f"decimal({digits}, {more.get('scale', 0)})"
        case {"logicalType": logical}:
            said = str(logical)
        case {"type": "array", "items": items}:
            said = f"list of {kind(items)}"
        case {"name": name} | {"type": name} | name:
            said = str(name)
    return said


def print_record(seen: Seen, *, as_json: bool) -> None:
    """Print one record."""
    if as_json:
        _line(seen.values())
        return
    key = seen.key if isinstance(seen.key, str) else "-" if seen.key is None else json.dumps(seen.key)
    schema = "" if seen.schema_id is None else f"  schema {seen.schema_id}"
    more = "".join(f"  {name}={value}" for name, value in seen.headers.items())
    console = _console()
    about = escape(f"{seen.time}  key {key}{schema}{more}")
    console.print(f"[bold]{escape(seen.place)}[/]  {about}", soft_wrap=True)
    if seen.unreadable is not None:
        said = f"  no Avro record ({seen.unreadable}), {seen.bytes} bytes: {seen.value}"
        console.print(escape(said), style="yellow", soft_wrap=True)
    elif seen.value is None:
        console.print("  a tombstone: the key is deleted", style="yellow")
    else:
        console.print_json(json.dumps(seen.value), indent=2, ensure_ascii=False)
