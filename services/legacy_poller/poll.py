"""One call after the other: fetch recent sales, publish what is new, then progress."""

import asyncio
import time

from aiokafka import AIOKafkaProducer
from lxml import etree

from chassis import dead_letters, kafka, progress
from chassis.kafka import Record
from chassis.results import Rejected
from chassis.unit import Unit
from contracts.codec import Encoder
from services.legacy_poller.metrics import CALLS
from services.legacy_poller.settings import LegacyPollerSettings
from services.legacy_poller.soap import SalesClient, Unanswered
from services.legacy_poller.transform import Cursor, Item, after, fetch_time, item, news, since

TOPIC = "sales.legacy"
CURSOR = "GetRecentSales"
SETTING = "LEGACY_SOAP_HOST, LEGACY_SOAP_PORT"
SERVER = "legacy service"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Poller:
    """Calls the service, each time from where `cursor` is."""

    def __init__(
        self,
        unit: Unit,
        settings: LegacyPollerSettings,
        *,
        service: SalesClient,
        client: AIOKafkaProducer,
        encoders: dict[str, Encoder],
        cursor: Cursor,
    ) -> None:
        self._unit, self._settings = unit, settings
        self._service, self._client, self._encoders = service, client, encoders
        self._cursor = cursor
        self._calls = unit.metrics[CALLS]

    async def run(self) -> None:
        """Poll until cancelled.

        Raises:
            KafkaError: the broker did not acknowledge; what it did not is fetched again after a restart.
        """
        while True:
            await self.round()
            await asyncio.sleep(self._settings.interval_s)

    async def round(self) -> None:
        """One successful call, after as many as it takes, and its publication."""
        settings = self._settings
        answer = await self._unit.retry_until_available(
            SERVER, settings.service.url, SETTING, self._call, Unanswered, longest_s=settings.interval_s
        )
        self._calls.inc({"outcome": "answered"})
        await self._publish(*answer)

    async def _call(self) -> tuple[int, list[etree._Element | bytes]]:
        called_at = now_ms()
        start = since(self._cursor, called_at, round(self._settings.overlap_s * 1000))
        try:
            return called_at, await self._service.recent_sales(start)
        except Unanswered:
            self._calls.inc({"outcome": "failed"})
            raise

    async def _publish(self, called_at: int, sales: list[etree._Element | bytes]) -> None:
        fetched_at = fetch_time(self._cursor, called_at)
        items = [item(sale, fetched_at) for sale in sales]
        new = news(items, self._cursor.seen)
        await kafka.publish(self._client, [self._record(item) for item in new])
        cursor = after(self._cursor, items, called_at, fetched_at)
        position = progress.record(self._encoders[progress.TOPIC], self._unit.name, CURSOR, cursor.position())
        await kafka.publish(self._client, [position])
        self._cursor = cursor
        rejections = [item.outcome for item in new if isinstance(item.outcome, Rejected)]
        dead = len(rejections)
        self._unit.metrics.record(TOPIC, "received", len(items))
        self._unit.metrics.record(TOPIC, "published", len(new) - dead)
        self._unit.metrics.record(TOPIC, "dead_letter", dead)
        for rejection in rejections:
            self._unit.metrics.dead_letter(TOPIC, rejection.reason)
        self._unit.metrics.record(TOPIC, "ignored", len(items) - len(new))
        self._unit.log.info("polled", answered=len(items), published=len(new) - dead, dead_letters=dead)

    def _record(self, item: Item) -> Record:
        key = None if item.sale_id is None else item.sale_id.encode()
        if not isinstance(item.outcome, Rejected):
            return Record(TOPIC, key, self._encoders[TOPIC](item.outcome))
        encode = self._encoders[dead_letters.TOPIC]
        return dead_letters.dead_letter(encode, self._unit.name, item.outcome, topic=TOPIC, key=key, value=item.content)
