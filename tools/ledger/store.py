"""What the topics and ClickHouse hold: the sales of a source at each step, and its dead letters."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from chassis.clickhouse import ClickHouse
from chassis.dead_letters import TOPIC as DEAD_LETTERS
from contracts import sale
from contracts.codec import DecodeError
from tools.ledger.transform import Period, Sales, Step, Steps, enter_newest
from tools.raw_sales import RAW, SaleVersion, found, of_unified
from tools.records import Servers, between, extent, offsets_at, readable

IDS_AT_ONCE = 1000


@dataclass(frozen=True)
class Topics:
    """The topics, read by one consumer from `since` (ms since 1970) to their ends."""

    servers: Servers
    client: AIOKafkaConsumer
    since: int

    async def _records(
        self, topic: str, step: Step | None, into: Iterable[Steps]
    ) -> AsyncIterator[tuple[ConsumerRecord, dict[str, Any]]]:
        """Every record that can be read; where the topic has lost its beginning, the step is cut."""
        decoder = self.servers.decoder(topic)
        there = await extent(self.client, topic)
        if step is not None and any(there.first.values()):
            for steps in into:
                steps.cut.add(step)
        starts = await offsets_at(self.client, there, self.since)
        async for message, record in readable(between(self.client, starts, there.ends), decoder):
            yield message, record

    async def raw(self, topic_of: str, into: Mapping[str, Steps]) -> None:
        """Enter what a source's topic tells of sales, each into the steps of its source.

        Raises:
            KafkaError | RegistryUnavailableError: a server is unavailable.
        """
        topic, own = RAW[topic_of][0], [into[topic_of]] if topic_of in into else []
        async for message, record in self._records(topic, "topic", own):
            for source, name, version in found(topic_of, record):
                if source not in into:
                    continue
                # log positions start again when the database is restored; time goes on
                newer = replace(version, version=message.timestamp) if source == "postgres" else version
                if enter_newest(into[source].sales["topic"], name, newer) and source == topic_of:
                    into[source].newest[str(name)] = message.partition, message.offset

    async def unified(self, into: Mapping[str, Steps]) -> None:
        """Enter the sales of `sales.unified`, each into the steps of its source."""
        async for _, record in self._records(sale.TOPIC, "unified", into.values()):
            if record["source"] in into:
                enter_newest(into[record["source"]].sales["unified"], record["sale_id"], of_unified(record))

    async def dead(self, into: Mapping[str, Steps]) -> None:
        """Enter which sales became dead letters, and on the way to which step."""
        raw = {topic: source for source, (topic, _) in RAW.items()}
        decoders = {topic: self.servers.decoder(topic) for topic in (sale.TOPIC, *raw)}
        async for _, dead in self._records(DEAD_LETTERS, None, ()):
            topic = dead["topic"]
            if topic not in decoders:
                continue
            if topic in raw and raw[topic] in into:
                into[raw[topic]].dead_records.add((dead["partition"], dead["offset"]))
            try:
                record = await decoders[topic].decode(dead["value"] or b"")
            except DecodeError:
                continue  # bytes that name no sale
            step: Step = "unified" if topic in raw else "clickhouse"
            of = found(raw[topic], record) if topic in raw else [(record["source"], record["sale_id"], None)]
            for source, name, _ in of:
                if source in into and name is not None:
                    into[source].dead[step].add(name)


async def _select(store: ClickHouse, where: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str, SaleVersion]]:
    """Source, id and version of the stored sales.

    Raises:
        StoreUnavailableError | ServerException: ClickHouse is unavailable, or rejects the query.
    """
    query = f"SELECT source, sale_id, event_time_ms, version, deleted FROM sales FINAL WHERE {where}"  # noqa: S608
    rows = await store.select(query, values)
    return ((source, name, SaleVersion(at, version, bool(deleted))) for source, name, at, version, deleted in rows)


async def stored(store: ClickHouse, period: Period, into: Mapping[str, Steps]) -> None:
    """Enter what ClickHouse has of the period."""
    where = "event_time_ms >= %(start)s AND event_time_ms < %(end)s"
    for source, name, version in await _select(store, where, period._asdict()):
        if source in into:
            into[source].sales["clickhouse"][name] = version


async def stored_of(store: ClickHouse, source: str, names: Iterable[str]) -> Sales:
    """What ClickHouse has of the sales with these ids, whenever they happened."""
    wanted = list(names)
    sales: Sales = {}
    for first in range(0, len(wanted), IDS_AT_ONCE):
        values = {"source": source, "ids": tuple(wanted[first : first + IDS_AT_ONCE])}
        rows = await _select(store, "source = %(source)s AND sale_id IN %(ids)s", values)
        sales |= {name: version for _, name, version in rows}
    return sales
