"""Drives the ranking job on a real cluster: publishes sales, reads the sets that come of them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from schema_registry.client import AsyncSchemaRegistryClient

from contracts import codec
from contracts.catalogue import catalogue
from contracts.rankings import BY_NAME, RANKINGS
from tests import oracle
from tests.histories import Change
from tests.runtime import Runtime

SALES = "sales.unified"
SETS = tuple(ranking.topic for ranking in RANKINGS)


@dataclass
class Reader:
    """Follows `rankings.*` from the earliest record and keeps every set by topic and key, in order of arrival."""

    consumer: AIOKafkaConsumer
    decoder: codec.Decoder
    sets: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    newest: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """Of each key the set of the highest revision: what a reader holds."""

    async def poll(self, patience_ms: int = 200) -> None:
        """Take in what has arrived, or arrives within the patience."""
        for records in (await self.consumer.getmany(timeout_ms=patience_ms)).values():
            for record in records:
                value, key = await self.decoder.decode(record.value), (record.topic, record.key.decode())
                self.sets[key].append(value)
                if key not in self.newest or value["revision"] >= self.newest[key]["revision"]:
                    self.newest[key] = value

    def served(self, hours: Collection[datetime] | None = None) -> dict[oracle.SetKey, tuple[oracle.Entry, ...]]:
        """What a reader of the highest revisions holds now, of all windows or of those that begin at `hours`."""
        return oracle.served(one for one in self.newest.values() if hours is None or one["window_start"] in hours)

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

    async def publish(self, changes: Sequence[Change], partition: int | None = None) -> None:
        """Send the changes in this order, to the partitions of their keys or to this one; the broker has them then."""
        records = [change.record() for change in changes]
        keys = [f"{change.source}:{change.sale_id}".encode() for change in changes]
        for key, record in zip(keys, records, strict=True):
            await self.producer.send(SALES, self.encode(record), key=key, partition=partition)
        await self.producer.flush()
        self.published.extend(records)


def registry_of(runtime: Runtime) -> AsyncSchemaRegistryClient:
    """A client of the runtime's registry."""
    return AsyncSchemaRegistryClient(f"http://127.0.0.1:{runtime.env['SCHEMA_REGISTRY_PORT']}/apis/ccompat/v7")


@asynccontextmanager
async def publisher(runtime: Runtime, published: list[Mapping[str, Any]]) -> AsyncIterator[Sales]:
    """A publisher on the runtime's broker; it adds to `published` what it sends."""
    producer = AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", enable_idempotence=True, max_batch_size=256 * 1024
    )
    await producer.start()
    try:
        yield Sales(producer, await codec.encoder(registry_of(runtime), catalogue()[SALES]), published)
    finally:
        await producer.stop()


@asynccontextmanager
async def follower(runtime: Runtime) -> AsyncIterator[Reader]:
    """A reader of everything that the job ever published."""
    consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, 0) for topic in SETS]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield Reader(consumer, codec.Decoder(registry_of(runtime), catalogue()[SETS[0]]))
    finally:
        await consumer.stop()


def assert_whole_and_growing(reader: Reader) -> None:
    """Every set is one whole ranking under its key, and its revision is higher than that of the set before."""
    for (topic, key), every in reader.sets.items():
        for one in every:
            start = one["window_start"].strftime("%Y-%m-%dT%H:%M:%SZ")
            assert topic == f"rankings.{one['ranking']}"
            assert key == (f"{start}/{one['country']}" if BY_NAME[one["ranking"]].per_country else start)
            assert [entry["rank"] for entry in one["entries"]] == list(range(1, len(one["entries"]) + 1))
            order = [(-entry["total_sales"], entry["name"]) for entry in one["entries"]]
            assert order == sorted(order)
            assert len(order) <= 10
        revisions = [one["revision"] for one in every]
        not_growing = [pair for pair in pairwise(revisions) if pair[0] >= pair[1]]
        assert not not_growing, f"{topic} {key}: {len(not_growing)} of {len(revisions)} revisions, {not_growing[:3]}"


async def until_right(reader: Reader, sales: Sales, what: str, deadline_s: float = 120) -> None:
    """Wait until the served rankings equal the oracle's to the cent; show the differences otherwise."""
    await until_equal(reader, oracle.expected(sales.published), what, deadline_s=deadline_s)


async def until_own_right(reader: Reader, sales: Sales, what: str, deadline_s: float = 120) -> None:
    """The same for the hours in which something was published: where others publish sales elsewhere."""
    want, hours = oracle.expected(sales.published), oracle.hours(sales.published)
    await until_equal(reader, want, what, hours=hours, deadline_s=deadline_s)


async def until_equal(
    reader: Reader,
    want: oracle.Rankings,
    what: str,
    *,
    hours: Collection[datetime] | None = None,
    deadline_s: float = 120,
) -> None:
    """Wait until exactly `want` is served, in all windows or in those that begin at `hours`; else show differences."""
    try:
        await reader.until(lambda: not oracle.differences(want, reader.served(hours)), what, deadline_s)
    except AssertionError:
        differences = oracle.differences(want, reader.served(hours))
        pytest.fail(f"{what}: {len(differences)} windows differ, for example {differences[:2]}")


async def jobs(runtime: Runtime) -> list[dict[str, Any]]:
    """What the cluster lists; nothing while it is unavailable or has no leader yet."""
    url = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}/jobs/overview"
    async with httpx.AsyncClient(timeout=5) as client:
        try:
            answer = await client.get(url)
        except httpx.TransportError:
            return []
    return list(answer.json()["jobs"]) if answer.is_success else []


async def until_running(runtime: Runtime, but_not: str, deadline_s: float) -> str:
    """The id of a job other than `but_not` of which every task runs; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        for job in await jobs(runtime):
            if job["jid"] != but_not and job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"]:
                return str(job["jid"])
        await asyncio.sleep(0.2)
    pytest.fail(f"no other job than {but_not} was running within {deadline_s} s")


def jobmanager(runtime: Runtime) -> psutil.Process:
    """The JobManager of this runtime."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "StandaloneSessionClusterEntrypoint" in line and str(runtime.state_dir) in line:
            return process
    pytest.fail("no JobManager of this runtime")


async def until_checkpointed(runtime: Runtime, job_id: str) -> None:
    """Wait for a complete checkpoint of the job."""
    end = time.monotonic() + 60
    while not list((runtime.state_dir / "flink" / "checkpoints" / job_id).glob("chk-*/_metadata")):
        assert time.monotonic() < end, "no checkpoint within 60 s"
        await asyncio.sleep(0.2)
