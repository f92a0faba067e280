"""Reads the whole table again after changes were missed: new slot, new snapshot, and deletions of what is gone.

A snapshot repairs what was inserted and updated while nothing was captured; it cannot say what was deleted. So sales
that were published and are no longer in the table are published as deleted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import asyncpg
import httpx
from aiokafka.admin import AIOKafkaAdminClient
from schema_registry.client import AsyncSchemaRegistryClient

from chassis import kafka
from chassis.kafka import Record
from chassis.postgres import open_connection
from chassis.registry import Registry
from chassis.unit import Unit
from contracts.catalogue import catalogue
from contracts.codec import Decoder
from contracts.sale import TOPIC
from services.connect_watcher.connect import Connect, RejectedError
from services.connect_watcher.poll import deploy
from services.connect_watcher.settings import RAW_TOPIC, WatcherSettings
from services.connect_watcher.transform import Published, deletion, lacks_columns, log_behind, newest

READER = "cdc"  # the group that turns the captured changes into sales
PREFIX = b"postgres:"
GONE = (
    "SELECT id FROM unnest($1::bigint[]) AS given (id) WHERE NOT EXISTS (SELECT FROM sales WHERE sales.id = given.id)"
)


class ResnapshotError(Exception):
    """There is no new snapshot; the message says why and what to do."""


async def _until(missing: Callable[[], Awaitable[str]], deadline_s: float) -> None:
    """Wait until nothing is missing.

    Raises:
        ResnapshotError: something still is after the deadline.
    """
    why = "nothing answered yet"
    try:
        async with asyncio.timeout(deadline_s):
            why = await missing()
            while why:
                await asyncio.sleep(0.2)
                why = await missing()
    except TimeoutError:
        raise ResnapshotError(
            f"after {deadline_s:g} s {why}; the connector stays stopped, run task resnapshot again"
        ) from None


async def _accepted(request: Callable[[], Awaitable[None]], deadline_s: float) -> None:
    """Repeat a request until Connect accepts it: it rejects while it rebalances, and offsets while tasks still end."""

    async def missing() -> str:
        try:
            await request()
        except RejectedError as error:
            return f"Kafka Connect rejects: {error}"
        return ""

    await _until(missing, deadline_s)


async def _stop(connect: Connect, database: asyncpg.Connection, slot: str, deadline_s: float) -> None:
    """Stop the connector and return when it has released its slot."""

    async def missing() -> str:
        tasks = (await connect.status() or {"tasks": []})["tasks"]
        active = await database.fetchval("SELECT active FROM pg_replication_slots WHERE slot_name = $1", slot)
        return "the connector still holds its slot" if tasks or active else ""

    await _accepted(connect.stop, deadline_s)
    await _until(missing, deadline_s)


async def _caught_up(unit: Unit, settings: WatcherSettings) -> None:
    """Return when cdc has processed everything captured so far: what it still had to publish would be missed here."""
    async with kafka.consumer(unit, settings.kafka, [RAW_TOPIC], None) as client:
        partitions = list(client.assignment())
        begins, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap)

    async def missing() -> str:
        done = await admin.list_consumer_group_offsets(READER)
        behind = any(end > (done[each].offset if each in done else begins[each]) for each, end in ends.items())
        return f"{READER} has not processed all of {RAW_TOPIC}" if behind else ""

    await admin.start()
    try:
        await _until(missing, settings.deadline_s)
    finally:
        await admin.close()


async def _published(unit: Unit, settings: WatcherSettings, decoder: Decoder) -> dict[bytes, Published]:
    """The newest record of every sale of Postgres, by key."""
    known: dict[bytes, Published] = {}
    async with kafka.consumer(unit, settings.kafka, [TOPIC], None) as client:
        async for key, value in kafka.read_to_end(client):
            if key is not None and value is not None and key.startswith(PREFIX):
                event = await decoder.decode(value)
                known[key] = newest(known.get(key), Published(event["version"], event["deleted"], value))
    return known


async def _drop_incomplete(settings: WatcherSettings) -> None:
    """Drop the versions of Debezium's schema that lack a column of the contract.

    One is registered while a column is renamed or dropped. Every later schema would have to be compatible with it, and
    what was written with it has been dead-lettered. Its id stays readable.
    """
    registry, topic = AsyncSchemaRegistryClient(settings.registry.url), catalogue()[RAW_TOPIC]
    for version in await registry.get_versions(topic.subject):
        registered = await registry.get_schema(topic.subject, version)
        if registered is not None and lacks_columns(registered.schema.raw_schema, topic.avro):
            await registry.delete_version(topic.subject, version)


async def resnapshot(
    unit: Unit,
    settings: WatcherSettings,
    http: httpx.AsyncClient,
    wanted: Mapping[str, str],
    *,
    restored: bool,
) -> int:
    """Read the whole table again and return how many sales were published as deleted; safe to repeat.

    Raises:
        ResnapshotError: cdc is behind, or the database's log is behind what was published and it was not declared
            `restored`; the connector stays stopped.
        NotRunningError: the connector does not run before the deadline.
        OSError | asyncpg.PostgresError | RejectedError | httpx.TransportError: a server is unavailable or rejects.
    """
    connect, slot, deadline_s = Connect(http, settings.connector), wanted["slot.name"], settings.deadline_s
    registry = Registry(unit, settings.registry)
    decoder, encode = registry.decoder(TOPIC), await registry.encoder(TOPIC)
    database = await open_connection(settings.postgres, deadline_s)
    try:
        await connect.configure(wanted)
        await _stop(connect, database, slot, deadline_s)
        await _caught_up(unit, settings)
        await _drop_incomplete(settings)
        published = await _published(unit, settings, decoder)
        position = await database.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        if not restored and (why := log_behind([each.version for each in published.values()], int(position))):
            raise ResnapshotError(why)
        await database.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", slot
        )
        await _accepted(connect.forget, deadline_s)
        await _accepted(connect.resume, deadline_s)
        await deploy(connect, wanted, settings, unit.log)
        # The table is queried once the new slot exists: it captures what is deleted from now on.
        live = {int(key.removeprefix(PREFIX)): key for key, each in published.items() if not each.deleted}
        gone = [live[row["id"]] for row in await database.fetch(GONE, list(live))]
        now = datetime.now(UTC)
        records = [
            Record(TOPIC, key, encode(deletion(await decoder.decode(published[key].value), now))) for key in gone
        ]
        async with kafka.producer(unit, settings.kafka) as client:
            await kafka.publish(client, records)
    finally:
        await database.close()
    return len(gone)
