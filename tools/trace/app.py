"""Collects what every step knows of one sale: topics, dead letters, ClickHouse, rankings."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.dead_letters import TOPIC as DEAD_LETTERS
from chassis.settings import ClickHouseSettings, RankingSettings, load
from contracts import sale
from contracts.codec import DecodeError, encode_body, parse
from contracts.json_avro import plain
from contracts.rankings import RANKINGS
from contracts.text import quoted
from contracts.windows import WindowLength, tables
from tools import records
from tools.raw_sales import RAW, TOLD_BY, found
from tools.records import position, readable
from tools.table import Rows, warn
from tools.trace.search import search, text_pattern
from tools.trace.transform import (
    Entry,
    Event,
    RawRecord,
    id_of_bytes,
    instant,
    made_from,
    ranked,
    ranking_event,
    summary,
    window_of,
)

TIMEOUT_S = 60.0
KEY: Mapping[str, Any] = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
"""Debezium's key of a row."""
SALE_SHOWN = ("city", "country", "amount", "salesman_name", "event_time")
RAW_SHOWN = (
    *("event_type", "event_id", "received_at", "attempt"),
    *("op", "city", "country", "amount", "salesman_name", "sale_date", "object_key", "row_number"),
)
COMPETITORS = dict.fromkeys(ranking.column for ranking in RANKINGS)
STORED = ("version", "deleted", *COMPETITORS, "country", "amount", "event_time_ms")

_SERVED = """
SELECT rank, {column}, total_sales, transaction_count, revision, status, as_of_ms FROM {table} FINAL
WHERE window_start = toDateTime(intDiv(%(start)s, 1000), 'UTC') {more} ORDER BY rank
"""
_SOLD = """
SELECT sum(amount), count() FROM sales FINAL
WHERE {column} = %(name)s AND event_time_ms >= %(start)s AND event_time_ms < %(end)s AND deleted = 0 {more}
"""


@dataclass(frozen=True)
class Trace:
    """One sale, and everything that is read for it."""

    servers: records.Servers
    client: AIOKafkaConsumer
    store: ClickHouse
    lengths: Sequence[WindowLength]
    source: str
    name: str

    async def key_pattern(self) -> re.Pattern[bytes]:
        """Matches the record keys under which the sale's raw record and what is made of it are written.

        A key of Debezium's begins with the id of its schema, so there is one for each version of that.
        """
        if self.source != "postgres":
            return text_pattern(self.name)
        keys = [f"{self.source}:{self.name}".encode()]
        if self.name.isdecimal() and int(self.name) < 2**63:
            for version in await self.servers.versions(f"{RAW['postgres'][0]}-key"):
                keys.append(encode_body(version.schema_id, parse(KEY), {"id": int(self.name)}))
        return re.compile(b"|".join(map(re.escape, keys)))

    async def raw(self, pattern: re.Pattern[bytes]) -> list[RawRecord]:
        """The sale's raw records, the oldest first."""
        of_sale = []
        for source in TOLD_BY[self.source]:
            topic = RAW[source][0]
            async for message, record in readable(search(self.client, topic, pattern), self.servers.decoder(topic)):
                for told, name, version in found(source, record):
                    if (told, name) == (self.source, self.name):
                        at = position(topic, message.partition, message.offset)
                        of_sale.append(RawRecord(at, message.timestamp, version.version, version.deleted, record))
        return sorted(of_sale, key=lambda record: record.time)

    async def unified(self, raw: Sequence[RawRecord]) -> tuple[list[Event], dict[str, int]]:
        """The sale's unified versions, and the version that was made of each raw record."""
        key = f"{self.source}:{self.name}".encode()
        decoder = self.servers.decoder(sale.TOPIC)
        events, made = [], {}
        async for message in search(self.client, sale.TOPIC, re.compile(re.escape(key))):
            if message.key != key:
                continue
            at, time = position(sale.TOPIC, message.partition, message.offset), instant(message.timestamp)
            try:
                record = await decoder.decode(message.value)
            except DecodeError as error:
                events.append(Event("unified", at, time, f"unreadable: {error.detail}"))
                continue
            values = plain(record)
            origin = made_from(self.source, record["version"], message.timestamp, raw)
            if origin is not None:
                made[origin.position] = record["version"]
            text = f"version {record['version']}{', deleted' if record['deleted'] else ''}"
            text += f", made from {origin.position}" if origin else ""
            text += f", {summary(values, SALE_SHOWN)}"
            events.append(Event("unified", at, time, text, {**values, "made_from": origin and origin.position}))
        return sorted(events, key=lambda event: event.time), made

    def raw_event(self, record: RawRecord, made: Mapping[str, int]) -> Event:
        """A raw record as a step; of Postgres, its version is known from what was made of it."""
        content = dict(record.content)
        if isinstance(content.get("body"), bytes):  # of a webhook; in JSON its characters, not its bytes
            content["body"] = content["body"].decode(errors="replace")
        row = content.get("after") or content.get("before") or content
        flat = {**plain(row), "salesman_name": row.get("salesman_name") or row.get("salesman"), "op": content.get("op")}
        versions: dict[str, Any] = {"version": record.version}
        if self.source == "postgres":
            versions = {"version": made.get(record.position), "lsn": record.version}
        values = {**versions, "deleted": record.deleted, "record": plain(content)}
        return Event("raw", record.position, instant(record.time), summary(flat, RAW_SHOWN), values)

    async def dead(self, pattern: re.Pattern[bytes]) -> list[Event]:
        """The sale's dead letters, of its raw topic or of `sales.unified`: it is named in record, key or bytes."""
        sources = {RAW[source][0]: source for source in TOLD_BY[self.source]}
        decoders = {each: self.servers.decoder(each) for each in (*sources, sale.TOPIC)}

        async def is_of_sale(dead: Mapping[str, Any]) -> bool:
            topic, own = dead["topic"], (self.source, self.name)
            try:
                record = await decoders[topic].decode(dead["value"] or b"")
            except DecodeError:
                if self.source == "postgres" and topic in sources:
                    return pattern.match(dead["key"] or b"") is not None
                return topic in sources and id_of_bytes(self.source, dead["key"], dead["value"]) == self.name
            if topic == sale.TOPIC:
                return (record["source"], record["sale_id"]) == own
            return any((source, name) == own for source, name, _ in found(sources[topic], record))

        events = []
        dead_letters = readable(search(self.client, DEAD_LETTERS, pattern), self.servers.decoder(DEAD_LETTERS))
        async for message, dead in dead_letters:
            if dead["topic"] not in decoders or not await is_of_sale(dead):
                continue
            of = None if dead["partition"] < 0 else position(dead["topic"], dead["partition"], dead["offset"])
            values = {"id": f"{message.partition}-{message.offset}", "of": of}
            values |= {each: plain(dead[each]) for each in ("reason", "detail", "unit", "attempt")}
            where = of or f"what never was in {dead['topic']}"
            text = f"{dead['reason']} by {dead['unit']}, of {where}: {dead['detail']}"
            at = position(DEAD_LETTERS, message.partition, message.offset)
            events.append(Event("dead letter", at, plain(dead["time"]), text, values))
        return events

    async def stored(self) -> dict[str, Any] | None:
        """The sale as ClickHouse has it."""
        query = f"SELECT {', '.join(STORED)} FROM sales FINAL WHERE source = %(source)s AND sale_id = %(name)s"  # noqa: S608
        rows = await self.store.select(query, {"source": self.source, "name": self.name})
        return dict(zip(STORED, rows[0], strict=True)) if rows else None

    async def rankings(self, stored: Mapping[str, Any]) -> list[Event]:
        """The rank of the sale's city, salesperson and so on, in every window that it falls into."""
        events = []
        for ranking in RANKINGS:
            name, competitor = stored[ranking.column], ranking.competitor["en"].lower()
            of = {"column": ranking.column, "more": "AND country = %(country)s" if ranking.per_country else ""}
            for length in self.lengths:
                table = tables(ranking.table, self.lengths)[length.label]
                start, end = window_of(length, stored["event_time_ms"])
                values = {"name": name, "country": stored["country"], "start": start, "end": end}
                rows = await self.store.select(_SERVED.format(table=table, **of), values)
                ((total, count),) = await self.store.select(_SOLD.format(**of), values)
                entries = [Entry(*row) for row in rows]
                text = ranked(competitor, name, (total, count), entries, deleted=bool(stored["deleted"]))
                events.append(ranking_event(table, (start, end), entries, text))
        return events

    async def events(self) -> list[Event]:
        """What every step knows of the sale, in the order of the steps; nothing where no step knows it.

        Raises:
            KafkaError | RegistryUnavailableError | StoreUnavailableError | ServerException: a server is unavailable.
        """
        pattern = await self.key_pattern()
        raw = await self.raw(pattern)
        dead = await self.dead(pattern)
        unified, made = await self.unified(raw)
        events = [*(self.raw_event(record, made) for record in raw), *dead, *unified]
        stored = await self.stored()
        if stored is None:
            return events
        time = instant(stored["event_time_ms"])
        values = {**stored, "deleted": bool(stored["deleted"]), "amount": f"{stored['amount']:.2f}", "event_time": time}
        del values["event_time_ms"]
        outdated = bool(raw) and raw[-1].position in [event.values["of"] for event in dead]
        text = f"version {stored['version']}{', deleted' if stored['deleted'] else ''}, {summary(values, SALE_SHOWN)}"
        text += f"; outdated: the newest change, {raw[-1].position}, is a dead letter" if outdated else ""
        events.append(Event("clickhouse", "sales", time, text, {**values, "outdated": outdated}))
        return [*events, *await self.rankings(stored)]


def run(source: str, name: str, *, as_json: bool) -> int:
    """Trace a sale, print its steps, and return the exit status."""
    servers, stored, lengths = records.servers("trace"), load(ClickHouseSettings), load(RankingSettings).lengths

    async def tracing() -> list[Event]:
        async with clickhouse(stored, 1, TIMEOUT_S) as store, servers.reading() as client:
            return await Trace(servers, client, store, lengths, source, name).events()

    events = asyncio.run(tracing())
    if not events:
        warn(f"no step knows the sale {quoted(name)} of {source}")
        return 1
    rows = Rows("step", "where", "time", "message", as_json=as_json)
    for event in events:
        line = {**vars(event), **event.values}
        del line["values"]
        rows.add(line)
    rows.print()
    return 0
