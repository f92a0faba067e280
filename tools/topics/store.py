"""Broker and registry as the command sees them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis import kafka
from chassis.command import NotDoneError
from chassis.registry import Client
from chassis.settings import KafkaSettings, RegistrySettings
from contracts.catalogue import Topic
from contracts.codec import DecodeError, as_written
from contracts.examples import plain
from contracts.text import one_line, printable
from contracts.time import at_ms
from tools.topics.transform import SHORT, Seen, headers, reaches

NAME = "topics"
REACH_FACTOR = 4

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True)
class Extent:
    """The partitions of a topic: first offset that is kept, and the end."""

    first: Offsets
    ends: Offsets

    @property
    def offsets(self) -> int:
        """How many there are from the firsts to the ends: records, and what compaction left between them."""
        return sum(end - self.first[place] for place, end in self.ends.items())


class Log:
    """Reads topics from any place."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client

    async def topics(self) -> dict[str, list[int]]:
        """The partitions of every topic of the broker."""
        return await kafka.partitions(self._client)

    async def extent(self, name: str) -> Extent:
        """Where a topic begins and ends.

        Raises:
            NotDoneError: the broker has no such topic.
        """
        there = await self.topics()
        if name not in there:
            raise NotDoneError(f"the broker has no topic {name[:80]!r}; it has {', '.join(sorted(there)) or 'none'}")
        places = [TopicPartition(name, number) for number in there[name]]
        return Extent(await self._client.beginning_offsets(places), await self._client.end_offsets(places))

    async def between(self, starts: Offsets, ends: Offsets) -> AsyncIterator[ConsumerRecord]:
        """Every record from `starts` to `ends`, in the order of each partition."""
        self._client.assign(list(starts))
        for place, offset in starts.items():
            self._client.seek(place, offset)
        async for message in kafka.messages_to_end(self._client, ends):
            yield message

    async def newest(self, extent: Extent, count: int) -> list[ConsumerRecord]:
        """The newest `count` records, oldest of them first; looks further back where compaction left gaps."""
        back = count
        while True:
            starts = reaches(extent.first, extent.ends, back)
            found = [message async for message in self.between(starts, extent.ends)]
            if len(found) >= count or starts == extent.first:
                return sorted(found, key=lambda message: (message.timestamp, message.partition, message.offset))[
                    -count:
                ]
            back *= REACH_FACTOR

    async def after(self, ends: Offsets) -> AsyncIterator[ConsumerRecord]:
        """Every record from `ends` on, for ever."""
        self._client.assign(list(ends))
        for place, offset in ends.items():
            self._client.seek(place, offset)
        async for message in self._client:
            yield message


@dataclass(frozen=True)
class Servers:
    """Where broker and registry are; `topics` is the catalogue."""

    kafka: KafkaSettings
    registry: RegistrySettings
    topics: Mapping[str, Topic]

    @cached_property
    def client(self) -> Client:
        """A client of the registry, which remembers schemas."""
        return Client(self.registry)

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Log]:
        """A reader of topics.

        Raises:
            KafkaError: the broker is unavailable.
        """
        async with kafka.reading(NAME, self.kafka, []) as client:
            yield Log(client)

    async def _key(self, key: bytes | None) -> object:
        if key is None:
            return None
        if printable(key) is None:  # Debezium's keys are Avro
            try:
                return plain((await as_written(self.client, key)).record)
            except DecodeError:
                return one_line(key, SHORT)
        return one_line(key, SHORT)

    async def seen(self, message: ConsumerRecord) -> Seen:
        """A record for people.

        Raises:
            RegistryUnavailableError: the registry is unavailable.
        """
        value, schema_id, unreadable = None, None, None
        if message.value is not None:
            try:
                written = await as_written(self.client, message.value)
            except DecodeError as error:
                value, unreadable = one_line(message.value, SHORT), error.detail
            else:
                value, schema_id = plain(written.record), written.schema_id
        return Seen(
            message.topic,
            message.partition,
            message.offset,
            plain(at_ms(message.timestamp)),
            await self._key(message.key),
            value,
            schema_id,
            unreadable,
            len(message.value or b""),
            headers(message.headers),
        )

    async def publish(self, topic: str, key: bytes | None, values: Sequence[bytes]) -> list[tuple[int, int]]:
        """Write records; partition and offset of each, once the broker has acknowledged all.

        Raises:
            KafkaError: it is unavailable, or did not acknowledge one.
        """
        async with kafka.sending(NAME, self.kafka) as client:
            places = [await client.send_and_wait(topic, value, key=key) for value in values]
        return [(place.partition, place.offset) for place in places]
