"""Records of many requests in one publish: what arrives while the broker acknowledges goes together afterwards."""

import asyncio
from collections import deque
from collections.abc import Iterator

from aiokafka import AIOKafkaProducer

from chassis import kafka
from chassis.kafka import Record

GATHER_S = 0.005  # from one publish to the next; who comes later than that does not wait


class UnavailableError(Exception):
    """The broker has not acknowledged the records in time; it may still do so."""


def _taken(records: deque[Record]) -> Iterator[Record]:
    """The records, of which none is kept: the client of the broker has a copy."""
    while records:
        yield records.popleft()


class Publisher:
    """Publishes and waits for the broker, in bounded time.

    While the broker is unavailable its client keeps what it was given and tries for ever. So only one publish is under
    way: once it takes longer than `timeout_s`, nothing more is taken in until it has ended.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[asyncio.Future[None], list[Record]] = {}
        self._arrived = asyncio.Event()
        self._client: AIOKafkaProducer | None = None
        self.stalled = False  # whether the publish under way takes longer than `timeout_s`
        self.bytes_published = 0  # of the publish under way

    @property
    def available(self) -> bool:
        """Whether it takes records: the broker was reached, and acknowledges in time."""
        return self._client is not None and not self.stalled

    async def publish(self, records: list[Record]) -> None:
        """Return once the broker has acknowledged all of the records, which are taken out of the list meanwhile.

        Raises:
            UnavailableError: it has not within `timeout_s`, or is known not to.
        """
        if not self.available:
            raise UnavailableError
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[acknowledged] = records
        self._arrived.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                await acknowledged
        except TimeoutError:
            self.stalled = self.bytes_published > 0
            raise UnavailableError from None
        finally:
            self._waiting.pop(acknowledged, None)

    async def run(self, client: AIOKafkaProducer) -> None:
        """Publish until cancelled.

        Raises:
            KafkaError: the broker rejected a record; after that an idempotent client cannot go on.
        """
        self._client = client
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                gathered = loop.time() + GATHER_S
                await self._publish_waiting(client)
                await asyncio.sleep(gathered - loop.time())
        finally:
            self._client = None

    async def _publish_waiting(self, client: AIOKafkaProducer) -> None:
        waiting, self._waiting = self._waiting, {}
        records: deque[Record] = deque()
        for each in waiting.values():
            records += each
            each.clear()
        self.bytes_published = sum(len(record.value or b"") for record in records)
        try:
            await kafka.publish(client, _taken(records))
        except BaseException:
            for acknowledged in waiting:
                if not acknowledged.done():
                    acknowledged.set_exception(UnavailableError())
            raise
        finally:
            self.bytes_published, self.stalled = 0, False
        for acknowledged in waiting:
            if not acknowledged.done():
                acknowledged.set_result(None)
