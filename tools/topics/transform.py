"""What is shown of a record, and what JSON text holds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from contracts.text import one_line

SHORT = 200


@dataclass(frozen=True)
class Seen:
    """A record as it lies in its topic, decoded where it is Avro; `unreadable` tells why it is not.

    `key` and `value` are JSON values of what was decoded, else text, else hexadecimal, shortened.
    """

    topic: str
    partition: int
    offset: int
    time: str
    key: Any
    value: Any
    schema_id: int | None
    unreadable: str | None
    bytes: int
    headers: Mapping[str, str]

    @property
    def place(self) -> str:
        """Topic, partition and offset, as `task trace` names a record."""
        return f"{self.topic}-{self.partition}@{self.offset}"

    def values(self) -> dict[str, Any]:
        """The JSON object of it."""
        return asdict(self)


def headers(of: tuple[tuple[str, bytes | None], ...]) -> dict[str, str]:
    """A record's headers as short text."""
    return {name: one_line(value, SHORT) for name, value in of}


def objects(text: str) -> Iterator[Any]:
    """Every JSON value of a text, one after the other, with white space between.

    Raises:
        ValueError: at some place the text is not JSON; the message tells line and column.
    """
    decoder, at = json.JSONDecoder(), 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        value, at = decoder.raw_decode(text, at)
        yield value


def reaches(first: Mapping[Any, int], ends: Mapping[Any, int], back: int) -> dict[Any, int]:
    """Where to begin to read the newest `back` offsets of each partition that lies from `first` to `ends`."""
    return {place: max(first[place], end - back) for place, end in ends.items()}
