"""The parts of the agent pattern that need no broker."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from faust.types import TP

from chassis.batches import Batch
from chassis.dead_letters import ATTEMPT_HEADER, attempt_of
from chassis.stream import next_batches, written_at

NOW = datetime(2026, 2, 19, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "attempt"),
    [
        (None, 1),
        ([], 1),
        ([("other", b"7")], 1),
        ([(ATTEMPT_HEADER, b"3")], 3),
        ({ATTEMPT_HEADER: b"4"}, 4),
        ([(ATTEMPT_HEADER, b"many")], 1),
        ([(ATTEMPT_HEADER, b"9" * 5000)], 1),
        ([(ATTEMPT_HEADER, None)], 1),
    ],
)
def test_attempt(headers: Any, attempt: int) -> None:
    """The attempt is what a replay wrote into the header, else 1."""
    assert attempt_of(headers) == attempt


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(None, NOW), (-1, NOW), (2**62, NOW), (1771500000123, datetime(2026, 2, 19, 11, 20, 0, 123_000, tzinfo=UTC))],
)
def test_written_at(timestamp: int | None, expected: datetime) -> None:
    """The Kafka timestamp, exact to the millisecond; now where there is none or it is impossible."""
    assert written_at(timestamp, NOW) == expected


async def test_batches_that_are_there_are_taken_together() -> None:
    """What is queued is taken in order until it is enough, and only the first batch is waited for."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    waiting = asyncio.create_task(next_batches(queue, 5))
    batches = [Batch(TP("sales.files", 0), 1, [None] * size) for size in (2, 3, 1, 4, 9)]
    for batch in batches:
        queue.put_nowait(batch)
    assert await waiting == batches[:2]
    assert await next_batches(queue, 5) == batches[2:4]
    assert await next_batches(queue, 5) == batches[4:]
