"""The newest ranking sets, followed in Kafka, and the clients that follow them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import httpx
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from schema_registry.client.errors import ClientError

from chassis import kafka
from chassis.metrics import Metrics
from chassis.registry import Registry
from chassis.unit import Unit
from contracts.codec import DecodeError, Decoder
from contracts.rankings import RANKINGS, RankingDefinition
from contracts.windows import topics
from services.api.live_rankings import Frame, LiveRankings, LiveSet, Subscription, live_set
from services.api.metrics import (
    CONNECTIONS,
    FRAMES_SENT,
    LAG,
    LIVE_RECORDS,
    RESUMES,
    SENT_SECONDS,
    SLOW_CLIENTS,
)
from services.api.settings import ApiSettings

Kind = Literal["websocket", "sse"]
MAX_RECORDS = 100  # records between two turns of everybody else
NEED = "rankings"
GONE = 1000
SLOW = (1013, "too slow: connect again with since")
STOPPING = (1012, "the server stops: connect again with since")


class Client:
    """One connected client: what it wants, and what it has not been sent yet, at most the newest set of each window.

    Whatever sends is one task at a time, `sending`; everything else only leaves frames here.
    """

    __slots__ = ("_limit", "_metrics", "_pending", "_wake", "ended", "kind", "subscription")

    def __init__(self, kind: Kind, metrics: Metrics, subscription: Subscription, limit: int) -> None:
        self.kind = kind
        self._metrics = metrics
        self._limit = limit
        self._pending: dict[object, Frame] = {}
        self._wake = asyncio.Event()
        self.subscription = subscription
        self.ended: tuple[int, str] | None = None

    def offer(self, key: object, frame: Frame) -> None:
        """Have the frame sent after all others; one of the same key that still waits is left out.

        A client with more waiting than the limit is too slow. One that has ended is sent nothing more.
        """
        if self.ended is not None:
            return
        self._pending.pop(key, None)
        self._pending[key] = frame
        self._wake.set()
        if len(self._pending) > self._limit:
            self.end(*SLOW)

    def restart(self, subscription: Subscription, snapshot: Frame) -> None:
        """Another subscription: what waits was of the old one, the snapshot is next."""
        self.subscription = subscription
        self._pending = {key: frame for key, frame in self._pending.items() if frame.name in ("hello", "error")}
        self.offer("snapshot", snapshot)

    def end(self, code: int, reason: str) -> None:
        """Send no more than the errors that wait, and close so; the first call decides."""
        if self.ended is None:
            self._pending = {key: frame for key, frame in self._pending.items() if frame.name == "error"}
            self.ended = code, reason
            self._wake.set()

    async def sending(self, send: Callable[[Frame], Awaitable[None]], limit_s: float) -> tuple[int, str]:
        """Send what is offered until the client has ended; then how it is to be closed.

        Too slow is a client that does not take one frame within `limit_s` seconds, so that the next cannot be written.
        """
        sent, age = self._metrics[FRAMES_SENT], self._metrics[SENT_SECONDS]
        while True:
            while self._pending:
                key = next(iter(self._pending))
                frame = self._pending.pop(key)
                try:
                    async with asyncio.timeout(limit_s):
                        await send(frame)
                except TimeoutError:
                    self.end(*SLOW)
                    self._pending.clear()
                    break
                sent.inc({"kind": self.kind, "type": frame.name})
                if frame.as_of is not None:
                    age.observe({"kind": self.kind}, max(0.0, time.time() - frame.as_of))
            if self.ended is not None:
                if self.ended == SLOW:
                    self._metrics[SLOW_CLIENTS].inc({"kind": self.kind})
                return self.ended
            self._wake.clear()
            await self._wake.wait()


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 0.2, doubled with each, at most 10, and up to a second more."""
    return min(10.0, 0.1 * (1 << min(failures, 7))) + random.random()  # noqa: S311 - no secret


@dataclass(frozen=True)
class Source:
    """What a topic holds: which ranking, over windows of which length, and how its records are read."""

    ranking: RankingDefinition
    length: str
    decoder: Decoder


class Hub:
    """The newest sets, kept up to date from Kafka, and the clients that want to know."""

    def __init__(self, unit: Unit, settings: ApiSettings) -> None:
        self.metrics = unit.metrics
        self.labels = [length.label for length in settings.ranking.lengths]
        self.synced = False
        self._unit = unit
        self._settings = settings
        self._clients: set[Client] = set()
        self._stopping = False
        self._polls = 0
        registry = Registry(unit, settings.registry)
        self._sources = {
            topic: Source(ranking, label, registry.decoder(ranking.topic))
            for ranking in RANKINGS
            for label, topic in topics(ranking.topic, settings.ranking.lengths).items()
        }
        self.rankings = LiveRankings((), settings.live_windows)
        unit.readiness.waiting(NEED, "the rankings have not been read yet")

    def join(self, kind: Kind, subscription: Subscription, hello: Frame | None = None) -> Client:
        """A client that is sent `hello` where there is one, the snapshot, and then every change."""
        client = Client(kind, self.metrics, subscription, self._settings.live_queue)
        if hello is not None:
            client.offer("hello", hello)
        client.offer("snapshot", self.snapshot(subscription))
        self._clients.add(client)
        self.metrics[CONNECTIONS].inc({"kind": kind})
        if self._stopping:
            client.end(*STOPPING)
        return client

    def leave(self, client: Client) -> None:
        """The client is gone."""
        self._clients.discard(client)
        self.metrics[CONNECTIONS].dec({"kind": client.kind})

    def snapshot(self, subscription: Subscription) -> Frame:
        """All that is wanted now, or what of it is newer than its `since`."""
        frame, resumed = self.rankings.snapshot(subscription)
        if subscription.since is not None:
            self.metrics[RESUMES].inc({"resumed": str(resumed).lower()})
        return frame

    def heartbeat(self) -> Frame:
        """The heartbeat of now."""
        return self.rankings.heartbeat(datetime.now(UTC))

    def apply(self, new: LiveSet) -> bool:
        """Keep the set and send it to everybody who wants it, encoded once for all; False where it is nothing new."""
        if not self.rankings.apply(new):
            return False
        frame, latest = self.rankings.changed(new), self.rankings.latest(new.group)
        for client in self._clients:
            if client.subscription.wants(new.group, new.start, latest):
                client.offer((new.group, new.start), frame)
        return True

    async def beat(self) -> None:
        """Send everybody a heartbeat, again and again; when cancelled, close every client."""
        try:
            while True:
                await asyncio.sleep(self._settings.live_heartbeat_s)
                frame = self.heartbeat()
                for client in self._clients:
                    client.offer("heartbeat", frame)
        finally:
            self._stopping = True
            for client in self._clients:
                client.end(*STOPPING)

    async def run(self) -> None:
        """Follow the topics until cancelled; after a failure begin again from the position reached, with backoff.

        The backoff doubles up to 10 s while nothing can be read, and begins again after each success.
        """
        failures = 0
        while True:
            before = self._polls
            try:
                await self._follow()
            except (KafkaError, ClientError, httpx.HTTPError, OSError) as error:
                failures = 1 if self._polls > before else failures + 1
                self._unit.log.warning("live_interrupted", error=repr(error)[:300])
                await asyncio.sleep(backoff_s(failures))

    async def _follow(self) -> None:
        """Read on from the position of the newest sets.

        Raises:
            KafkaError | httpx.HTTPError | ClientError | OSError: broker or registry failed.
        """
        async with kafka.consumer(self._unit, self._settings.kafka, list(self._sources), None) as client:
            partitions = sorted(client.assignment())
            if self.rankings.partitions != tuple(partitions):
                self.rankings = LiveRankings(partitions, self._settings.live_windows)
                self.synced = False
                self._unit.readiness.waiting(NEED, f"reading {', '.join(self._sources)}")
            indices = {tp: number for number, tp in enumerate(partitions)}
            for tp, number in indices.items():
                if self.rankings.position(number):
                    client.seek(tp, self.rankings.position(number))
            ends = await client.end_offsets(partitions)
            while True:
                for tp, records in (await client.getmany(timeout_ms=500, max_records=MAX_RECORDS)).items():
                    for record in records:
                        await self._take(indices[tp], record)
                    self._lag(client, tp)
                self._polls += 1
                if not self.synced and all([await client.position(tp) >= end for tp, end in ends.items()]):
                    self.synced = True
                    self._unit.readiness.met(NEED)
                    self._unit.log.info("live_synced", sets=len(self.rankings), seq=self.rankings.seq)
                await asyncio.sleep(0)  # records that are there already come without a turn of the loop

    def _lag(self, client: AIOKafkaConsumer, tp: TopicPartition) -> None:
        end = client.highwater(tp)
        if end is not None:
            self.metrics[LAG].set({"topic": tp.topic}, end - self.rankings.position(self.rankings.partitions.index(tp)))

    async def _take(self, partition: int, record: ConsumerRecord) -> None:
        """Apply one record and send it on; one that cannot be read is counted, logged and passed."""
        source = self._sources[record.topic]
        if record.value is None:
            self.rankings.passed(partition, record.offset)
            outcome = "empty"
        else:
            try:
                value = await source.decoder.decode(record.value)
                new = live_set(source.ranking, source.length, value, partition, record.offset)
            except (DecodeError, ValueError) as error:
                self.rankings.passed(partition, record.offset)
                outcome = "undecodable"
                position = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                self._unit.log.warning("undecodable", **position, error=str(error)[:300])
            else:
                outcome = "applied" if self.apply(new) else "older"
        self.metrics[LIVE_RECORDS].inc({"topic": record.topic, "outcome": outcome})
