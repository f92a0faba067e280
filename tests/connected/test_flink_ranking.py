"""The ranking job on a real cluster: two arrival orders against the oracle, quiet hours, and a lost JobManager."""

import asyncio
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from schema_registry.client import AsyncSchemaRegistryClient

from contracts import codec
from contracts.catalogue import catalogue
from tests import oracle
from tests.histories import HOUR, Change, history
from tests.runtime import ROOT, Runtime, start_runtime

pytestmark = pytest.mark.timeout(900)

SALES = "sales.unified"
SETS = ("rankings.city", "rankings.salesman")
IDLE_S = 3
START = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Kafka, the registry, a Flink cluster and the watcher that has submitted the job; silence ends after seconds."""
    state = tmp_path_factory.mktemp("flink")
    with start_runtime(state, only=("flink_watcher",), extra_env={"RANKING_IDLE_S": str(IDLE_S)}) as started:
        yield started


@dataclass
class Reader:
    """Follows `rankings.*` from the earliest record and keeps every set by topic and key, in order of arrival."""

    consumer: AIOKafkaConsumer
    decoder: codec.Decoder
    sets: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    async def poll(self) -> None:
        """Take in what has arrived."""
        for records in (await self.consumer.getmany(timeout_ms=200)).values():
            for record in records:
                value = await self.decoder.decode(record.value)
                self.sets[record.topic, record.key.decode()].append(value)

    def served(self) -> dict[oracle.Board, tuple[oracle.Place, ...]]:
        """What a reader of the highest revisions holds now."""
        return oracle.served(one for every in self.sets.values() for one in every)

    def last(self) -> list[dict[str, Any]]:
        """The newest set of every key."""
        return [every[-1] for every in self.sets.values()]

    async def until(self, condition: Callable[[], Any], what: str, deadline_s: float = 120) -> None:
        """Poll until the condition holds; `what` says what was waited for."""
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
            await self.poll()


@dataclass(frozen=True)
class Sales:
    """Publishes changes of sales, and remembers all that were ever published."""

    producer: AIOKafkaProducer
    encode: codec.Encoder
    published: list[Mapping[str, Any]]

    async def publish(self, changes: Sequence[Change]) -> None:
        """Send the changes in this order and wait until the broker has them."""
        records = [change.record() for change in changes]
        keys = [f"{change.source}:{change.sale_id}".encode() for change in changes]
        for key, record in zip(keys, records, strict=True):
            await self.producer.send(SALES, self.encode(record), key=key)
        await self.producer.flush()
        self.published.extend(records)


PUBLISHED: list[Mapping[str, Any]] = []


@pytest.fixture
async def registry(runtime: Runtime) -> AsyncSchemaRegistryClient:
    """A client of the runtime's registry."""
    return AsyncSchemaRegistryClient(f"http://127.0.0.1:{runtime.env['SCHEMA_REGISTRY_PORT']}/apis/ccompat/v7")


@pytest.fixture
async def sales(runtime: Runtime, registry: AsyncSchemaRegistryClient) -> AsyncIterator[Sales]:
    """A publisher on the runtime's broker; all tests of the module share what was published."""
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", enable_idempotence=True)
    await producer.start()
    yield Sales(producer, await codec.encoder(registry, catalogue()[SALES]), PUBLISHED)
    await producer.stop()


@pytest.fixture
async def reader(runtime: Runtime, registry: AsyncSchemaRegistryClient) -> AsyncIterator[Reader]:
    """A reader of everything that the job ever published."""
    consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}")
    await consumer.start()
    partitions = [TopicPartition(topic, 0) for topic in SETS]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    yield Reader(consumer, codec.Decoder(registry, catalogue()[SETS[0]]))
    await consumer.stop()


def assert_whole_and_growing(reader: Reader) -> None:
    """Every set is one whole ranking under its key, and its revision is higher than that of the set before."""
    for (topic, key), every in reader.sets.items():
        for one in every:
            start = one["window_start"].strftime("%Y-%m-%dT%H:%M:%SZ")
            assert topic == f"rankings.{one['ranking']}"
            assert key == (start if one["ranking"] == "city" else f"{start}/{one['country']}")
            assert [entry["rank"] for entry in one["entries"]] == list(range(1, len(one["entries"]) + 1))
            order = [(-entry["total_sales"], entry["name"]) for entry in one["entries"]]
            assert order == sorted(order)
            assert len(order) <= 10
        revisions = [one["revision"] for one in every]
        assert revisions == sorted(set(revisions)), f"{topic} {key}"


async def until_right(reader: Reader, sales: Sales, what: str, deadline_s: float = 120) -> None:
    """Wait until the served rankings equal the oracle's to the cent; show the differences otherwise."""
    want = oracle.expected(sales.published)
    try:
        await reader.until(lambda: reader.served().items() >= want.items(), what, deadline_s)
        await reader.until(lambda: not oracle.differences(want, reader.served()), what, deadline_s)
    except AssertionError:
        differences = oracle.differences(want, reader.served())
        pytest.fail(f"{what}: {len(differences)} windows differ, for example {differences[:2]}")


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


async def test_the_topics_keep_the_one_schema_of_the_contract(
    reader: Reader, registry: AsyncSchemaRegistryClient
) -> None:
    """The job registers nothing: each subject still has one version."""
    await reader.until(lambda: reader.sets, "the job has published")
    for topic in SETS:
        assert await registry.get_versions(f"{topic}-value") == [1]


async def _jobs(runtime: Runtime) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}/jobs/overview"
    async with httpx.AsyncClient(timeout=5) as client:
        try:
            return list((await client.get(url)).json()["jobs"])
        except httpx.TransportError:
            return []


async def _until_running(runtime: Runtime, but_not: str, deadline_s: float) -> str:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        for job in await _jobs(runtime):
            if job["jid"] != but_not and job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"]:
                return str(job["jid"])
        await asyncio.sleep(0.2)
    pytest.fail(f"no other job than {but_not} was running within {deadline_s} s")


def _jobmanager(runtime: Runtime) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "StandaloneSessionClusterEntrypoint" in line and str(runtime.state_dir) in line:
            return process
    pytest.fail("no JobManager of this runtime")


async def _checkpointed(runtime: Runtime, job_id: str) -> None:
    end = time.monotonic() + 60
    while not list((runtime.state_dir / "flink" / "checkpoints" / job_id).glob("chk-*/_metadata")):
        assert time.monotonic() < end, "no checkpoint within 60 s"
        await asyncio.sleep(0.2)


async def test_a_lost_jobmanager_loses_no_sale_and_no_revision_goes_back(
    runtime: Runtime, sales: Sales, reader: Reader
) -> None:
    """kill -9 of the JobManager: the watcher resumes the job from its newest checkpoint, and totals go on."""
    before = await _until_running(runtime, "", 60)
    await _checkpointed(runtime, before)
    _jobmanager(runtime).kill()
    await sales.publish(history(12, 200, START + timedelta(days=30), hours=2))
    after = await _until_running(runtime, before, 180)
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
