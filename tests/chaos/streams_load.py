"""A steady load of raw sales for the unit `legacy`, and a reader of what becomes of them; both outlive the broker."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from schema_registry.client import AsyncSchemaRegistryClient

from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Decoder
from tests.chaos.sender import sender
from tests.rankings import registry_of
from tests.runtime import Runtime

RAW, UNIFIED, DEAD = "sales.legacy", "sales.unified", "sales.dlq"
RATE = 500  # records a second
BATCH = 50  # records that are acknowledged before the next are sent
START = datetime(2026, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Sent:
    """A raw sale that the broker has acknowledged, and its partition."""

    record: Mapping[str, Any]
    partition: int

    @property
    def valid(self) -> bool:
        """Whether it must reach `sales.unified`; else it is a dead letter."""
        return bool(self.record["amount"] != "many")

    @property
    def version(self) -> tuple[str, int]:
        """Which sale, and which version of it."""
        return self.record["sale_id"], (self.record["fetched_at"] - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND

    def unified(self) -> dict[str, Any]:
        """What the contract makes of it, without the unit's code."""
        sale = {name: self.record[name] for name in ("sale_id", "salesman_name", "city", "country", "product")}
        return {
            **sale,
            "source": "legacy",
            "amount": Decimal(self.record["amount"]),
            "event_time": datetime.fromtimestamp(self.record["sale_date"] / 1000, UTC),
            "ingestion_time": self.record["fetched_at"],
            "version": self.version[1],
            "deleted": False,
        }


@dataclass
class Load:
    """Publishes seeded sales until told to stop: new ones, new versions of old ones, some with a wrong amount."""

    runtime: Runtime
    seed: int
    sent: list[Sent] = field(default_factory=list)
    stopping: bool = False

    def _records(self, chance: random.Random, first: int) -> list[dict[str, Any]]:
        return [
            {
                "sale_id": f"S{chance.randrange(number + 1) if chance.random() < 0.3 else number}",
                "salesman_name": f"Vendedor {chance.randrange(50):02}",
                "city": chance.choice(("Recife", "Curitiba", "Salvador")),
                "country": "BR",
                "amount": "many" if chance.random() < 0.02 else f"{chance.randrange(100, 1_000_000) / 100:.2f}",
                "product": "SSD",
                "sale_date": 1_767_225_600_000 + number,
                "fetched_at": START + number * MILLISECOND,
            }
            for number in range(first, first + BATCH)
        ]

    async def run(self) -> None:
        """Publish `RATE` records a second; after an outage what is late follows at once."""
        encode = await codec.encoder(registry_of(self.runtime), catalogue()[RAW])
        chance, clock = random.Random(self.seed), time.monotonic
        due, number = clock(), 0
        async with sender(self.runtime, RAW) as sending:
            while not self.stopping:
                records = self._records(chance, number)
                partitions = await sending.deliver([(record["sale_id"].encode(), encode(record)) for record in records])
                self.sent += map(Sent, records, partitions)
                number += BATCH
                due += BATCH / RATE
                await asyncio.sleep(max(0.0, due - clock()))


@dataclass
class Outcome:
    """Everything in `sales.unified` and `sales.dlq`: values of each published version, and what is dead-lettered."""

    values: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    dead: set[tuple[str, int]] = field(default_factory=set)
    _settled: int = 0

    async def follow(self, runtime: Runtime) -> None:
        """Read on until cancelled."""
        registry: AsyncSchemaRegistryClient = registry_of(runtime)
        topics = {name: catalogue()[name] for name in (RAW, UNIFIED, DEAD)}
        decoders = {name: Decoder(registry, topic) for name, topic in topics.items()}
        client = AIOKafkaConsumer(
            bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", auto_offset_reset="earliest"
        )
        await client.start()
        try:
            client.assign(
                [TopicPartition(n, number) for n in (UNIFIED, DEAD) for number in range(topics[n].partitions)]
            )
            while True:
                for messages in (await client.getmany(timeout_ms=200)).values():
                    for message in messages:
                        value = await decoders[message.topic].decode(message.value)
                        if message.topic == UNIFIED:
                            self.values[value["sale_id"], value["version"]].append(value)
                        else:
                            raw = await decoders[RAW].decode(value["value"])
                            self.dead.add(Sent(raw, 0).version)
        finally:
            await client.stop()

    def settled(self, sent: Sequence[Sent]) -> int:
        """How many of the first that were sent are there, without a gap."""
        while self._settled < len(sent) and self.has(sent[self._settled]):
            self._settled += 1
        return self._settled

    def has(self, sent: Sent) -> bool:
        """Whether the sale is published, or a dead letter where it must be one."""
        return sent.version in (self.values if sent.valid else self.dead)
