"""Publishes records to a topic of a runtime whose broker may die: what is not acknowledged is sent again."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.runtime import Runtime

OUTAGE_S = 300  # a broker that takes longer to come back is an error


class Sender:
    """Delivers to one topic; made by `sender`."""

    def __init__(self, runtime: Runtime, topic: str) -> None:
        self._runtime = runtime
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def deliver(self, records: Sequence[tuple[bytes, bytes]]) -> list[int]:
        """Send keys and values again and again until all are acknowledged; the partition of each.

        The same record twice must be harmless.
        """
        end = time.monotonic() + OUTAGE_S
        acknowledged: dict[int, int] = {}
        while left := [index for index in range(len(records)) if index not in acknowledged]:
            assert time.monotonic() < end, f"{len(left)} records not acknowledged within {OUTAGE_S} s"
            partitions = await self._send([records[index] for index in left])
            acknowledged |= {
                index: partition for index, partition in zip(left, partitions, strict=True) if partition is not None
            }
        return [acknowledged[index] for index in range(len(records))]

    async def _send(self, records: Sequence[tuple[bytes, bytes]]) -> list[int | None]:
        """The partition of each record that the broker acknowledged, None of the others."""
        try:
            if self._producer is None:
                self._producer = AIOKafkaProducer(
                    bootstrap_servers=f"127.0.0.1:{self._runtime.env['KAFKA_PORT']}", enable_idempotence=True
                )
                await self._producer.start()
            pending = [await self._producer.send(self._topic, value, key=key) for key, value in records]
        except KafkaError:
            await self.drop()
            await asyncio.sleep(0.2)
            return [None] * len(records)
        results = await asyncio.gather(*pending, return_exceptions=True)
        if errors := [result for result in results if isinstance(result, BaseException)]:
            await self.drop()  # its numbering has a gap now
            if unexpected := [error for error in errors if not isinstance(error, KafkaError)]:
                raise unexpected[0]
        return [None if isinstance(result, BaseException) else result.partition for result in results]

    async def drop(self) -> None:
        """Close what is open; another delivery opens it again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


@asynccontextmanager
async def sender(runtime: Runtime, topic: str) -> AsyncIterator[Sender]:
    """A sender to the topic, closed at the end."""
    made = Sender(runtime, topic)
    try:
        yield made
    finally:
        await made.drop()
