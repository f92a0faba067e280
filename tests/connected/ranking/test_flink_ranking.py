"""The ranking job on a real cluster: an emptied window, a future timestamp, its contract, and a lost JobManager."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from tests import oracle
from tests.connected.streams import until
from tests.histories import HOUR, history, plain_sale
from tests.rankings import (
    SALES,
    SETS,
    Reader,
    Sales,
    assert_whole_and_growing,
    jobmanager,
    jobs,
    registry_of,
    until_checkpointed,
    until_equal,
    until_own_right,
    until_running,
)
from tests.runtime import ROOT, Runtime
from tests.served import Answers, Tables

pytestmark = pytest.mark.timeout(900)

START = datetime(2024, 6, 1, tzinfo=UTC)


async def test_a_window_that_empties_publishes_an_empty_set_and_a_later_sale_corrects_it(
    sales: Sales, reader: Reader
) -> None:
    """Twelve cities, then seven, then none, then one: each time the whole set, the last one corrected."""
    at = START + timedelta(minutes=5)
    key = ("rankings.city", "2024-06-01T00:00:00Z")
    twelve = [plain_sale(number, at, sale_id=f"empty-{number}") for number in range(12)]
    gone = [replace(sale, version=2, deleted=True) for sale in twelve]

    def has(entries: int) -> bool:
        return bool(reader.sets[key]) and len(reader.sets[key][-1]["entries"]) == entries

    for changes, entries in ((twelve, 10), (gone[7:], 7), (gone[:7], 0), ([replace(twelve[0], version=3)], 1)):
        await sales.publish(changes)
        await reader.until(partial(has, entries), f"a set of {entries}")
        await until_own_right(reader, sales, f"{entries} entries")
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
        [
            plain_sale(1, now, sale_id="now"),
            plain_sale(2, now + timedelta(days=1), sale_id="tomorrow", ingestion_time=now),
        ]
    )
    await until_own_right(reader, sales, "both sales are counted")
    open_ends = [one for one in reader.last() if one["window_end"] > one["as_of"]]
    assert open_ends
    assert {one["status"] for one in open_ends} == {"provisional"}


async def test_a_total_beyond_the_largest_amount_is_ranked_and_served(
    sales: Sales, reader: Reader, store: Tables, rest: Answers
) -> None:
    """Three sales of the largest amount that is accepted: their total, exact to the cent, in the tables and by REST."""
    at = START + timedelta(days=3)
    largest = Decimal("9999999999999999.99")
    await sales.publish([plain_sale(1, at, sale_id=f"largest-{number}", amount=largest) for number in range(3)])
    await sales.publish([plain_sale(2, at, sale_id="beside the largest")])
    await until_own_right(reader, sales, "the total of the largest sales")
    set_key = oracle.SetKey("city", "", at)
    want = reader.served([at])[set_key]
    assert want[0].total == 3 * largest

    async def stored_and_served() -> bool:
        stored, served = (await store.read("city", [at])).get(set_key), await rest.one(set_key)
        return stored is not None and served is not None and stored.entries == served.entries == want

    await until(stored_and_served, f"tables and REST have {want}", 60)


async def test_an_aborted_sale_is_not_ranked(runtime: Runtime, sales: Sales, reader: Reader) -> None:
    """Of two transactions in one hour only the sale of the one that was committed is ranked."""
    at = START + timedelta(days=4)
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", transactional_id="ranking")
    await producer.start()
    try:
        for name, commits in (("aborted", False), ("committed", True)):
            sale = plain_sale(1, at, sale_id=name)
            await producer.begin_transaction()
            # both in one partition: what reads the second has passed the first
            await producer.send_and_wait(
                SALES, sales.encode(sale.record()), key=f"{sale.source}:{name}".encode(), partition=0
            )
            if commits:
                await producer.commit_transaction()
                sales.published.append(sale.record())
            else:
                await producer.abort_transaction()
    finally:
        await producer.stop()
    await until_own_right(reader, sales, "the committed sale, and not the aborted one")


async def test_the_topics_keep_the_one_schema_of_the_contract(runtime: Runtime, reader: Reader) -> None:
    """The job registers nothing: each subject still has one version."""
    await reader.until(lambda: reader.sets, "the job has published")
    for topic in SETS:
        assert await registry_of(runtime).get_versions(f"{topic}-value") == [1]


async def test_a_lost_jobmanager_loses_no_sale_and_no_revision_goes_back(
    runtime: Runtime, sales: Sales, reader: Reader, settled: Mapping[oracle.SetKey, tuple[oracle.Entry, ...]]
) -> None:
    """kill -9 of the JobManager: the watcher resumes the job from its newest checkpoint, and every ranking is right."""
    before = await until_running(runtime, "", 60)
    await until_checkpointed(runtime, before)
    jobmanager(runtime).kill()
    await sales.publish(history(12, 200, START + timedelta(days=1), hours=2))
    after = await until_running(runtime, before, 180)
    assert after != before
    want = {**settled, **oracle.expected(sales.published)}
    await until_equal(reader, want, "all rankings after the JobManager was killed", deadline_s=240)
    assert_whole_and_growing(reader)


async def test_a_record_that_nobody_can_decode_stops_the_job_until_it_is_skipped(
    runtime: Runtime, sales: Sales, reader: Reader
) -> None:
    """Not ready with its partition and offset; once skipped, the sales around it are ranked, and no job restarts."""
    at = START + timedelta(days=2)
    before = await until_running(runtime, "", 60)
    await until_checkpointed(runtime, before)
    await sales.publish([plain_sale(1, at, sale_id="undecodable-before")], partition=0)
    record = await sales.producer.send_and_wait(SALES, b"no Avro", partition=0)
    await sales.publish([plain_sale(2, at, sale_id="undecodable-after")], partition=0)
    where = f"{SALES}-0@{record.offset}"

    async def reason() -> bool:
        async with httpx.AsyncClient(timeout=10) as client:
            ready = await client.get(f"http://127.0.0.1:{runtime.env['FLINK_WATCHER_OPS_PORT']}/readyz")
        return ready.status_code == 503 and f"{where} cannot be decoded (wire_format" in ready.text

    await until(reason, f"the watcher is not ready because of {where}", 180)
    await until(lambda: _ended(runtime, before), "the job has ended", 60)
    skipped = await asyncio.to_thread(runtime.command, "run", "ranking-job", "--", "--skip")
    assert skipped.returncode == 0, skipped.stdout
    assert f"{SALES}-0 begins at {record.offset + 1} now" in skipped.stdout
    await until_running(runtime, before, 60)
    await until_own_right(reader, sales, "the sales before and after it", deadline_s=180)
    assert_whole_and_growing(reader)


async def _ended(runtime: Runtime, job_id: str) -> bool:
    return all(job["state"] == "CANCELED" for job in await jobs(runtime) if job["jid"] == job_id)


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
