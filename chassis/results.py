"""What becomes of one raw record, as the pure `transform` of a service says it. No I/O, nor in what this imports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Context:
    """What a transform may know besides the record: the time, and when the record was written to its topic."""

    now: datetime
    written_at: datetime


@dataclass(frozen=True)
class Output:
    """A record to publish: its key, its value before encoding, and when its source had it, in ms since 1970.

    `also` is what the same consumed record is published as besides.
    """

    key: bytes
    value: Mapping[str, Any]
    at_source_ms: int = field(default=0, compare=False)
    also: Sequence["Output"] = ()


@dataclass(frozen=True)
class Ignored:
    """Nothing to publish, and nothing wrong: a tombstone or a heartbeat."""

    why: str


@dataclass(frozen=True)
class Rejected:
    """Why a record is dead-lettered: a code of contracts/reasons.py, and the field, value (shortened) and remedy."""

    reason: str
    detail: str


Result = Output | Rejected | Ignored
Transform = Callable[[dict[str, Any], Context], Result]
