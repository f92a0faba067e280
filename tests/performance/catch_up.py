"""How fast processes publish to `sales.unified` what they find in a raw topic, and what that costs them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.catalogue import catalogue

UNIFIED = "sales.unified"
PATIENCE_S = 1800.0
SETTLED_S = 1.0  # nothing more came for so long: the end


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


@dataclass(frozen=True)
class Figures:
    """What was measured of a catch-up: events a second, CPU in µs per event, RSS in MiB at 10 %, half and the end."""

    rate: float
    cpu_us: float
    rss: tuple[int, int, int]


@dataclass(frozen=True)
class Mark:
    """A moment of a catch-up: records published by then, CPU seconds used and MiB resident."""

    at: float
    done: int
    cpu_s: float
    rss: int

    @classmethod
    def of(cls, at: float, done: int, processes: Sequence[psutil.Process]) -> "Mark":
        """What the processes have used at the moment."""
        used = sum(sum(process.cpu_times()[:2]) for process in processes)
        return cls(at, done, used, sum(process.memory_info().rss for process in processes) >> 20)


async def rewind(port: str, group: str, topic: str) -> None:
    """Have the group begin at the topic's first record again."""
    client = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{port}", group_id=group, enable_auto_commit=False)
    await client.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(catalogue()[topic].partitions)]
        client.assign(partitions)
        await client.commit(await client.beginning_offsets(partitions))
    finally:
        await client.stop()


async def published(watcher: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    """The ends of `sales.unified`."""
    partitions = [TopicPartition(UNIFIED, number) for number in range(catalogue()[UNIFIED].partitions)]
    ends: dict[TopicPartition, int] = await watcher.end_offsets(partitions)
    return ends


async def total(watcher: AIOKafkaConsumer) -> int:
    """How many records `sales.unified` has had."""
    return sum((await published(watcher)).values())


async def follow(
    done_by_now: Callable[[], Awaitable[int]],
    count: int,
    processes: Sequence[psutil.Process],
    ready: Callable[[], Awaitable[bool]] | None = None,
) -> Figures:
    """Measure until so many records more are done; from the tenth part on, and not before all are ready.

    Raises:
        SystemExit: they do not come.
    """
    before = await done_by_now()
    marks: list[Mark] = []
    last, changed, end = before, time.monotonic(), time.monotonic() + PATIENCE_S
    while True:
        now, done = time.monotonic(), await done_by_now()
        if done > last:
            last, changed = done, now
            newest = Mark.of(now, done - before, processes)
        share = (done - before) / count
        if share >= (0.1, 0.5, 9)[len(marks)] and (marks or ready is None or await ready()):
            marks.append(newest)
        if share >= 1 and now - changed > SETTLED_S:
            break
        if now > end:
            raise SystemExit(f"only {done - before:,} of {count:,} records came within {PATIENCE_S:g} s")
        await asyncio.sleep(0.05)
    if len(marks) < 2:
        raise SystemExit("too few records to measure anything: give a larger --changes")
    first, half = marks
    events = newest.done - first.done
    return Figures(
        events / (newest.at - first.at),
        (newest.cpu_s - first.cpu_s) / events * 1e6,
        (first.rss, half.rss, newest.rss),
    )


def median(figures: Sequence[Figures]) -> Figures:
    """The figures of the run with the median rate."""
    return sorted(figures, key=lambda one: one.rate)[(len(figures) - 1) // 2]


def show(name: str, figures: Figures) -> None:
    """One run; RSS at 10 %, at half and at the end."""
    rss = " → ".join(str(one) for one in figures.rss)
    say(f"{name:<12} {figures.rate:8,.0f} events/s {figures.cpu_us:6.1f} µs CPU an event, RSS {rss} MiB")
