"""Reads one sale at every step: its topics from their beginnings, then ClickHouse."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord
from schema_registry.client import AsyncSchemaRegistryClient

from chassis import kafka
from chassis.clickhouse import ClickHouse
from chassis.dead_letters import TOPIC as DEAD_LETTERS
from chassis.settings import KafkaSettings
from contracts import sale
from contracts.catalogue import catalogue
from contracts.codec import DecodeError, Decoder
from contracts.json_avro import plain
from contracts.rankings import RANKINGS
from contracts.windows import WindowLength, tables
from tools.raw_sales import RAW
from tools.trace.transform import (
    Entry,
    Event,
    Stored,
    instant,
    made_from,
    ranked,
    ranking_event,
    summary,
    told_by_bytes,
    window_of,
)

NAME = "trace"
CALLED: Mapping[str, str] = {"city": "city", "salesman": "salesperson", "product": "product"}
"""Who competes in a ranking, in the words of the answer."""
KEY: Mapping[str, Any] = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
"""Debezium's key of a row."""
RAW_SHOWN = ("op", "city", "country", "amount", "salesman_name", "sale_date", "object_key", "row_number")
SALE_SHOWN = ("city", "country", "amount", "salesman_name", "event_time")


@dataclass(frozen=True)
class Servers:
    """Everything that is read."""

    kafka: KafkaSettings
    registry: AsyncSchemaRegistryClient
    clickhouse: ClickHouse
    lengths: Sequence[WindowLength]

    async def messages(self, topic: str) -> AsyncIterator[ConsumerRecord]:
        """Every record that the topic holds now."""
        async with kafka.reading(NAME, self.kafka, [topic]) as client:
            await client.seek_to_beginning(*client.assignment())
            async for message in kafka.messages_to_end(client):
                if message.value is not None:
                    yield message

    def decoder(self, topic: str) -> Decoder:
        """A decoder of the topic's records."""
        return Decoder(self.registry, catalogue()[topic])


def _time(event: Event) -> str:
    return event.time


def _place(topic: str, partition: int, offset: int) -> str:
    return f"{topic}-{partition}@{offset}"


async def _raw(servers: Servers, source: str, name: str) -> tuple[list[Event], dict[int, str]]:
    """The sale's raw records, and the place of each by its version."""
    topic, read = RAW[source]
    decoder = servers.decoder(topic)
    events, places = [], {}
    async for message in servers.messages(topic):
        try:
            record = await decoder.decode(message.value)
        except DecodeError:
            continue  # it tells no sale; whoever consumes the topic makes a dead letter of it
        found, seen = read(record)
        if found != name:
            continue
        place = _place(topic, message.partition, message.offset)
        places[seen.version] = place
        row = record.get("after") or record.get("before") or record
        values = {"version": seen.version, "deleted": seen.deleted, "record": plain(record)}
        flat = {**plain(row), "salesman_name": row.get("salesman_name") or row.get("salesman"), "op": record.get("op")}
        events.append(Event("raw", place, instant(message.timestamp), summary(flat, RAW_SHOWN), values))
    return sorted(events, key=_time), places


async def _unified(servers: Servers, source: str, name: str, places: Mapping[int, str]) -> list[Event]:
    key = f"{source}:{name}".encode()
    decoder = servers.decoder(sale.TOPIC)
    events = []
    async for message in servers.messages(sale.TOPIC):
        if message.key != key:
            continue
        place = _place(sale.TOPIC, message.partition, message.offset)
        try:
            record = await decoder.decode(message.value)
        except DecodeError as error:
            events.append(Event("unified", place, instant(message.timestamp), f"unreadable: {error.detail}"))
            continue
        origin = made_from(source, record["version"], places)
        values = {**plain(record), "made_from": origin}
        said = f"version {record['version']}{', deleted' if record['deleted'] else ''}"
        said += f", made from {origin}" if origin else ""
        said += f", {summary(plain(record), SALE_SHOWN)}"
        events.append(Event("unified", place, instant(message.timestamp), said, values))
    return sorted(events, key=_time)


async def _told_by_bytes(keys: Decoder, source: str, letter: Mapping[str, Any]) -> str | None:
    """The sale of a letter whose bytes no schema reads."""
    if source != "postgres":
        return told_by_bytes(source, letter["key"], letter["value"])
    with suppress(DecodeError):
        return str((await keys.decode(letter["key"] or b""))["id"])
    return None


async def _dead(servers: Servers, source: str, name: str) -> list[Event]:
    """The sale's dead letters, of its raw topic or of `sales.unified`: those that tell it in record, key or bytes."""
    topic, read = RAW[source]
    letters, raw, unified = (servers.decoder(each) for each in (DEAD_LETTERS, topic, sale.TOPIC))
    keys = Decoder(servers.registry, catalogue()[topic].model_copy(update={"avro": KEY}))
    events = []
    async for message in servers.messages(DEAD_LETTERS):
        with suppress(DecodeError):  # no letter, or bytes that tell no sale
            letter = await letters.decode(message.value)
            if letter["topic"] == topic:
                try:
                    found = read(await raw.decode(letter["value"] or b""))[0]
                except DecodeError:
                    found = await _told_by_bytes(keys, source, letter)
            elif letter["topic"] == sale.TOPIC:
                record = await unified.decode(letter["value"] or b"")
                found = record["sale_id"] if record["source"] == source else None
            else:
                continue
            if found == name:
                nowhere = letter["partition"] < 0
                values = {
                    "id": f"{message.partition}-{message.offset}",
                    "of": None if nowhere else _place(letter["topic"], letter["partition"], letter["offset"]),
                    **{each: plain(letter[each]) for each in ("reason", "detail", "unit", "attempt")},
                }
                of = values["of"] or f"what never was in {topic}"
                said = f"{letter['reason']} by {letter['unit']}, of {of}: {letter['detail']}"
                place = _place(DEAD_LETTERS, message.partition, message.offset)
                events.append(Event("dead letter", place, plain(letter["time"]), said, values))
    return events


async def _stored(store: ClickHouse, source: str, name: str) -> Stored | None:
    rows = await store.select(
        "SELECT salesman_name, city, product, country, amount, event_time_ms, version, deleted FROM sales FINAL"
        " WHERE source = %(source)s AND sale_id = %(name)s",
        {"source": source, "name": name},
    )
    return next((Stored(*row) for row in rows), None)


async def _rankings(servers: Servers, stored: Stored) -> list[Event]:
    """The rank of the sale's city and salesperson in every window that it falls into."""
    events = []
    for ranking in RANKINGS:
        of, column = CALLED[ranking.name], ranking.column
        name = {"city": stored.city, "salesman_name": stored.salesman, "product": stored.product}[column]
        per_country = "AND country = %(country)s" if ranking.per_country else ""
        for length in servers.lengths:
            table = tables(ranking.table, servers.lengths)[length.label]
            start, end = window_of(length, stored.event_time_ms)
            values = {"start": start, "end": end, "second": start // 1000, "name": name, "country": stored.country}
            entries = [
                Entry(*row)
                for row in await servers.clickhouse.select(
                    f"SELECT rank, {column}, total_sales, transaction_count, revision, status, as_of_ms"  # noqa: S608
                    f" FROM {table} FINAL WHERE window_start = toDateTime(%(second)s, 'UTC') {per_country}"
                    " ORDER BY rank",
                    values,
                )
            ]
            ((total, count),) = await servers.clickhouse.select(
                f"SELECT sum(amount), count() FROM sales FINAL WHERE {column} = %(name)s {per_country}"  # noqa: S608
                " AND event_time_ms >= %(start)s AND event_time_ms < %(end)s AND deleted = 0",
                values,
            )
            said = ranked(of, name, (total, count), entries, deleted=bool(stored.deleted))
            events.append(ranking_event(table, (start, end), entries, said))
    return events


async def trace(servers: Servers, source: str, name: str) -> list[Event]:
    """What every step knows of the sale, in the order of the steps; nothing where no step knows it.

    Raises:
        KafkaError | RegistryUnavailableError | StoreUnavailableError | ServerException: a server is unavailable.
    """
    raw, places = await _raw(servers, source, name)
    events = [*raw, *await _dead(servers, source, name), *await _unified(servers, source, name, places)]
    stored = await _stored(servers.clickhouse, source, name)
    if stored is None:
        return events
    values = {
        "version": stored.version,
        "deleted": bool(stored.deleted),
        "salesman_name": stored.salesman,
        "city": stored.city,
        "country": stored.country,
        "amount": f"{stored.amount:.2f}",
        "event_time": instant(stored.event_time_ms),
    }
    said = f"version {stored.version}{', deleted' if stored.deleted else ''}, {summary(values, SALE_SHOWN)}"
    events.append(Event("clickhouse", "sales", instant(stored.event_time_ms), said, values))
    return [*events, *await _rankings(servers, stored)]
