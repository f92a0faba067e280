"""Drives the ranking job on a real cluster: publishes sales, reads the sets that come of them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from schema_registry.client import AsyncSchemaRegistryClient

from contracts import codec
from contracts.catalogue import catalogue
from tests import oracle
from tests.histories import Change
from tests.runtime import Runtime

SALES = "sales.unified"
SETS = ("rankings.city", "rankings.salesman")


@dataclass
class Reader:
    """Follows `rankings.*` from the earliest record and keeps every set by topic and key, in order of arrival."""

    consumer: AIOKafkaConsumer
    decoder: codec.Decoder
    sets: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    async def poll(self, patience_ms: int = 200) -> None:
        """Take in what has arrived, or arrives within the patience."""
        for records in (await self.consumer.getmany(timeout_ms=patience_ms)).values():
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


def registry_of(runtime: Runtime) -> AsyncSchemaRegistryClient:
    """A client of the runtime's registry."""
    return AsyncSchemaRegistryClient(f"http://127.0.0.1:{runtime.env['SCHEMA_REGISTRY_PORT']}/apis/ccompat/v7")


@asynccontextmanager
async def publisher(runtime: Runtime, published: list[Mapping[str, Any]]) -> AsyncIterator[Sales]:
    """A publisher on the runtime's broker; it adds to `published` what it sends."""
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", enable_idempotence=True)
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


async def jobs(runtime: Runtime) -> list[dict[str, Any]]:
    """What the cluster lists; nothing while it is away."""
    url = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}/jobs/overview"
    async with httpx.AsyncClient(timeout=5) as client:
        try:
            return list((await client.get(url)).json()["jobs"])
        except httpx.TransportError:
            return []


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
