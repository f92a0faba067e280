"""Which dead letters a command means, which of them a replay sends, and why others cannot be replayed. Pure."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from contracts.reasons import REASONS
from contracts.text import quoted

if TYPE_CHECKING:  # help does not wait for it
    from contracts.catalogue import Topic

_ID = re.compile(r"(\d{1,9})-(\d{1,18})")
AT_ITS_SOURCE = {
    "sales.files": "correct the file and upload it again: a later upload wins",
    "sales.legacy": "correct the sale in the legacy system: the poller fetches it again",
}


class Position(NamedTuple):
    """Where a dead letter is in `sales.dlq`; as text it is the dead letter's id, such as 2-17."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


def position(text: str) -> Position:
    """The position that an id names.

    Raises:
        ValueError: not of the form 2-17.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not the id of a dead letter, such as 2-17")
    return Position(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter and its position in `sales.dlq`; the other fields are those of its contract."""

    position: Position
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    unit: str
    attempt: int
    time: datetime

    @property
    def identity(self) -> bytes:
        """The same for every attempt of the same record: a digest of topic, key and bytes."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.topic.encode(), self.key, self.value):
            digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
        return digest.digest()

    @property
    def rejection(self) -> tuple[object, ...]:
        """The same where one rejection was written twice, by a unit killed before it committed its input."""
        return self.unit, self.topic, self.partition, self.offset, self.attempt, self.reason, self.identity


@dataclass(frozen=True)
class Query:
    """Which dead letters are meant; None, or no position, means any."""

    positions: Collection[Position] = frozenset()
    reason: str | None = None
    topic: str | None = None
    unit: str | None = None
    since: datetime | None = None

    def matches(self, dead_letter: DeadLetter) -> bool:
        """Whether the dead letter is meant."""
        return (
            (not self.positions or dead_letter.position in self.positions)
            and self.reason in (None, dead_letter.reason)
            and self.topic in (None, dead_letter.topic)
            and self.unit in (None, dead_letter.unit)
            and (self.since is None or dead_letter.time >= self.since)
        )


class Selection:
    """Which dead letters a replay sends: of each identity the newest attempt, if that one is meant. Holds no bytes."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._attempts: defaultdict[bytes, list[tuple[int, datetime, Position, bool]]] = defaultdict(list)

    def add(self, one: DeadLetter) -> None:
        """Take one into account; all of them must be added, also those that are not meant."""
        self._attempts[one.identity].append((one.attempt, one.time, one.position, self._query.matches(one)))

    def selected(self) -> dict[Position, list[Position]]:
        """The newest attempts that are meant, each with the positions of all dead letters of its identity."""
        newest = ((max(attempts), attempts) for attempts in self._attempts.values())
        return {position: [one[2] for one in attempts] for (_, _, position, meant), attempts in newest if meant}


def unreplayable(dead_letter: DeadLetter, topic: "Topic | None") -> str | None:
    """Why it cannot be replayed as it is, with what to do instead; None where it can. `topic` is its record's topic."""
    if topic is None:
        return f"topic {dead_letter.topic} is not in contracts/topics"
    if dead_letter.partition < 0:
        remedy = REASONS[dead_letter.reason][1] if dead_letter.reason in REASONS else "see its detail"
        at_source = AT_ITS_SOURCE.get(topic.name, "correct it at its source")
        return f"it never was in a topic: {remedy}; {at_source}"
    if topic.cleanup == "compact":
        return f"{topic.name} keeps the newest record of a key, which an old one must not replace: run `task rebuild`"
    return None
