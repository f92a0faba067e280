"""The three commands, over what the store gives and what the report takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from chassis.dead_letters import ATTEMPT_HEADER
from chassis.kafka import Record
from contracts.codec import DecodeError, as_written
from contracts.examples import plain
from contracts.json_avro import RejectedError
from contracts.text import printable
from tools.dead_letters.records import patched
from tools.dead_letters.store import Servers, Unreadable
from tools.dead_letters.transform import Choice, Filter, Letter, Place, unreplayable

BATCH_RECORDS = 500
BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Sent:
    """What happened to one letter: `why` tells why it cannot be replayed, else `record` is what is or would be sent."""

    letter: Letter
    record: Record | None = None
    values: Mapping[str, Any] | None = None
    why: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How many letters were replayed, could not be, or had been before; `broken` is why the sending ended early."""

    replayed: int
    rejected: int
    before: int
    broken: str | None = None

    @property
    def status(self) -> int:
        """The exit status: 1 where nothing was meant or something could not be replayed."""
        return 1 if self.rejected or self.broken or not (self.replayed or self.before) else 0


class Report(Protocol):
    """Where results go as they come."""

    def letter(self, letter: Letter, replayed_at: str | None) -> None:
        """One letter of a list."""

    def sent(self, sent: Sent) -> None:
        """One letter of a replay."""

    def unreadable(self, found: Unreadable) -> None:
        """A record that is no letter."""


async def list_letters(servers: Servers, wanted: Filter, report: Report) -> int:
    """Report every letter that is meant, once where it was written twice; returns how many that are.

    Raises:
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    seen: set[tuple[object, ...]] = set()
    replayed = await servers.replayed()
    async with servers.letters() as letters:
        async for letter in letters.all():
            if isinstance(letter, Unreadable):
                report.unreadable(letter)
            elif wanted.fits(letter) and letter.rejection not in seen:
                seen.add(letter.rejection)
                report.letter(letter, replayed.get(letter.id))
    return len(seen)


async def _content(servers: Servers, letter: Letter, content: bytes | None) -> dict[str, Any] | None:
    """Bytes in every form that they have: hexadecimal always, text and record where they are that."""
    if content is None:
        return None
    forms: dict[str, Any] = {"bytes": len(content), "hex": content.hex()}
    said = printable(content)
    if said is not None:
        forms["text"] = said
    topic = servers.topics.get(letter.topic)
    if topic is not None:
        try:
            written = await as_written(servers.client, content)
        except DecodeError as error:
            forms["unreadable"] = error.detail
        else:
            forms |= {"schema_id": written.schema_id, "record": plain(written.record)}
    return forms


async def show(servers: Servers, place: Place) -> dict[str, Any] | None:
    """Everything about one letter as JSON values; None where there is none.

    Raises:
        DecodeError: the record there is no dead letter.
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    async with servers.letters() as letters:
        letter = await letters.one(place)
    if letter is None:
        return None
    if isinstance(letter, Unreadable):
        raise DecodeError("avro_malformed", letter.why)
    topic = servers.topics.get(letter.topic)
    return {
        "id": letter.id,
        "time": plain(letter.time),
        "reason": letter.reason,
        "detail": letter.detail,
        "unit": letter.unit,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "attempt": letter.attempt,
        "replayed_at": (await servers.replayed()).get(letter.id),
        "unreplayable": unreplayable(letter, topic),
        "key": await _content(servers, letter, letter.key),
        "value": await _content(servers, letter, letter.value),
    }


async def _prepared(servers: Servers, letter: Letter, patch: Mapping[str, Any] | None) -> Sent:
    """The record that a replay of the letter sends, or why there is none."""
    topic = servers.topics.get(letter.topic)
    why = unreplayable(letter, topic)
    if why is not None or topic is None:
        return Sent(letter, why=why)
    value, values = letter.value, None
    if patch is not None:
        try:
            value, values = await patched(servers.client, topic, letter.value or b"", patch)
        except RejectedError as error:
            return Sent(letter, why=str(error))
    headers = [(ATTEMPT_HEADER, str(letter.attempt + 1).encode())]
    return Sent(letter, Record(letter.topic, letter.key, value, headers), values)


class _Replay:
    """Letters on their way: sent in batches, each noted once it is acknowledged."""

    def __init__(self, choice: Mapping[Place, list[Place]]) -> None:
        self._choice = choice
        self._waiting: list[tuple[Letter, Record]] = []
        self._bytes = 0

    def put(self, letter: Letter, record: Record) -> bool:
        """Take one; returns whether it is time to send."""
        self._waiting.append((letter, record))
        self._bytes += len(record.value or b"")
        return len(self._waiting) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES

    def batch(self) -> tuple[list[Record], dict[str, Mapping[str, Any]]]:
        """What waits, and its notes by letter's id, those of the same record included."""
        now = plain(datetime.now(UTC))
        notes: dict[str, Mapping[str, Any]] = {
            f"{place[0]}-{place[1]}": {"attempt": letter.attempt + 1, "replayed_at": now}
            for letter, _ in self._waiting
            for place in self._choice[letter.place]
        }
        records = [record for _, record in self._waiting]
        self._waiting, self._bytes = [], 0
        return records, notes


async def replay(
    servers: Servers, wanted: Filter, patch: Mapping[str, Any] | None, *, again: bool, dry_run: bool, report: Report
) -> Outcome:
    """Send the letters that are meant once more to where they came from, and report each.

    What was replayed before is left out, unless `again`. `dry_run` sends nothing. A letter that comes while this runs
    is left for the next time, so that what is rejected again is not sent in circles.

    Raises:
        KafkaError | RegistryUnavailableError: a server is unavailable before anything was sent.
    """
    choice = Choice(wanted)
    noted = await servers.replayed()
    async with servers.letters() as letters, servers.outbox() as outbox:
        async for letter in letters.all():
            if isinstance(letter, Unreadable):
                report.unreadable(letter)
            else:
                choice.see(letter)
        chosen = choice.chosen()
        before = {place for place in chosen if not again and f"{place[0]}-{place[1]}" in noted}
        replayed = rejected = 0
        waiting = _Replay(chosen)

        async def send() -> int:
            records, notes = waiting.batch()
            if records and not dry_run:
                await outbox.send(records, notes)
            return len(records)

        try:
            async for letter in letters.all():
                if isinstance(letter, Unreadable) or letter.place not in chosen or letter.place in before:
                    continue
                sent = await _prepared(servers, letter, patch)
                report.sent(sent)
                if sent.record is None:
                    rejected += 1
                elif waiting.put(letter, sent.record):
                    replayed += await send()
            replayed += await send()
        except KafkaError as error:
            return Outcome(replayed, rejected, len(before), repr(error))
    return Outcome(replayed, rejected, len(before))
