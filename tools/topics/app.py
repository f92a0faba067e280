"""The commands: which topics there are, what one is, which records it holds, and writing records into it."""

import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from schema_registry.client.schema import AvroSchema

from chassis import kafka
from chassis.errors import NotDoneError
from contracts.catalogue import Topic
from contracts.codec import ContractError, DecodeError, Decoder, Encoder, as_written, encode_body, encoder, parse
from contracts.json_avro import RejectedError, plain, typed
from contracts.text import one_line, printable, quoted
from contracts.time import at_ms
from tools.records import Extent, Servers, between, extent, position, seek
from tools.topics.transform import SHORT, headers, objects, reaches

REACH_FACTOR = 4


@dataclass(frozen=True)
class KnownTopic:
    """A topic of the catalogue, of the broker, or of both; `extent` is None where the broker does not have it."""

    name: str
    contract: Topic | None
    extent: Extent | None


@dataclass(frozen=True)
class DecodedRecord:
    """A record of a topic, decoded where it is Avro; `unreadable` says why it is not.

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


async def every(servers: Servers) -> list[KnownTopic]:
    """The topics of the catalogue, then what else the broker has.

    Raises:
        KafkaError: the broker is unavailable.
    """
    async with servers.reading() as client:
        created = await kafka.partitions(client)
        others = sorted(created.keys() - servers.topics)
        return [
            KnownTopic(name, servers.topics.get(name), await extent(client, name) if name in created else None)
            for name in (*servers.topics, *others)
        ]


async def one(servers: Servers, name: str) -> tuple[KnownTopic, list[tuple[int, int]]]:
    """A topic, and the versions of its subject with their schema ids.

    Raises:
        NotDoneError: neither catalogue nor broker has it.
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    async with servers.reading() as client:
        missing = name in servers.topics and name not in await kafka.partitions(client)
        topic = KnownTopic(name, servers.topics.get(name), None if missing else await extent(client, name))
    return topic, [(each.version, each.schema_id) for each in await servers.versions(f"{name}-value")]


async def _key(servers: Servers, key: bytes | None) -> object:
    if key is not None and printable(key) is None:  # Debezium's keys are Avro
        try:
            return plain((await as_written(servers.client, key)).record)
        except DecodeError:
            pass  # neither text nor Avro: hexadecimal
    return None if key is None else one_line(key, SHORT)


async def decoded(servers: Servers, message: ConsumerRecord) -> DecodedRecord:
    """A record for people.

    Raises:
        RegistryUnavailableError: the registry is unavailable.
    """
    value, schema_id, unreadable = None, None, None
    if message.value is not None:
        try:
            written = await as_written(servers.client, message.value)
        except DecodeError as error:
            value, unreadable = one_line(message.value, SHORT), error.detail
        else:
            value, schema_id = plain(written.record), written.schema_id
    return DecodedRecord(
        message.topic,
        message.partition,
        message.offset,
        plain(at_ms(message.timestamp)),
        await _key(servers, message.key),
        value,
        schema_id,
        unreadable,
        len(message.value or b""),
        headers(message.headers),
    )


async def _newest(client: AIOKafkaConsumer, held: Extent, count: int) -> list[ConsumerRecord]:
    """The newest `count` records, oldest of them first; reads further back where compaction left gaps."""
    back = count
    while True:
        starts = reaches(held.first, held.ends, back)
        records = [message async for message in between(client, starts, held.ends)]
        if len(records) >= count or starts == held.first:
            return sorted(records, key=lambda one: (one.timestamp, one.partition, one.offset))[-count:]
        back *= REACH_FACTOR


async def tail(
    servers: Servers, name: str, count: int | None, *, beginning: bool = False, follow: bool = False
) -> AsyncGenerator[DecodedRecord, None]:
    """The newest `count` records, or from the beginning the first `count`, all where it is None; then new ones.

    Raises:
        NotDoneError: there is no such topic.
        KafkaError | RegistryUnavailableError: a server is unavailable.
    """
    async with servers.reading() as client:
        held = await extent(client, name)
        if beginning:
            async for message in between(client, held.first, held.ends):
                yield await decoded(servers, message)
                count = None if count is None else count - 1
                if count == 0:
                    return
        else:
            for message in await _newest(client, held, count or 0):
                yield await decoded(servers, message)
        if follow:
            seek(client, held.ends)
            async for message in client:
                yield await decoded(servers, message)


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
            made.append(encode(typed(schema, record)))
            await decoder.decode(made[-1])
        except (RejectedError, DecodeError) as error:
            raise NotDoneError(f"record {number} does not fit the contract of {topic.name}: {error}") from error
    return made


def content(file: str) -> bytes:
    """What a file holds; - is standard input.

    Raises:
        NotDoneError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise NotDoneError(f"FILE {quoted(file)}: {error.strerror}") from error


async def encoded_file(servers: Servers, topic: Topic, file: str) -> list[bytes]:
    """The JSON records of a file (- is standard input) as the topic's producer writes them.

    Raises:
        NotDoneError: it cannot be read or is not JSON, or a record does not fit the contract.
        ContractError: the registry does not hold the schema.
    """
    try:
        records = list(objects(content(file).decode("utf-8")))
    except ValueError as error:
        raise NotDoneError(f"FILE {quoted(file)} holds no JSON: {error}") from error
    if not records:
        raise NotDoneError(f"FILE {quoted(file)} is empty: it must hold a JSON object for each record")
    return await encoded(servers, topic, records)


async def produce(servers: Servers, topic: Topic, key: bytes | None, values: Sequence[bytes]) -> list[str]:
    """Write encoded records; the position of each, once the broker has acknowledged all.

    Raises:
        NotDoneError: the topic is compacted and there is no key, or the broker does not have it.
        KafkaError: the broker is unavailable, or did not acknowledge one.
    """
    if topic.cleanup == "compact" and key is None:
        raise NotDoneError(f"{topic.name} keeps the newest record of each key: give one with --key ({topic.key})")
    async with servers.reading() as client:
        await extent(client, topic.name)
    async with kafka.sending(servers.name, servers.kafka) as client:
        written = [await client.send_and_wait(topic.name, value, key=key) for value in values]
    return [position(topic.name, one.partition, one.offset) for one in written]
