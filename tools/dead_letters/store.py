"""Kafka and the registry as the command sees them: letters to read, records to send, notes of what was replayed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from chassis import kafka, progress
from chassis.dead_letters import TOPIC
from chassis.kafka import Record
from chassis.registry import Client
from chassis.settings import KafkaSettings, RegistrySettings
from contracts import codec
from contracts.catalogue import Topic
from contracts.codec import DecodeError, Decoder, Encoder
from tools.dead_letters.transform import Letter, Place

NAME = "dead_letters"


@dataclass(frozen=True)
class Unreadable:
    """A record of `sales.dlq` that is no dead letter: where, and why."""

    place: Place
    why: str


class Letters:
    """The letters that `sales.dlq` held when this was opened."""

    def __init__(self, client: AIOKafkaConsumer, decoder: Decoder, ends: Mapping[TopicPartition, int]) -> None:
        self._client, self._decoder, self._ends = client, decoder, ends

    async def all(self) -> AsyncIterator[Letter | Unreadable]:
        """Every one from the earliest, in the order of each partition."""
        if self._ends:
            await self._client.seek_to_beginning(*self._ends)
            async for message in kafka.messages_to_end(self._client, self._ends):
                yield await self._letter(message)

    async def one(self, place: Place) -> Letter | Unreadable | None:
        """The letter at a place; None where there is none (any more)."""
        partition = TopicPartition(TOPIC, place[0])
        if partition not in self._ends:
            return None
        first = (await self._client.beginning_offsets([partition]))[partition]
        if not first <= place[1] < self._ends[partition]:
            return None
        self._client.seek(partition, place[1])
        async for message in kafka.messages_to_end(self._client, {partition: place[1] + 1}):
            return await self._letter(message)
        return None

    async def _letter(self, message: ConsumerRecord) -> Letter | Unreadable:
        place = (message.partition, message.offset)
        try:
            return Letter(place=place, **await self._decoder.decode(message.value or b""))
        except DecodeError as error:
            return Unreadable(place, error.detail)


@dataclass(frozen=True)
class Servers:
    """Where broker and registry are; `topics` are all that can have a letter."""

    kafka: KafkaSettings
    registry: RegistrySettings
    topics: Mapping[str, Topic]

    @cached_property
    def client(self) -> Client:
        """A client of the registry, which remembers schemas."""
        return Client(self.registry)

    @asynccontextmanager
    async def letters(self) -> AsyncIterator[Letters]:
        """The letters that are there now.

        Raises:
            KafkaError: the broker is unavailable.
        """
        async with kafka.reading(NAME, self.kafka, [TOPIC]) as client:
            ends = await client.end_offsets(list(client.assignment()))
            yield Letters(client, Decoder(self.client, self.topics[TOPIC]), ends)

    async def replayed(self) -> dict[str, str]:
        """When each letter was replayed last, by its id.

        Raises:
            KafkaError | RegistryUnavailableError: a server is unavailable.
        """
        found: dict[str, str] = {}
        prefix = f"{NAME}/".encode()
        decoder = Decoder(self.client, self.topics[progress.TOPIC])
        async with kafka.reading(NAME, self.kafka, [progress.TOPIC]) as client:
            async for key, value in kafka.read_to_end(client):
                if key is None or value is None or not key.startswith(prefix):
                    continue
                position = progress.newest((await decoder.decode(value))["position"]) or {}
                found[key.removeprefix(prefix).decode()] = str(position.get("replayed_at", "-"))
        return found

    @asynccontextmanager
    async def outbox(self) -> AsyncIterator["Outbox"]:
        """Where records and notes go.

        Raises:
            KafkaError: the broker is unavailable.
            ContractError: the registry does not hold the contract of `ingestion.progress`.
        """
        encode = await codec.encoder(self.client, self.topics[progress.TOPIC])
        async with kafka.sending(NAME, self.kafka) as client:
            yield Outbox(client, encode)


class Outbox:
    """Sends, and waits for the broker."""

    def __init__(self, client: AIOKafkaProducer, encode: Encoder) -> None:
        self._client, self._encode = client, encode

    async def send(self, records: Sequence[Record], notes: Mapping[str, progress.Position]) -> None:
        """Publish the records, and once every one is acknowledged the notes, by letter's id.

        Raises:
            KafkaError: one was not acknowledged; nothing was noted then.
        """
        await kafka.publish(self._client, records)
        await kafka.publish(
            self._client, [progress.record(self._encode, NAME, cursor, note) for cursor, note in notes.items()]
        )
