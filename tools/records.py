"""Topics as the commands read them: their offsets, their records, and the registry that decodes them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from schema_registry.client.utils import SchemaVersion

from chassis import kafka
from chassis.errors import NotDoneError
from chassis.registry import Client
from chassis.settings import KafkaSettings, RankingSettings, RegistrySettings, load
from contracts.catalogue import Topic, catalogue
from contracts.codec import DecodeError, Decoder
from contracts.text import quoted

Offsets = Mapping[TopicPartition, int]


def position(topic: str, partition: int, offset: int) -> str:
    """A record's position as every command prints it: sales.unified-3@17."""
    return f"{topic}-{partition}@{offset}"


@dataclass(frozen=True)
class Servers:
    """Broker and registry as the command `name` reaches them, and the catalogue with its topics of every length."""

    name: str
    kafka: KafkaSettings
    registry: RegistrySettings
    topics: Mapping[str, Topic]

    @cached_property
    def client(self) -> Client:
        """A client of the registry, which remembers schemas."""
        return Client(self.registry)

    def decoder(self, topic: str) -> Decoder:
        """A decoder of the topic's values into the catalogue's schema."""
        return Decoder(self.client, self.topics[topic])

    async def versions(self, subject: str) -> list[SchemaVersion]:
        """The versions of a subject that are not deleted, with their schemas, the oldest first.

        Raises:
            RegistryUnavailableError: the registry is unavailable.
        """
        newest = await self.client.get_schema(subject)
        numbers = range(1, 1 + (0 if newest is None else newest.version))
        every = [await self.client.get_schema(subject, version=number) for number in numbers]
        return [version for version in every if version is not None]

    def reading(self) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
        """A consumer for the functions below, without a group.

        Raises:
            KafkaError: on entering it, where the broker is unavailable.
        """
        return kafka.reading(self.name, self.kafka, [])


def servers(name: str) -> Servers:
    """The servers that the environment names; ends the process with one line where a setting is wrong."""
    return Servers(name, load(KafkaSettings), load(RegistrySettings), catalogue(load(RankingSettings).lengths))


@dataclass(frozen=True)
class Extent:
    """The offsets of a topic by partition: the first that is kept, and the end."""

    first: Offsets
    ends: Offsets

    @property
    def offsets(self) -> int:
        """How many there are from the firsts to the ends: records, and what compaction left between them."""
        return sum(end - self.first[partition] for partition, end in self.ends.items())


async def extent(client: AIOKafkaConsumer, topic: str) -> Extent:
    """Where a topic begins and ends.

    Raises:
        NotDoneError: the broker has no such topic.
    """
    known = await kafka.partitions(client)
    if topic not in known:
        raise NotDoneError(f"the broker has no topic {quoted(topic)}; it has {', '.join(sorted(known)) or 'none'}")
    partitions = [TopicPartition(topic, number) for number in known[topic]]
    return Extent(await client.beginning_offsets(partitions), await client.end_offsets(partitions))


async def offsets_at(client: AIOKafkaConsumer, there: Extent, since: int) -> Offsets:
    """The offset of each partition's first record at or after an instant (ms since 1970); its end where none is."""
    known = await client.offsets_for_times(dict.fromkeys(there.ends, since))
    return {
        partition: end if known[partition] is None else known[partition].offset for partition, end in there.ends.items()
    }


def seek(client: AIOKafkaConsumer, starts: Offsets) -> None:
    """Let the consumer read these partitions, each from its offset."""
    client.assign(list(starts))
    for partition, offset in starts.items():
        client.seek(partition, offset)


async def readable(
    messages: AsyncIterator[ConsumerRecord], decoder: Decoder
) -> AsyncIterator[tuple[ConsumerRecord, dict[str, Any]]]:
    """The messages that are records of the decoder's topic, with them; of others their consumer makes dead letters."""
    async for message in messages:
        try:
            record = await decoder.decode(message.value or b"")
        except DecodeError:
            continue
        yield message, record


async def between(client: AIOKafkaConsumer, starts: Offsets, ends: Offsets) -> AsyncIterator[ConsumerRecord]:
    """Every record from `starts` to `ends`, in the order of each partition."""
    seek(client, starts)
    async for message in kafka.messages_to_end(client, ends):
        yield message
