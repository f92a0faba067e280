"""The ranking job on a real cluster: two arrival orders against the oracle, quiet hours, and a lost JobManager."""

import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from tests import oracle
from tests.histories import HOUR, Change, history
from tests.rankings import (
    SETS,
    Reader,
    Sales,
    assert_whole_and_growing,
    follower,
    jobmanager,
    publisher,
    registry_of,
    until_checkpointed,
    until_right,
    until_running,
)
from tests.runtime import ROOT, Runtime, start_runtime

pytestmark = pytest.mark.timeout(900)

IDLE_S = 3
START = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Kafka, the registry, a Flink cluster and the watcher that has submitted the job; silence ends after seconds."""
    state = tmp_path_factory.mktemp("flink")
    with start_runtime(state, only=("flink_watcher",), extra_env={"RANKING_IDLE_S": str(IDLE_S)}) as started:
        yield started


PUBLISHED: list[Mapping[str, Any]] = []


@pytest.fixture
async def sales(runtime: Runtime) -> AsyncIterator[Sales]:
    """A publisher on the runtime's broker; all tests of the module share what was published."""
    async with publisher(runtime, PUBLISHED) as started:
        yield started


@pytest.fixture
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    """A reader of everything that the job ever published."""
    async with follower(runtime) as started:
        yield started


@pytest.mark.parametrize(("order", "day"), [("ingestion", 0), ("shuffled", 10)])
async def test_rankings_equal_the_oracle_in_every_arrival_order(
    sales: Sales, reader: Reader, order: str, day: int
) -> None:
    """Inserts, updates, moves, deletes, repeats, late and tied sales: the last sets are the oracle's, to the cent."""
    changes = [
        replace(change, sale_id=f"{order}-{change.sale_id}")
        for change in history(11, 1500, START + timedelta(days=day), hours=6)
    ]
    if order == "shuffled":
        random.Random(5).shuffle(changes)
    await sales.publish(changes)
    await until_right(reader, sales, f"rankings of the history in {order} order")
    assert_whole_and_growing(reader)


async def test_past_windows_end_without_further_sales(reader: Reader) -> None:
    """After seconds of silence every past window is final or corrected; no sale had to arrive for that."""
    await reader.until(lambda: reader.sets, "sets of the tests before")
    await reader.until(
        lambda: all(one["status"] in ("final", "corrected") for one in reader.last()), "every past window has ended"
    )


def _sale(number: int, at: datetime, **fixed: Any) -> Change:
    sale = Change(
        sale_id=f"live-{number}",
        source="postgres",
        salesman_name=f"Vendedor {number}",
        city=f"Cidade {number}",
        country="BR",
        amount=Decimal("10.00") + number,
        product="SSD",
        event_time=at,
        ingestion_time=at,
        version=1,
        deleted=False,
    )
    return replace(sale, **fixed)


async def test_a_window_that_empties_publishes_an_empty_set_and_a_later_sale_corrects_it(
    sales: Sales, reader: Reader
) -> None:
    """Twelve cities, then seven, then none, then one: each time the whole set, the last one corrected."""
    at = START + timedelta(days=20, minutes=5)
    key = ("rankings.city", "2026-02-21T00:00:00Z")
    twelve = [_sale(number, at, sale_id=f"empty-{number}") for number in range(12)]
    gone = [replace(sale, version=2, deleted=True) for sale in twelve]

    def has(entries: int) -> bool:
        return bool(reader.sets[key]) and len(reader.sets[key][-1]["entries"]) == entries

    for changes, entries in ((twelve, 10), (gone[7:], 7), (gone[:7], 0), ([replace(twelve[0], version=3)], 1)):
        await sales.publish(changes)
        await reader.until(partial(has, entries), f"a set of {entries}")
        await until_right(reader, sales, f"{entries} entries")
        if entries == 0:
            await reader.until(lambda: reader.sets[key][-1]["status"] != "provisional", "the silent window ends")
    await reader.until(lambda: reader.sets[key][-1]["status"] == "corrected", "the change of an ended window shows")
    assert_whole_and_growing(reader)


async def test_a_future_timestamp_ends_no_window_early(sales: Sales, reader: Reader) -> None:
    """A sale dated tomorrow leaves the current hour provisional, and is counted in its own hour."""
    now = datetime.now(UTC)
    if now + timedelta(seconds=30) > oracle.hour_of(now) + HOUR:  # too close to the end of the hour to tell
        now = oracle.hour_of(now) + HOUR
    await sales.publish(
        [_sale(1, now, sale_id="now"), _sale(2, now + timedelta(days=1), sale_id="tomorrow", ingestion_time=now)]
    )
    await until_right(reader, sales, "both sales are counted")
    open_ends = [one for one in reader.last() if one["window_end"] > one["as_of"]]
    assert open_ends
    assert {one["status"] for one in open_ends} == {"provisional"}


async def test_the_topics_keep_the_one_schema_of_the_contract(runtime: Runtime, reader: Reader) -> None:
    """The job registers nothing: each subject still has one version."""
    await reader.until(lambda: reader.sets, "the job has published")
    for topic in SETS:
        assert await registry_of(runtime).get_versions(f"{topic}-value") == [1]


async def test_a_lost_jobmanager_loses_no_sale_and_no_revision_goes_back(
    runtime: Runtime, sales: Sales, reader: Reader
) -> None:
    """kill -9 of the JobManager: the watcher resumes the job from its newest checkpoint, and totals go on."""
    before = await until_running(runtime, "", 60)
    await until_checkpointed(runtime, before)
    jobmanager(runtime).kill()
    await sales.publish(history(12, 200, START + timedelta(days=30), hours=2))
    after = await until_running(runtime, before, 180)
    assert after != before
    await until_right(reader, sales, "rankings after the JobManager was killed")
    assert_whole_and_growing(reader)


def test_submitting_again_leaves_the_running_job_alone(runtime: Runtime) -> None:
    """A second submission finds the job running, says so, and changes nothing."""
    runs = [
        subprocess.run(
            [sys.executable, "-m", "services.flink_watcher", "--once"],
            cwd=ROOT,
            env=dict(runtime.env),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.endswith("RUNNING\n")
