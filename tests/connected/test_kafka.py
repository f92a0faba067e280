"""Consumers and producers of the chassis against a real broker."""

import asyncio
from collections.abc import Mapping

from aiokafka import TopicPartition

from chassis import kafka
from tests.connected.streams import Servers


async def test_a_reader_that_was_just_assigned_other_partitions_stops(servers: Mapping[str, str]) -> None:
    """Leaving the reader ends also while the fetches of its former partitions are being cancelled."""
    topics = [[TopicPartition(topic, number) for number in range(4)] for topic in ("sales.postgres", "sales.files")]
    async with asyncio.timeout(30) as deadline, kafka.reading("test", Servers(servers).kafka, []) as client:
        for partitions in topics:
            ends = await client.end_offsets(partitions)
            client.assign(partitions)
            for partition, end in ends.items():
                client.seek(partition, end)
            await client.getmany(timeout_ms=200 if partitions is topics[0] else 0)
    assert not deadline.expired()  # where it has, leaving ends by the cancellation, without an error
