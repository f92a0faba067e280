"""The receiver of webhooks, the broker and both streams services under kill -9, while the providers retry."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from chassis import kafka
from chassis.settings import ClickHouseSettings, KafkaSettings
from contracts.catalogue import catalogue
from contracts.codec import Decoder
from contracts.webhooks import OTHER, PRIVACY, SECRETS, TOPICS
from tests.chaos import processes
from tests.chaos.kills import NEVER, PATIENCE, Kill
from tests.rankings import registry_of
from tests.runtime import Runtime, start_runtime
from tools.traffic.shop import check
from tools.traffic.shop.delivery import Delivery
from tools.traffic.shop.rounds import Rounds
from tools.traffic.shop.sender import Sender
from tools.traffic.shop.settings import WebhooksSettings

KINDS = ("webhooks", "kafka", "shopify", "stripe", "kafka webhooks", "shopify stripe")
EVENTS = (*(topic for kinds in TOPICS.values() for topic in kinds.values()), OTHER, PRIVACY)
RATE = 200  # webhooks a second
TICK_S = 0.1
ENOUGH = 3 * RATE  # acknowledged after a kill: it is over
BOUND_S = 30


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Broker, registry, receiver, both services, and ClickHouse with its sink; the supervisor starts them again."""
    with start_runtime(
        tmp_path_factory.mktemp("webhooks"),
        only=("webhooks", "shopify", "stripe", "clickhouse_sink"),
        extra_env={
            "KAFKA_HOST": "127.0.0.1",
            "SCHEMA_REGISTRY_HOST": "127.0.0.1",
            **dict.fromkeys(SECRETS.values(), "new,old"),
        },
    ) as started:
        yield started


@dataclass
class Load:
    """Delivers the simulated shop's webhooks until told to stop, each until it is acknowledged."""

    rounds: Rounds
    acknowledged: list[Delivery] = field(default_factory=list)
    stopping: bool = False

    async def run(self, sender: Sender) -> None:
        """Send `RATE` webhooks a second; after an outage what is late follows at once."""
        due = time.monotonic()
        while not self.stopping:
            deliveries = self.rounds.take(int(RATE * TICK_S))
            await sender.send(deliveries)
            self.rounds.acknowledged(deliveries)
            self.acknowledged += deliveries
            due += TICK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def goes_on(self, running: asyncio.Task[None]) -> None:
        """Wait until many more webhooks are acknowledged."""
        end, before = time.monotonic() + PATIENCE * BOUND_S, len(self.acknowledged)
        while len(self.acknowledged) < before + ENOUGH:
            if running.done():
                running.result()
            assert time.monotonic() < end, f"no {ENOUGH} webhooks were acknowledged within {PATIENCE * BOUND_S} s"
            await asyncio.sleep(TICK_S)


async def stored(runtime: Runtime) -> Counter[tuple[str, str]]:
    """How often each event is in a topic, by topic and event id."""
    found: Counter[tuple[str, str]] = Counter()
    decoders = {topic: Decoder(registry_of(runtime), catalogue()[topic]) for topic in EVENTS}
    async with kafka.reading("test", KafkaSettings(), EVENTS) as client:
        async for message in kafka.messages_to_end(client):
            record = await decoders[message.topic].decode(message.value)
            assert record["topic"] == message.topic
            found[message.topic, record["event_id"]] += 1
    return found


async def test_every_event_arrives_and_each_sale_counts_once(
    runtime: Runtime, kills: list[Kill], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are killed in a row at 200 webhooks a second; every event is in its topic, every sale is the shop's truth."""
    for name, value in runtime.env.items():
        monkeypatch.setenv(name, value)
    load = Load(Rounds(seed, tuple(TOPICS), lambda: datetime.now(UTC), lambda *_: None, remember=True))
    async with Sender(WebhooksSettings(), tuple(TOPICS)) as sender:
        running = asyncio.create_task(load.run(sender))
        try:
            await load.goes_on(running)
            for kind in random.Random(seed).sample(KINDS, len(KINDS)):
                begun, recovered = time.monotonic(), NEVER
                try:
                    await asyncio.to_thread(processes.kill, runtime, *kind.split())
                    await load.goes_on(running)
                    await asyncio.to_thread(processes.listening, runtime, *kind.split())
                    recovered = time.monotonic() - begun
                finally:
                    kills.append(Kill((kind,), BOUND_S, None, recovered, os.getloadavg()[0]))
            load.stopping = True
            await running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    due = load.rounds.outcome()
    assert await check.check(ClickHouseSettings(), due, PATIENCE * BOUND_S) == []
    assert {source for (source, _), sale in due.items() if sale} == {"shopify", "stripe"}
    found = await stored(runtime)
    assert {event for _, event in found} == {e.event_id for each in load.acknowledged for e in each.events}
    assert len(found) == len({event for _, event in found}), "an event is in two topics"
