"""Pure rules of the command: what a letter is, which are meant, which of them are replayed, and what a patch does."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts.catalogue import Topic
from contracts.reasons import REASONS

Place = tuple[int, int]

_ID = re.compile(r"(\d{1,9})-(\d{1,18})")
AT_ITS_SOURCE = {
    "sales.files": "correct the file and upload it again: a later upload wins",
    "sales.legacy": "correct the sale in the legacy system: the poller fetches it again",
}


def place(text: str) -> Place:
    """Partition and offset of a letter's id.

    Raises:
        ValueError: not of the form 2-17.
    """
    found = _ID.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not the id of a dead letter, such as 2-17")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class Letter:
    """A dead letter and its place in `sales.dlq`; the fields are those of its contract."""

    place: Place
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
    def id(self) -> str:
        """How people name it."""
        return f"{self.place[0]}-{self.place[1]}"

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
class Filter:
    """Which letters are meant; None means any."""

    places: frozenset[Place] | None = None
    reason: str | None = None
    topic: str | None = None
    unit: str | None = None
    since: datetime | None = None

    def fits(self, letter: Letter) -> bool:
        """Whether the letter is meant."""
        return (
            (self.places is None or letter.place in self.places)
            and (self.reason is None or letter.reason == self.reason)
            and (self.topic is None or letter.topic == self.topic)
            and (self.unit is None or letter.unit == self.unit)
            and (self.since is None or letter.time >= self.since)
        )


@dataclass
class _Attempts:
    """What is known of all letters of one identity."""

    newest: tuple[int, datetime, Place]
    meant: bool
    places: list[Place]


class Choice:
    """Which letters a replay sends: of each identity the newest attempt, if that one is meant. Holds no bytes."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._attempts: dict[bytes, _Attempts] = {}

    def see(self, letter: Letter) -> None:
        """Take one letter into account; all of them must be seen, also those that are not meant."""
        rank = (letter.attempt, letter.time, letter.place)
        known = self._attempts.setdefault(letter.identity, _Attempts(rank, self._wanted.fits(letter), []))
        known.places.append(letter.place)
        if rank > known.newest:
            known.newest, known.meant = rank, self._wanted.fits(letter)

    def chosen(self) -> dict[Place, list[Place]]:
        """The newest attempts that are meant, and the places of all letters of each one's identity."""
        return {known.newest[2]: known.places for known in self._attempts.values() if known.meant}


def unreplayable(letter: Letter, topic: Topic | None) -> str | None:
    """Why a letter cannot be replayed as it is, with what to do instead; None where it can. `topic` is its topic's."""
    if topic is None:
        return f"topic {letter.topic} is not in contracts/topics"
    if letter.partition < 0:
        remedy = REASONS[letter.reason][1] if letter.reason in REASONS else "see its detail"
        return f"it never was in a topic: {remedy}; {AT_ITS_SOURCE.get(letter.topic, 'correct it at its source')}"
    if topic.cleanup == "compact":
        return f"{letter.topic} keeps the newest record of a key, which an old one must not replace: run `task rebuild`"
    return None


def merge_patch(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386) applied: null removes a field, an object goes into an object, the rest replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def newest(letters: Iterable[Letter], count: int) -> list[Letter]:
    """The newest `count` letters, oldest of them first."""
    return sorted(letters, key=lambda letter: (letter.time, letter.place))[-count:]
