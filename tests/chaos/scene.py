"""A runtime under load: strike at it, measure how it comes back, and compare everything with the oracle at the end."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests import oracle
from tests.chaos import cluster, processes
from tests.chaos.kills import BOUNDS_S, NEVER, PATIENCE, Kill
from tests.chaos.load import Load
from tests.rankings import Reader, assert_whole_and_growing, follower
from tests.runtime import Runtime
from tests.served import Answers, Tables, answers, entries_of, tables

SETTLE_S = 300  # for what was published last to arrive everywhere, on a busy machine


@dataclass
class Measured:
    """What is being measured of a kill."""

    begun: float
    running_s: float | None = None

    def elapsed(self) -> float:
        """Seconds since the kill."""
        return time.monotonic() - self.begun


@dataclass(frozen=True)
class Scene:
    """The runtime, what is sold, the three ways to read rankings, and the kills of the whole run."""

    runtime: Runtime
    load: Load
    reader: Reader
    store: Tables
    rest: Answers
    kills: list[Kill]
    selling: asyncio.Task[None]
    following: asyncio.Task[None]

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str, deadline_s: float) -> Any:
        """Ask until the answer is true, and return it; fails after the deadline with what was waited for."""
        end = time.monotonic() + deadline_s
        while not (answer := await condition()):
            for task in (self.selling, self.following):
                if task.done() and not task.cancelled():
                    task.result()  # raises what ended it
            if time.monotonic() > end:
                pytest.fail(f"not within {deadline_s:g} s: {what}")
            await asyncio.sleep(0.2)
        return answer

    async def job(self) -> cluster.Job:
        """The one job, with every task running."""

        async def one() -> cluster.Job | None:
            jobs = await cluster.alive(self.runtime)
            return jobs[0] if len(jobs) == 1 and jobs[0].running else None

        job: cluster.Job = await self.until(one, "exactly one job with every task running", PATIENCE * 60)
        return job

    async def kill(self, *names: str) -> float:
        """kill -9 of all of them at once; returns when that was (epoch seconds)."""
        await asyncio.to_thread(processes.kill, self.runtime, *names)
        return time.time()

    async def until_set_after(self, instant: float, deadline_s: float) -> None:
        """Wait for a set that was made after the instant (epoch seconds)."""

        async def newer() -> bool:
            return any(every[-1]["as_of"].timestamp() > instant for every in self.reader.sets.values())

        await self.until(newer, "a set that was made after the kill", deadline_s)

    async def until_restored(self, before: cluster.Job, since: float, deadline_s: float) -> cluster.Job:
        """Wait until every task runs again: of a job that restarted since then, or of another, from a checkpoint."""

        async def back() -> cluster.Job | None:
            jobs = await cluster.alive(self.runtime)
            assert len(jobs) < 2, f"{len(jobs)} copies of the job are alive: {jobs}"
            for job in jobs:
                if job.running and (job.job_id != before.job_id or job.restarted_ms > since * 1000):
                    return job
            return None

        job: cluster.Job = await self.until(back, f"the job is back ({before} before)", deadline_s)
        restored = await cluster.restored_checkpoint(self.runtime, job.job_id)
        assert restored is not None, "the job has forgotten everything: it began afresh"
        return job

    async def until_checkpoint_after(self, instant: float) -> int:
        """Wait for a complete checkpoint of the job that was begun after the instant (epoch seconds); its number."""
        job = await self.job()

        async def newer() -> int:
            number, begun = await cluster.completed_checkpoint(self.runtime, job.job_id)
            return number if begun > instant else 0

        return int(await self.until(newer, "a complete checkpoint", PATIENCE * 30))

    async def strike(self, kind: str, *victims: str) -> None:
        """Kill, wait until the job is back and publishes; how long both took is recorded."""
        before = await self.job()
        deadline_s = PATIENCE * BOUNDS_S[kind]
        with self.measured(BOUNDS_S[kind], *victims) as measured:
            at = await self.kill(*victims)
            if set(victims) & {"jobmanager", *processes.TASKMANAGERS}:
                await self.until_restored(before, at, deadline_s)
            else:
                await self.job()
            measured.running_s = measured.elapsed()
            await self.until_set_after(at if kind == "kafka" else time.time(), deadline_s)

    @contextmanager
    def measured(self, bound_s: int | None, *victims: str) -> Iterator[Measured]:
        """Measure a kill of the victims for the table: `data_s` is when the block ends, or never where it fails."""
        measured = Measured(time.monotonic())
        data_s = NEVER
        try:
            yield measured
            data_s = measured.elapsed()
        finally:
            self.kills.append(Kill(victims, bound_s, measured.running_s, data_s, os.getloadavg()[0]))

    async def busy_taskmanagers(self) -> list[str]:
        """The TaskManagers that run tasks of the job, by name."""
        return sorted(await cluster.hosts(self.runtime, (await self.job()).job_id))

    async def stop_selling(self) -> None:
        """End the load after what it is publishing; everything published is acknowledged then."""
        self.load.stopping = True
        await self.selling
        self.following.cancel()
        await asyncio.wait([self.following])

    async def compare(self) -> None:
        """After the load has ended: what is served is the oracle's, and nothing runs twice or is left over."""
        want = oracle.expected(self.load.published)

        async def read() -> oracle.Rankings:
            await self.reader.poll()
            return self.reader.served()

        hours = {set_key.start for set_key in want}

        async def stored() -> oracle.Rankings:
            return entries_of(await self.store.read_all(hours))

        newest = sorted(want, key=lambda set_key: set_key.start)[-8:]

        async def answered() -> oracle.Rankings:
            return entries_of(await self.rest.read(newest))

        await _equal(read, want, "rankings.*")
        assert_whole_and_growing(self.reader)
        await _equal(stored, want, "ClickHouse")
        await _equal(answered, {set_key: want[set_key] for set_key in newest}, "REST")
        job = await self.job()

        async def clean() -> bool:
            return not processes.left_behind(self.runtime)

        await self.until(clean, f"no process is left behind; there are {processes.left_behind(self.runtime)}", 60)
        hosts = await cluster.hosts(self.runtime, job.job_id)
        assert {name for name, _ in processes.workers(self.runtime).values()} == hosts


async def _equal(fetch: Callable[[], Awaitable[oracle.Rankings]], want: oracle.Rankings, what: str) -> None:
    """Wait until the fetched rankings are the wanted ones, to the cent; fails with two of the differences."""
    end = time.monotonic() + SETTLE_S
    while differences := oracle.differences(want, await fetch()):
        if time.monotonic() > end:
            some = "\n".join(differences[:2])
            pytest.fail(f"{what}: {len(differences)} of {len(want)} rankings differ after {SETTLE_S} s, so:\n{some}")
        await asyncio.sleep(0.5)


@asynccontextmanager
async def under_load(runtime: Runtime, seed: int, kills: list[Kill]) -> AsyncIterator[Scene]:
    """The runtime, with sales published and sets read all the while; begins when sets and a checkpoint are there."""
    load = Load(runtime, seed)
    async with follower(runtime) as reader, tables(runtime) as store, answers(runtime) as rest:

        async def follow() -> None:
            while True:
                await reader.poll()

        selling, following = asyncio.create_task(load.run()), asyncio.create_task(follow())
        try:
            scene = Scene(runtime, load, reader, store, rest, kills, selling, following)
            await scene.until_set_after(time.time(), PATIENCE * 60)
            await scene.until_checkpoint_after(0)
            yield scene
        finally:
            for task in (selling, following):
                task.cancel()
            await asyncio.wait([selling, following])
