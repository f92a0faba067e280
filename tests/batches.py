"""A consumer group's member and messages for tests of batch consumers that need no broker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from aiokafka import TopicPartition

from chassis import kafka
from chassis.batches import Batch
from chassis.kafka import Record


@dataclass
class Member:
    """The source of a consumer's batches; it remembers the offsets that were acknowledged."""

    generation: int = 1
    acknowledged: list[tuple[int, int]] = field(default_factory=list)

    async def acknowledge(self, batches: Sequence[Batch]) -> None:
        """Remember partition and last offset of each batch."""
        self.acknowledged += [(batch.tp.partition, batch.records[-1].offset) for batch in batches]


def message(topic: str, value: bytes | None, *, offset: int = 0, partition: int = 0, **more: Any) -> Any:
    """A message as aiokafka gives it."""
    fields = {"key": b"a key", "headers": [], "timestamp": 1_771_500_000_000} | more
    return SimpleNamespace(topic=topic, value=value, offset=offset, partition=partition, **fields)


def batch(messages: Sequence[Any], generation: int = 1) -> Batch:
    """A batch of messages of one partition."""
    return Batch(TopicPartition(messages[0].topic, messages[0].partition), generation, messages)


@asynccontextmanager
async def published() -> AsyncIterator[list[Record]]:
    """What is published while the context lasts, instead of publishing it."""
    records: list[Record] = []

    async def publish(_: Any, more: Sequence[Record]) -> int:
        records.extend(more)
        return len(more)

    with patch.object(kafka, "publish", publish):
        yield records
