"""Stopping: an endless loop ends although a library swallows a cancellation."""

import asyncio

import pytest

from chassis.unit import cancellable


async def test_swallowed_cancellation_is_repeated() -> None:
    """Work that swallows its first cancellations, as `asyncio.wait_for` of Python 3.11 may, is stopped all the same."""
    begun, swallowed = asyncio.Event(), 0

    async def work() -> None:
        nonlocal swallowed
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1

    task = asyncio.create_task(cancellable(work(), patience_s=0.01))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    assert swallowed == 2


async def test_error_of_the_work_is_raised() -> None:
    """What the work raises is raised."""

    async def work() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await cancellable(work())
