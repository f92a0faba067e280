"""Reads dead letters, decodes what they hold, and sends their records again."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chassis import kafka, progress
from chassis.dead_letters import ATTEMPT_HEADER, TOPIC
from chassis.kafka import Record
from contracts import codec
from contracts.codec import DecodeError, Decoder, as_written
from contracts.json_avro import RejectedError, plain
from contracts.text import printable
from tools.dead_letters.patch import patched
from tools.dead_letters.transform import DeadLetter, Position, Query, Selection, unreplayable
from tools.records import Extent, Servers, between, extent
from tools.table import warn

UNIT = "dead_letters"
"""Under this name replays are noted in `ingestion.progress`."""
BATCH_RECORDS = 500
BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Replayed:
    """What became of one dead letter: `record` is or would be sent, `rejected` says why there is none."""

    dead_letter: DeadLetter
    record: Record | None = None
    patched: Mapping[str, Any] | None = None
    rejected: str | None = None


@dataclass
class Outcome:
    """How many were replayed, could not be, or had been before; `broken` is why the sending ended early."""

    replayed: int = 0
    rejected: int = 0
    before: int = 0
    broken: str | None = None

    @property
    def status(self) -> int:
        """The exit status: 1 where nothing was meant or something could not be replayed."""
        return 1 if self.rejected or self.broken or not (self.replayed or self.before) else 0


def described(dead_letter: DeadLetter) -> dict[str, Any]:
    """Everything but the bytes, as JSON values."""
    shown = {name: value for name, value in vars(dead_letter).items() if name not in {"position", "key", "value"}}
    return {"id": str(dead_letter.position), **plain(shown)}


async def _read(
    client: AIOKafkaConsumer, decoder: Decoder, held: Extent, unreadable: Callable[[str], None] = warn
) -> AsyncIterator[DeadLetter]:
    """Every dead letter of an extent; `unreadable` gets a line for each record that is none."""
    async for message in between(client, held.first, held.ends):
        position = Position(message.partition, message.offset)
        try:
            dead_letter = DeadLetter(position, **await decoder.decode(message.value or b""))
        except DecodeError as error:
            unreadable(f"{position} is no dead letter: {error.detail}")
        else:
            yield dead_letter


async def _replayed_at(servers: Servers) -> dict[str, str]:
    """When each dead letter was replayed last, by its id."""
    times: dict[str, str] = {}
    prefix = f"{UNIT}/".encode()
    decoder = servers.decoder(progress.TOPIC)
    async with servers.reading() as client:
        held = await extent(client, progress.TOPIC)
        async for message in between(client, held.first, held.ends):
            if message.value is not None and (message.key or b"").startswith(prefix):
                position = progress.newest((await decoder.decode(message.value))["position"]) or {}
                times[message.key.removeprefix(prefix).decode()] = str(position.get("replayed_at", "-"))
    return times


async def matching(servers: Servers, query: Query) -> AsyncIterator[tuple[DeadLetter, str | None]]:
    """Every dead letter that is meant, once where it was written twice, and when it was replayed.

    Raises:
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    rejections: set[tuple[object, ...]] = set()
    replayed_at = await _replayed_at(servers)
    async with servers.reading() as client:
        async for dead_letter in _read(client, servers.decoder(TOPIC), await extent(client, TOPIC)):
            if query.matches(dead_letter) and dead_letter.rejection not in rejections:
                rejections.add(dead_letter.rejection)
                yield dead_letter, replayed_at.get(str(dead_letter.position))


async def _forms(servers: Servers, topic: str, content: bytes | None) -> dict[str, Any] | None:
    """Bytes in every form that they have: hexadecimal always, text and record where they are that."""
    if content is None:
        return None
    forms: dict[str, Any] = {"bytes": len(content), "hex": content.hex()}
    text = printable(content)
    if text is not None:
        forms["text"] = text
    if topic in servers.topics:
        try:
            written = await as_written(servers.client, content)
        except DecodeError as error:
            forms["unreadable"] = error.detail
        else:
            forms |= {"schema_id": written.schema_id, "record": plain(written.record)}
    return forms


async def show(servers: Servers, position: Position) -> dict[str, Any] | None:
    """Everything about one dead letter as JSON values; None where there is none.

    Raises:
        DecodeError: the record there is no dead letter.
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    partition = TopicPartition(TOPIC, position.partition)
    async with servers.reading() as client:
        held = await extent(client, TOPIC)
        if not held.first.get(partition, 0) <= position.offset < held.ends.get(partition, 0):
            return None
        messages = between(client, {partition: position.offset}, {partition: position.offset + 1})
        content = [message.value or b"" async for message in messages]
    if not content:
        return None
    dead_letter = DeadLetter(position, **await servers.decoder(TOPIC).decode(content[0]))
    return {
        **described(dead_letter),
        "replayed_at": (await _replayed_at(servers)).get(str(position)),
        "unreplayable": unreplayable(dead_letter, servers.topics.get(dead_letter.topic)),
        "key": await _forms(servers, dead_letter.topic, dead_letter.key),
        "value": await _forms(servers, dead_letter.topic, dead_letter.value),
    }


async def _prepared(servers: Servers, dead_letter: DeadLetter, patch: Mapping[str, Any] | None) -> Replayed:
    """The record that a replay sends, or why there is none."""
    topic = servers.topics.get(dead_letter.topic)
    rejected = unreplayable(dead_letter, topic)
    if rejected is not None or topic is None:
        return Replayed(dead_letter, rejected=rejected)
    value, values = dead_letter.value, None
    if patch is not None:
        try:
            value, values = await patched(servers.client, topic, value or b"", patch)
        except RejectedError as error:
            return Replayed(dead_letter, rejected=str(error))
    headers = [(ATTEMPT_HEADER, str(dead_letter.attempt + 1).encode())]
    return Replayed(dead_letter, Record(topic.name, dead_letter.key, value, headers), values)


async def replay(
    servers: Servers,
    query: Query,
    patch: Mapping[str, Any] | None,
    report: Callable[[Replayed], None],
    *,
    again: bool,
    dry_run: bool,
) -> Outcome:
    """Send the records of the dead letters that are meant to where they came from, and report each.

    What was replayed before is left out, unless `again`. `dry_run` sends nothing. A dead letter that comes while this
    runs is left for the next time, so that what is rejected again is not sent in circles. Records go in batches, and
    each is noted in `ingestion.progress` once its batch is acknowledged.

    Raises:
        KafkaError | RegistryUnavailableError: a server is unavailable before anything was sent.
        ContractError: the registry does not hold the contract of `ingestion.progress`.
    """
    selection, outcome = Selection(query), Outcome()
    replayed_at = await _replayed_at(servers)
    encode = await codec.encoder(servers.client, servers.topics[progress.TOPIC])
    decoder = servers.decoder(TOPIC)
    batch: list[tuple[DeadLetter, Record]] = []
    async with servers.reading() as client, kafka.sending(servers.name, servers.kafka) as producer:
        held = await extent(client, TOPIC)
        async for dead_letter in _read(client, decoder, held):
            selection.add(dead_letter)
        selected = selection.selected()
        before = set() if again else {position for position in selected if str(position) in replayed_at}
        outcome.before = len(before)

        async def send() -> None:
            if not dry_run:
                await kafka.publish(producer, [record for _, record in batch])
                now = plain(datetime.now(UTC))
                positions = [
                    progress.record(encode, UNIT, str(position), {"attempt": one.attempt + 1, "replayed_at": now})
                    for one, _ in batch
                    for position in selected[one.position]
                ]
                await kafka.publish(producer, positions)
            outcome.replayed += len(batch)
            batch.clear()

        try:
            async for dead_letter in _read(client, decoder, held, lambda _: None):
                if dead_letter.position not in selected or dead_letter.position in before:
                    continue
                one = await _prepared(servers, dead_letter, patch)
                report(one)
                if one.record is None:
                    outcome.rejected += 1
                    continue
                batch.append((dead_letter, one.record))
                size = sum(len(record.value or b"") for _, record in batch)
                if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                    await send()
            await send()
        except KafkaError as error:
            outcome.broken = repr(error)
    return outcome
