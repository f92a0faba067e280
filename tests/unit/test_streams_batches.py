"""The parts of the agent pattern that need no broker."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from chassis.dead_letters import ATTEMPT_HEADER
from chassis.stream import attempt_of, next_batch, written_at

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
    [(None, NOW), (-0.001, NOW), (1e300, NOW), (1771500000.123, datetime(2026, 2, 19, 11, 20, 0, 123_000, tzinfo=UTC))],
)
def test_written_at(timestamp: float | None, expected: datetime) -> None:
    """The Kafka timestamp, exact to the millisecond; now where there is none or it is impossible."""
    assert written_at(timestamp, NOW) == expected


async def test_batch_takes_what_is_there() -> None:
    """A batch holds what is queued, in order, up to its limit, and waits for the first event only."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    waiting = asyncio.create_task(next_batch(queue, 3))
    events = [SimpleNamespace(number=number) for number in range(5)]
    for event in events:
        queue.put_nowait(event)
    assert await waiting == events[:3]
    assert await next_batch(queue, 3) == events[3:]
