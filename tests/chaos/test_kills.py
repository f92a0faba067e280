"""The ranking pipeline under kill -9: it comes back by itself, and in the end the rankings are the oracle's.

All tests strike at one runtime under one load, one after the other; the last one stops the load and compares.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from chassis.clickhouse import StoreUnavailableError
from tests.chaos import cluster, processes
from tests.chaos.kills import BOUNDS_S, PATIENCE, Kill, order
from tests.chaos.scene import Scene, under_load
from tests.histories import plain_sale
from tests.rankings import publisher
from tests.runtime import Runtime, start_runtime

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Kafka, the registry, a Flink cluster, the watcher that has submitted the job, ClickHouse with sink and API."""
    with start_runtime(tmp_path_factory.mktemp("chaos"), only=("flink_watcher", "clickhouse_sink", "api")) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(runtime: Runtime, kills: list[Kill], seed: int) -> AsyncIterator[Scene]:
    """The runtime under a load that goes on over all tests."""
    async with under_load(runtime, seed, kills) as begun:
        yield begun


async def test_a_watcher_killed_while_it_submits_leaves_one_job(scene: Scene) -> None:
    """The JobManager is killed, then the watcher in the middle of the submission: one job comes back, never two.

    This comes first, so that the kills of the other tests strike at a job that a watcher has adopted.
    """
    before = await scene.job()
    with scene.measured(None, "jobmanager", "flink_watcher") as measured:
        at = await scene.kill("jobmanager")
        await asyncio.to_thread(processes.until_submitting, scene.runtime, PATIENCE * BOUNDS_S["jobmanager"])
        await scene.kill("flink_watcher")
        await scene.until_restored(before, at, PATIENCE * 2 * BOUNDS_S["jobmanager"])
        measured.running_s = measured.elapsed()
        await scene.until_set_after(time.time(), PATIENCE * BOUNDS_S["jobmanager"])


async def test_the_job_is_back_in_time_after_each_of_many_kills(scene: Scene, seed: int, count: int) -> None:
    """TaskManager, JobManager, both at once or the broker, killed in a row: every task runs, and sets arrive again."""
    chance = random.Random(seed)
    for kind in order(seed, count):
        taskmanager = chance.choice(await scene.busy_taskmanagers())
        await scene.strike(kind, *(taskmanager if name == "taskmanager" else name for name in kind.split("+")))


@pytest.mark.parametrize("victims", [("clickhouse",), ("clickhouse_sink", "clickhouse")], ids=" ".join)
async def test_the_store_holds_new_rankings_soon_after_a_kill(scene: Scene, victims: tuple[str, ...]) -> None:
    """ClickHouse, alone and together with its writer, killed under load."""
    with scene.measured(None, *victims):
        at = await scene.kill(*victims)

        async def newer() -> bool:
            try:
                made = await scene.store.newest()
            except StoreUnavailableError:
                return False
            return made is not None and made.timestamp() > at

        await scene.until(newer, "ClickHouse holds a ranking that was made after the kill", PATIENCE * 30)


async def test_a_sale_that_came_and_went_around_a_kill_leaves_no_trace(scene: Scene) -> None:
    """Published with a sale, killed before a checkpoint, restored with the sale deleted: the ranking is without it."""
    runtime, at = scene.runtime, datetime(2025, 6, 1, tzinfo=UTC)
    async with publisher(runtime, scene.load.published) as sales:
        while True:
            at += timedelta(hours=1)
            key = ("rankings.city", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
            stays, passes = (
                plain_sale(0, at, sale_id=f"{city} {at}", city=city, amount=Decimal(amount))
                for city, amount in (("Fica", 100), ("Passa", 500))
            )

            async def ranked(*cities: str, of: tuple[str, str] = key) -> bool:
                every = scene.reader.sets[of]
                return bool(every) and tuple(entry["name"] for entry in every[-1]["entries"]) == cities

            await sales.publish([stays])
            await scene.until(lambda: ranked("Fica"), "the first sale is ranked", PATIENCE * 30)
            checkpoint = await scene.until_checkpoint_after(time.time())
            before = await scene.job()
            await sales.publish([passes])
            await scene.until(lambda: ranked("Passa", "Fica"), "the second sale is ranked", PATIENCE * 30)
            with scene.measured(None, *processes.TASKMANAGERS) as measured:
                since = await scene.kill(*processes.TASKMANAGERS)
                await sales.publish([replace(passes, version=2, deleted=True)])
                await scene.until_restored(before, since, PATIENCE * BOUNDS_S["taskmanager"])
                measured.running_s = measured.elapsed()
                await scene.until_set_after(time.time(), PATIENCE * BOUNDS_S["taskmanager"])
            await scene.until(lambda: ranked("Fica"), "the second sale is gone from the ranking", PATIENCE * 30)
            if await cluster.restored_checkpoint(runtime, before.job_id) == checkpoint:
                break  # else another checkpoint came between, and the restored state knew the second sale


async def test_in_the_end_all_is_as_if_nothing_had_been_killed(scene: Scene) -> None:
    """Topics, ClickHouse and REST equal the oracle, every set was whole, revisions grew, nothing was left behind."""
    await scene.stop_selling()
    await scene.compare()
