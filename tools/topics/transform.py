"""Which types a contract names, where a tail begins, and which JSON values a text holds."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from contracts.text import one_line

SHORT = 200


def objects(text: str) -> Iterator[Any]:
    """Every JSON value of a text, one after the other, with white space between.

    Raises:
        ValueError: the text is not JSON; the message names line and column.
    """
    decoder, at = json.JSONDecoder(), 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        value, at = decoder.raw_decode(text, at)
        yield value


def reaches(first: Mapping[Any, int], ends: Mapping[Any, int], back: int) -> dict[Any, int]:
    """The offset at which the newest `back` offsets of each partition begin, which lies from `first` to `ends`."""
    return {partition: max(first[partition], end - back) for partition, end in ends.items()}


def kind(schema: Any) -> str:
    """A field's type in a word or two."""
    match schema:
        case list():
            return " or ".join(kind(branch) for branch in schema)
        case {"logicalType": "decimal", "precision": digits, **more}:
            return f"decimal({digits}, {more.get('scale', 0)})"
        case {"type": "array", "items": items}:
            return f"list of {kind(items)}"
        case {"logicalType": name} | {"name": name} | {"type": name} | name:
            return str(name)


def headers(of: tuple[tuple[str, bytes | None], ...]) -> dict[str, str]:
    """A record's headers as short text."""
    return {name: one_line(content, SHORT) for name, content in of}
