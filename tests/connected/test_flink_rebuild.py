"""The ranking job is replaced on a real cluster: rebuilt beside the running one, upgraded, changed in meaning.

The tests share one cluster and its log, and run in this order: the later ones cut off the log's beginning.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts import codec
from contracts.catalogue import catalogue
from contracts.rankings import BY_NAME
from tests import oracle
from tests.histories import HOUR, Change, history, plain_sale
from tests.rankings import (
    SALES,
    Reader,
    Sales,
    assert_whole_and_growing,
    jobs,
    registry_of,
    until_checkpointed,
    until_right,
)
from tests.runtime import ROOT, Runtime, start_runtime

pytestmark = pytest.mark.timeout(900)

START = datetime(2026, 2, 1, tzinfo=UTC)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LONG_AGO = TODAY - timedelta(days=100)
PATIENCE_S = 300


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Kafka, the registry, a Flink cluster and the watcher that has submitted the job."""
    with start_runtime(tmp_path_factory.mktemp("rebuild"), only=("flink_watcher",)) as started:
        yield started


@pytest.fixture(scope="module")
def published() -> list[Mapping[str, Any]]:
    """What the tests of the module have published so far."""
    return []


def _sale(number: int, at: datetime, **fixed: Any) -> Change:
    name = {"city": f"Cidade {number % 7}", "salesman_name": f"Vendedor {number % 7}"}
    return plain_sale(number, at, **{"sale_id": f"rebuild-{number}", **name, **fixed})


async def _alive(runtime: Runtime) -> list[tuple[str, str]]:
    """Name and id of every job that has not ended."""
    ended = ("FAILED", "CANCELED", "FINISHED")
    return [(job["name"], job["jid"]) for job in await jobs(runtime) if job["state"] not in ended]


async def _the_job(runtime: Runtime) -> str:
    """The id of the one job that is there."""
    [(name, job_id)] = await _alive(runtime)
    assert name == "ranking"
    return job_id


async def _until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE_S} s: {what}"
        await asyncio.sleep(0.2)


@contextmanager
def _rebuilding(runtime: Runtime, output: Path) -> Iterator[subprocess.Popen[str]]:
    """A rebuild in a process group of its own, which is gone at the end."""
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.native", "run", "ranking-job", "--", "--rebuild"],
            cwd=ROOT,
            env=dict(runtime.env),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def test_a_rebuild_repairs_what_is_served_while_sales_arrive(
    runtime: Runtime, sales: Sales, reader: Reader, tmp_path: Path
) -> None:
    """A wrong set that no sale would ever touch again becomes the oracle's; one job is left, and no sale is missed."""
    await sales.publish(history(21, 600, START, hours=4))
    await until_right(reader, sales, "rankings before the rebuild")
    before = await _the_job(runtime)

    encode = await codec.encoder(registry_of(runtime), catalogue()["rankings.city"])
    bogus = [{"rank": 1, "name": "Atlantis", "total_sales": Decimal("1.00"), "transaction_count": 1}]
    for start in (START, START + 6 * HOUR):  # the second has lost all its sales
        key = "rankings.city", f"{start:%Y-%m-%dT%H:%M:%SZ}"
        await reader.until(partial(reader.sets.get, key), "the window is published, even if it is empty")
        right = reader.sets[key][-1]
        value = encode({**right, "revision": right["revision"] + 1, "entries": bogus})
        await sales.producer.send_and_wait(key[0], value, key=key[1].encode())
        await reader.until(partial(_serves, reader, key, bogus), "the planted set is served")
    begun_ms = time.time_ns() // 1_000_000
    keys = set(reader.sets)

    output = tmp_path / "output"
    arrived = 0
    with _rebuilding(runtime, output) as process:
        while process.poll() is None:
            await sales.publish([_sale(arrived, START + timedelta(minutes=arrived % 240))])
            arrived += 1
            await reader.poll()
        printed = output.read_text()
        assert process.returncode == 0, printed
    assert arrived > 20
    assert re.search(r"\d{4} of \d{4} records \(9\d %\)|\(100 %\)", printed)
    assert "the rankings stood still for" in printed

    await until_right(reader, sales, "rankings after the rebuild")
    assert_whole_and_growing(reader)
    heard_of = keys & {_key(set_key) for set_key in oracle.expected(sales.published)}
    assert min(reader.sets[one][-1]["revision"] for one in heard_of) > begun_ms
    assert await _the_job(runtime) != before


def _serves(reader: Reader, key: tuple[str, str], entries: list[dict[str, Any]]) -> bool:
    return bool(reader.sets[key][-1]["entries"] == entries)


def _key(set_key: oracle.SetKey) -> tuple[str, str]:
    ranking = BY_NAME[set_key.ranking]
    start = f"{set_key.start:%Y-%m-%dT%H:%M:%SZ}"
    return ranking.topic, f"{start}/{set_key.country}" if ranking.per_country else start


async def test_a_killed_rebuild_leaves_the_old_job_and_no_shadow(
    runtime: Runtime, sales: Sales, reader: Reader, tmp_path: Path
) -> None:
    """While it lives a second one is rejected; after kill -9 the watcher ends its shadow, and the rankings go on."""
    before = await _the_job(runtime)
    output = tmp_path / "output"
    with _rebuilding(runtime, output) as process:
        await _until(lambda: "reads sales.unified" in output.read_text() or process.poll() is not None, "a shadow")
        os.killpg(process.pid, signal.SIGSTOP)  # or it could end before the second one is rejected
        assert sorted(name for name, _ in await _alive(runtime)) == ["ranking", "ranking-rebuild"]
        second = await asyncio.to_thread(runtime.command, "run", "ranking-job", "--", "--rebuild")
        assert second.returncode == 1, second.stdout
        assert "another rebuild is under way" in second.stdout
        os.killpg(process.pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while await _alive(runtime) != [("ranking", before)]:
        assert time.monotonic() < end, f"the shadow is still there: {await _alive(runtime)}"
        await asyncio.sleep(0.2)
    await sales.publish([_sale(5000, START)])
    await until_right(reader, sales, "rankings after the killed rebuild")


async def _cut_log(runtime: Runtime) -> None:
    """Remove every record that sales.unified holds, as its retention would; afterwards it begins where it ends."""
    bootstrap = f"127.0.0.1:{runtime.env['KAFKA_PORT']}"
    partitions = [TopicPartition(SALES, number) for number in range(catalogue()[SALES].partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    ends = await consumer.end_offsets(partitions)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records({partition: RecordsToDelete(before_offset=end) for partition, end in ends.items()})
    await admin.close()
    assert await consumer.beginning_offsets(partitions) == ends
    await consumer.stop()


async def _restored(runtime: Runtime, job_id: str) -> dict[str, Any]:
    """What Flink says that the job was restored from."""
    url = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}/jobs/{job_id}/checkpoints"
    async with httpx.AsyncClient(timeout=10) as client:
        restored: dict[str, Any] = (await client.get(url)).json()["latest"]["restored"]
    assert restored is not None, f"{job_id} was restored from nothing"
    return restored


async def test_an_upgrade_goes_on_from_the_totals_that_it_finds(runtime: Runtime, sales: Sales, reader: Reader) -> None:
    """Another interval: a new job continues the old totals, although the log no longer holds what they were made of."""
    before = await _the_job(runtime)
    await sales.publish([_sale(5500 + number, START + timedelta(minutes=10 * number)) for number in range(24)])
    await until_right(reader, sales, "totals before the upgrade")
    await _cut_log(runtime)
    changed = replace(runtime, env={**runtime.env, "RANKING_EMIT_INTERVAL_MS": "500"})
    run = await asyncio.to_thread(changed.command, "run", "ranking-job")
    assert run.returncode == 0, run.stdout
    after = await _the_job(runtime)
    assert after != before
    assert "ranking-rebuild" not in run.stdout
    assert (await _restored(runtime, after))["is_savepoint"]
    await sales.publish([_sale(6000 + number, START + timedelta(minutes=10 * number)) for number in range(24)])
    await until_right(reader, sales, "totals go on after the upgrade")
    assert_whole_and_growing(reader)
    await until_checkpointed(runtime, after)
    assert await _the_job(runtime) == after, "the watcher, which was started with the other interval, leaves it alone"


async def _counted(runtime: Runtime, job_id: str, metric: str) -> float:
    url = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}/jobs/{job_id}"
    total = 0.0
    async with httpx.AsyncClient(timeout=10) as client:
        for vertex in (await client.get(url)).json()["vertices"]:
            of = f"{url}/vertices/{vertex['id']}/metrics"
            names = [one["id"] for one in (await client.get(of)).json() if one["id"].endswith(f".{metric}")]
            if names:
                values = (await client.get(of, params={"get": ",".join(names)})).json()
                total += sum(float(one["value"]) for one in values)
    return total


async def test_a_change_to_a_window_that_the_log_may_have_lost_is_rejected_and_counted(
    runtime: Runtime, sales: Sales, reader: Reader
) -> None:
    """Rebuilt from a log without its beginning: a window of long ago stays as served, one of today is ranked."""
    await sales.publish([_sale(7000, LONG_AGO, sale_id="long-ago")])
    await until_right(reader, sales, "the young state ranks a window of any age")
    await _cut_log(runtime)
    run = await asyncio.to_thread(runtime.command, "run", "ranking-job", "--", "--rebuild")
    assert run.returncode == 0, run.stdout
    served = dict(reader.served())

    job_id = await _the_job(runtime)
    await sales.publish([_sale(7001, LONG_AGO, sale_id="too-late")])
    late = sales.published.pop()  # the oracle is not to count it
    await sales.publish([_sale(7002, TODAY - timedelta(days=3), sale_id="today")])
    key = "rankings.city", f"{TODAY - timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
    await reader.until(lambda: key in reader.sets, "the window of today is ranked")
    end = time.monotonic() + PATIENCE_S
    while await _counted(runtime, job_id, "closedWindowChanges") < 2:  # its city and its salesperson
        assert time.monotonic() < end, "the rejected changes are not counted"
        await reader.poll()
    assert late["event_time"] == LONG_AGO
    assert {set_key: reader.served()[set_key] for set_key in served} == served


async def test_another_meaning_is_computed_beside_the_old_one_before_it_is_published(
    runtime: Runtime, sales: Sales, reader: Reader
) -> None:
    """Windows of two hours instead of one: everything is recomputed in a shadow, and only whole sets are published."""
    start = TODAY - timedelta(days=2)
    many = [
        _sale(8000 + number, start + number % 2 * HOUR, city="Recife", sale_id=f"two-{number}") for number in range(50)
    ]
    await sales.publish(many)
    await until_right_at(reader, start, sum(sale.amount for sale in many[::2]))
    before = await _the_job(runtime)
    changed = replace(runtime, env={**runtime.env, "RANKING_WINDOWS": "2h"})
    run = await asyncio.to_thread(changed.command, "run", "ranking-job")
    assert run.returncode == 0, run.stdout
    assert "ranking-rebuild" in run.stdout
    assert await _the_job(runtime) != before
    total = sum(sale.amount for sale in many)
    await until_right_at(reader, start, total)
    sets = reader.sets["rankings.city", f"{start:%Y-%m-%dT%H:%M:%SZ}"]
    long = [one["entries"][0]["total_sales"] for one in sets if one["window_end"] - one["window_start"] == 2 * HOUR]
    assert set(long) == {total}


async def until_right_at(reader: Reader, start: datetime, total: Decimal | int) -> None:
    """Wait until the first city of the window that begins at `start` has this total."""
    sets = reader.sets["rankings.city", f"{start:%Y-%m-%dT%H:%M:%SZ}"]
    await reader.until(lambda: sets and sets[-1]["entries"][0]["total_sales"] == total, f"a total of {total}")
