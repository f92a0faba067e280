"""A steady load of changed sales that outlives the broker: what is not acknowledged is sent again."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts import codec
from contracts.catalogue import catalogue
from tests.histories import HOUR, Change, history
from tests.rankings import SALES, registry_of
from tests.runtime import Runtime

RATE = 300  # changes a second
BATCH = 30  # changes that are acknowledged before the next are sent
OUTAGE_S = 300  # a broker that takes longer to come back is an error
START = datetime(2026, 1, 1, tzinfo=UTC)


def changes(seed: int) -> Iterator[Change]:
    """Endless seeded changes: short histories of a few hours each, the next one an hour later with sales of its own."""
    for number in count():
        for change in history(seed * 100_000 + number, 300, START + number * HOUR, hours=4):
            yield replace(change, sale_id=f"{seed}-{number}-{change.sale_id}")


@dataclass
class Load:
    """Publishes until told to stop, and remembers in `published` all that the broker has acknowledged."""

    runtime: Runtime
    seed: int
    published: list[Mapping[str, Any]] = field(default_factory=list)
    stopping: bool = False
    producer: AIOKafkaProducer | None = None

    async def run(self) -> None:
        """Publish `RATE` changes a second; after an outage what is late follows at once."""
        encode = await codec.encoder(registry_of(self.runtime), catalogue()[SALES])
        source = changes(self.seed)
        clock = asyncio.get_running_loop().time
        due = clock()
        try:
            while not self.stopping:
                await self.deliver(encode, list(islice(source, BATCH)))
                due += BATCH / RATE
                await asyncio.sleep(max(0.0, due - clock()))
        finally:
            await self._drop()

    async def deliver(self, encode: codec.Encoder, batch: Sequence[Change]) -> None:
        """Send the batch again and again until all of it is acknowledged. The same record twice is harmless."""
        end = time.monotonic() + OUTAGE_S
        left = [(f"{change.source}:{change.sale_id}".encode(), change.record()) for change in batch]
        while left:
            assert time.monotonic() < end, f"{len(left)} records not acknowledged within {OUTAGE_S} s"
            results = await self._send([(key, encode(record)) for key, record in left])
            self.published += [record for (_, record), ok in zip(left, results, strict=True) if ok]
            left = [one for one, ok in zip(left, results, strict=True) if not ok]

    async def _send(self, records: Sequence[tuple[bytes, bytes]]) -> list[bool]:
        """Which of the records the broker acknowledged."""
        try:
            if self.producer is None:
                self.producer = AIOKafkaProducer(
                    bootstrap_servers=f"127.0.0.1:{self.runtime.env['KAFKA_PORT']}", enable_idempotence=True
                )
                await self.producer.start()
            sent = [await self.producer.send(SALES, value, key=key) for key, value in records]
        except KafkaError:
            await self._drop()
            await asyncio.sleep(0.2)
            return [False] * len(records)
        results = await asyncio.gather(*sent, return_exceptions=True)
        if errors := [result for result in results if isinstance(result, BaseException)]:
            await self._drop()  # its numbering has a gap now
            if unexpected := [error for error in errors if not isinstance(error, KafkaError)]:
                raise unexpected[0]
        return [not isinstance(result, BaseException) for result in results]

    async def _drop(self) -> None:
        producer, self.producer = self.producer, None
        if producer is not None:
            await producer.stop()
