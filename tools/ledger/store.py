"""What the topics and ClickHouse hold: the sales of a source at each step, and its dead letters."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from schema_registry.client import AsyncSchemaRegistryClient

from chassis import kafka
from chassis.clickhouse import ClickHouse
from chassis.dead_letters import TOPIC as DEAD_LETTERS
from chassis.settings import KafkaSettings
from contracts import sale
from contracts.catalogue import catalogue
from contracts.codec import DecodeError, Decoder
from tools.ledger.transform import Sales, Step, Steps, newest
from tools.raw_sales import RAW, SaleVersion, of_unified

NAME = "ledger"
IDS_AT_ONCE = 1000


async def _seek(client: AIOKafkaConsumer, since: int) -> bool:
    """Go to the first record at or after `since` (ms since 1970); returns whether the topic has lost its beginning."""
    partitions = list(client.assignment())
    found = await client.offsets_for_times({partition: max(since, 0) for partition in partitions})
    ends = await client.end_offsets(partitions)
    for partition, place in found.items():
        client.seek(partition, ends[partition] if place is None else place.offset)
    return any((await client.beginning_offsets(partitions)).values())


@dataclass(frozen=True)
class Topics:
    """The topics of one broker and registry, read from `since` (ms since 1970) to their ends."""

    settings: KafkaSettings
    registry: AsyncSchemaRegistryClient
    since: int

    async def _records(self, topic: str, cut: Callable[[], None]) -> AsyncIterator[dict[str, Any]]:
        """Every record that can be read; calls `cut` where the topic has lost its beginning."""
        decoder = Decoder(self.registry, catalogue()[topic])
        async with kafka.reading(NAME, self.settings, [topic]) as client:
            if await _seek(client, self.since):
                cut()
            async for message in kafka.messages_to_end(client):
                if message.value is not None:
                    try:
                        yield await decoder.decode(message.value)
                    except DecodeError:
                        continue  # a dead letter of whoever consumes the topic

    async def raw(self, source: str, into: Steps) -> None:
        """Enter what the source's topic says.

        Raises:
            KafkaError | RegistryUnavailableError: a server is unavailable.
        """
        topic, read = RAW[source]
        async for record in self._records(topic, lambda: into.cut.add("topic")):
            newest(into.sales["topic"], *read(record))

    async def unified(self, into: Mapping[str, Steps]) -> None:
        """Enter what `sales.unified` says of the sources."""

        def cut() -> None:
            for steps in into.values():
                steps.cut.add("unified")

        async for record in self._records(sale.TOPIC, cut):
            if record["source"] in into:
                newest(into[record["source"]].sales["unified"], record["sale_id"], of_unified(record))

    async def dead(self, into: Mapping[str, Steps]) -> None:
        """Enter which sales became dead letters, and on the way to which step."""
        decoders = {topic: Decoder(self.registry, catalogue()[topic]) for topic, _ in RAW.values()}
        unified = Decoder(self.registry, catalogue()[sale.TOPIC])
        by_topic = {topic: (source, read) for source, (topic, read) in RAW.items()}
        async for letter in self._records(DEAD_LETTERS, lambda: None):
            topic, value = letter["topic"], letter["value"] or b""
            try:
                if topic == sale.TOPIC:
                    record = await unified.decode(value)
                    self._enter(into, record["source"], "clickhouse", record["sale_id"])
                elif topic in by_topic:
                    source, read = by_topic[topic]
                    self._enter(into, source, "unified", read(await decoders[topic].decode(value))[0])
            except DecodeError:
                continue  # bytes that tell no sale

    @staticmethod
    def _enter(into: Mapping[str, Steps], source: str, step: Step, name: str | None) -> None:
        if source in into and name is not None:
            into[source].dead[step].add(name)


_SALES = "SELECT source, sale_id, event_time_ms, version, deleted FROM sales FINAL WHERE "


async def stored(store: ClickHouse, start: int, end: int, into: Mapping[str, Steps]) -> None:
    """Enter what ClickHouse has of the period.

    Raises:
        StoreUnavailableError | ServerException: it is unavailable, or rejects the query.
    """
    values = {"start": start, "end": end}
    query = f"{_SALES} event_time_ms >= %(start)s AND event_time_ms < %(end)s"
    for source, name, at, version, deleted in await store.select(query, values):
        if source in into:
            into[source].sales["clickhouse"][name] = SaleVersion(at, version, bool(deleted))


async def stored_of(store: ClickHouse, source: str, names: Iterable[str]) -> Sales:
    """What ClickHouse has of the sales with these ids, whenever they happened."""
    wanted = list(names)
    found: Sales = {}
    for first in range(0, len(wanted), IDS_AT_ONCE):
        values = {"source": source, "ids": tuple(wanted[first : first + IDS_AT_ONCE])}
        query = f"{_SALES} source = %(source)s AND sale_id IN %(ids)s"
        for _, name, at, version, deleted in await store.select(query, values):
            found[name] = SaleVersion(at, version, bool(deleted))
    return found
