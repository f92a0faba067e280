"""Finds the records of a topic that contain some bytes, without decoding the others.

The broker's record batches are searched as they come: a million records take about a second, where decoding them all
takes a minute. A batch that matches is read again by a consumer, which knows transactions and compression.
"""

import asyncio
import re
import struct
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest

from tools.records import between, extent

FETCH_BYTES = 8 * 1024 * 1024
READ_COMMITTED = 1
SPANS = 20  # more matching batches of a partition than these are read as one, with what is between them

# base offset, length after itself, leader epoch, magic, checksum, attributes, last offset less base offset
_HEADER = struct.Struct(">qiibIhi")
_LENGTH_END = 12
_COMPRESSION = 0b111


def text_pattern(text: str) -> re.Pattern[bytes]:
    """Matches the UTF-8 of every text that contracts/sale.py normalizes to `text`, and perhaps of others.

    Those have other white space, invisible characters, and accents apart from what carries them.
    """
    parts = []
    for character in text:
        if character == " ":
            parts.append(rb"[\s\x80-\xff]+")
        elif character.isascii():
            parts.append(re.escape(character.encode()))
        else:
            parts.append(rb"[ -~]?[\x80-\xff]+")
    return re.compile(rb"[\x80-\xff]*".join(parts))


def matching(batches: bytes, pattern: re.Pattern[bytes]) -> tuple[list[tuple[int, int]], int | None]:
    """The offsets (first, end) of each batch that the pattern matches or that is compressed, and the end of the last.

    A batch that is cut off at the end is left out; the end is None where no batch is whole.
    """
    spans, end, position = [], None, 0
    while position + _HEADER.size <= len(batches):
        base, length, _, _, _, attributes, delta = _HEADER.unpack_from(batches, position)
        stop = position + _LENGTH_END + length
        if stop > len(batches):
            break
        end = base + delta + 1
        if attributes & _COMPRESSION or pattern.search(batches, position + _HEADER.size, stop):
            spans.append((base, end))
        position = stop
    return spans, end


async def _spans(
    client: AIOKafkaConsumer, partition: TopicPartition, first: int, end: int, pattern: re.Pattern[bytes]
) -> list[tuple[int, int]]:
    """The offsets of the matching batches of a partition from `first` to `end`."""
    spans: list[tuple[int, int]] = []
    while first < end:
        wanted = [(partition.topic, [(partition.partition, first, FETCH_BYTES)])]
        leader = client._client.cluster.leader_for_partition(partition)
        response = await client._client.send(leader, FetchRequest(500, 1, FETCH_BYTES, READ_COMMITTED, wanted))
        ((_, ((_, error, *_, batches),)),) = response.topics
        if error:
            raise for_code(error)(f"reading {partition.topic}-{partition.partition}@{first}")
        more, following = matching(batches or b"", pattern)
        spans += more
        if following is None:  # nothing is left of what compaction removed
            break
        first = following
    return spans


async def search(client: AIOKafkaConsumer, topic: str, pattern: re.Pattern[bytes]) -> AsyncIterator[ConsumerRecord]:
    """The records of a topic whose batch the pattern matches, tombstones left out.

    Raises:
        NotDoneError: the broker has no such topic.
        KafkaError: it is unavailable.
    """
    there = await extent(client, topic)
    matches = await asyncio.gather(
        *(_spans(client, partition, there.first[partition], end, pattern) for partition, end in there.ends.items())
    )
    for (partition, end), spans in zip(there.ends.items(), matches, strict=True):
        if len(spans) > SPANS:
            spans[:] = [(spans[0][0], spans[-1][1])]
        for first, stop in spans:
            async for message in between(client, {partition: first}, {partition: min(stop, end)}):
                if message.value is not None:
                    yield message
    # a consumer that has reached an end waits there for more, and every later request of the connection behind it
    client.unsubscribe()
