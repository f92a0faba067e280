"""A streams unit of two workers under kill -9 of workers and broker: nothing is lost, and no double has an effect."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from contracts.catalogue import catalogue
from tests.chaos import processes
from tests.chaos.kills import NEVER, PATIENCE, Kill
from tests.chaos.streams_load import RAW, Load, Outcome
from tests.connected.unit_process import UnitProcess, unit_process
from tests.runtime import Runtime, start_runtime

KINDS = ("legacy", "second worker", "kafka", "kafka legacy")
EVERY_S = 15.0  # at most one kill in so long: 20 kills are a load of five minutes
BOUND_S = 30  # a dead worker is missed after 10 s; a broker boots in about as long


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Broker, registry and one worker of the unit `legacy`, all started again by the supervisor when they die."""
    with start_runtime(
        tmp_path_factory.mktemp("streams"),
        only=("legacy",),
        extra_env={"KAFKA_HOST": "127.0.0.1", "SCHEMA_REGISTRY_HOST": "127.0.0.1"},
    ) as started:
        yield started


def order(seed: int, count: int) -> Iterator[str]:
    """`count` kinds of kill: all of them in an order that the seed decides, then in another, and so on."""
    chance = random.Random(seed)
    dealt: list[str] = []
    for _ in range(count):
        dealt = dealt or chance.sample(KINDS, len(KINDS))
        yield dealt.pop()


async def strike(runtime: Runtime, second: UnitProcess, kind: str) -> None:
    """kill -9; the second worker, which no supervisor watches, is started again at once."""
    if kind == "second worker":
        await second.end(signal.SIGKILL)
        await second.start()
    else:
        await asyncio.to_thread(processes.kill, runtime, *kind.split())


async def until_recovered(load: Load, outcome: Outcome, tasks: list[asyncio.Task[None]]) -> None:
    """Wait until all that was sent by now is there, and of each partition something that was sent later."""
    end, before = time.monotonic() + PATIENCE * BOUND_S, len(load.sent)
    while True:
        later = {sent.partition for sent in load.sent[before:] if outcome.has(sent)}
        if len(later) == catalogue()[RAW].partitions and outcome.settled(load.sent) >= before:
            return
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, f"not within {PATIENCE * BOUND_S} s; partitions that go on: {sorted(later)}"
        await asyncio.sleep(0.1)


async def until_all(load: Load, outcome: Outcome) -> None:
    """Wait until all that was sent is there."""
    end = time.monotonic() + PATIENCE * BOUND_S
    while missing := len(load.sent) - outcome.settled(load.sent):
        assert time.monotonic() < end, f"{missing} of {len(load.sent)} sales are missing, or come after one that is"
        await asyncio.sleep(0.2)


async def test_nothing_is_lost_and_no_double_counts(
    runtime: Runtime, kills: list[Kill], seed: int, count: int, tmp_path: Path
) -> None:
    """Workers and broker are killed in a row under load; every sale ends in its last version, or as a dead letter."""
    load, outcome = Load(runtime, seed), Outcome()
    async with unit_process("streams.legacy", runtime.env, tmp_path / "second.log", wait=True) as second:
        tasks = [asyncio.create_task(load.run()), asyncio.create_task(outcome.follow(runtime))]
        try:
            await until_recovered(load, outcome, tasks)
            for kind in order(seed, count):
                begun, recovered = time.monotonic(), NEVER
                try:
                    await strike(runtime, second, kind)
                    await until_recovered(load, outcome, tasks)
                    recovered = time.monotonic() - begun
                finally:
                    kills.append(Kill((kind,), BOUND_S, None, recovered, os.getloadavg()[0]))
                await asyncio.wait(tasks, timeout=max(0.0, EVERY_S - recovered), return_when=asyncio.FIRST_COMPLETED)
            load.stopping = True
            await tasks[0]
            await until_all(load, outcome)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
    right = {sent.version: sent.unified() for sent in load.sent if sent.valid}
    assert {version: value for version, (value, *_) in outcome.values.items()} == right
    assert all(value == values[0] for values in outcome.values.values() for value in values)
    assert outcome.dead == {sent.version for sent in load.sent if not sent.valid}
    assert len(load.sent) > 100 * count
