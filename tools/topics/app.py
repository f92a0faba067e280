"""The commands: which topics there are, what one is, what it holds, and writing a record into it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schema_registry.client.schema import AvroSchema

from chassis.command import NotDoneError
from contracts.catalogue import Topic
from contracts.codec import ContractError, DecodeError, Decoder, Encoder, encode_body, encoder, parse
from contracts.json_avro import RejectedError, fitted
from tools.topics.store import Extent, Servers
from tools.topics.transform import Seen


@dataclass(frozen=True)
class Known:
    """A topic of the catalogue, of the broker, or of both; `extent` is None where the broker does not have it."""

    name: str
    contract: Topic | None
    extent: Extent | None


async def every(servers: Servers) -> list[Known]:
    """The topics of the catalogue, then what else the broker has.

    Raises:
        KafkaError: the broker is unavailable.
    """
    async with servers.log() as log:
        there = set(await log.topics())
        others = sorted(there - set(servers.topics))
        return [
            Known(name, servers.topics.get(name), await log.extent(name) if name in there else None)
            for name in (*servers.topics, *others)
        ]


async def one(servers: Servers, name: str) -> tuple[Known, list[tuple[int, int]]]:
    """A topic, and the versions of its subject with their schema ids.

    Raises:
        NotDoneError: neither catalogue nor broker has it.
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    async with servers.log() as log:
        known = name in servers.topics and name not in await log.topics()
        extent = None if known else await log.extent(name)
    subject = f"{name}-value"
    newest = await servers.client.get_schema(subject)
    numbers = range(1, 1 + (0 if newest is None else newest.version))
    found = [await servers.client.get_schema(subject, version=number) for number in numbers]
    versions = [(each.version, each.schema_id) for each in found if each is not None]  # one may have been deleted
    return Known(name, servers.topics.get(name), extent), versions


async def tail(
    servers: Servers, name: str, count: int | None, *, beginning: bool, follow: bool, show: Callable[[Seen], None]
) -> int:
    """Show the newest `count` records, or from the beginning the first `count`, all where it is None; then new ones.

    Returns how many were shown.

    Raises:
        NotDoneError: there is no such topic.
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    shown = 0
    async with servers.log() as log:
        extent = await log.extent(name)
        if beginning:
            async for message in log.between(extent.first, extent.ends):
                if shown == count:
                    return shown
                show(await servers.seen(message))
                shown += 1
        else:
            for message in await log.newest(extent, count or 0):
                show(await servers.seen(message))
                shown += 1
        if follow:
            async for message in log.after(extent.ends):
                show(await servers.seen(message))
                shown += 1
    return shown


async def _writer(servers: Servers, topic: Topic) -> tuple[Mapping[str, Any], Encoder]:
    """The schema that the topic's producer writes with, and its encoder.

    Raises:
        ContractError: the registry does not hold it.
    """
    if topic.schema_role == "writer":
        return topic.avro, await encoder(servers.client, topic)
    newest = await servers.client.get_schema(topic.subject)
    if newest is None or not isinstance(newest.schema, AvroSchema):
        raise ContractError(f"subject {topic.subject} is made by its producer ({', '.join(topic.producers)}): start it")
    schema, parsed, schema_id = newest.schema.raw_schema, parse(newest.schema.raw_schema), newest.schema_id
    return schema, lambda record: encode_body(schema_id, parsed, record)


async def encoded(servers: Servers, topic: Topic, records: Sequence[Any]) -> list[bytes]:
    """JSON records as the topic's producer writes them.

    Raises:
        NotDoneError: one does not fit the contract; the message names the field.
        ContractError: the registry does not hold the schema.
    """
    schema, encode = await _writer(servers, topic)
    decoder = Decoder(servers.client, topic)
    made = []
    for number, record in enumerate(records, 1):
        try:
            made.append(encode(fitted(schema, record)))
            await decoder.decode(made[-1])
        except (RejectedError, DecodeError) as error:
            raise NotDoneError(f"record {number} does not fit the contract of {topic.name}: {error}") from error
    return made


async def produce(servers: Servers, topic: Topic, key: bytes | None, values: Sequence[bytes]) -> list[str]:
    """Write encoded records; the place of each.

    Raises:
        NotDoneError: the topic is compacted and there is no key, or the broker does not have it.
        KafkaError: the broker is unavailable.
    """
    if topic.cleanup == "compact" and key is None:
        raise NotDoneError(f"{topic.name} keeps the newest record of each key: give one with --key ({topic.key})")
    async with servers.log() as log:
        await log.extent(topic.name)
    return [f"{topic.name}-{place[0]}@{place[1]}" for place in await servers.publish(topic.name, key, values)]
