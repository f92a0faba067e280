"""Helpers of the streams tests: feed a raw topic, run a unit in this process or as its own, read what it published."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from schema_registry.client import AsyncSchemaRegistryClient

from chassis import logs, stream
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.rejections import RejectionSettings
from chassis.settings import KafkaSettings, RegistrySettings
from chassis.stream import Agent, StreamSettings
from chassis.unit import Unit
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Decoder
from contracts.json_avro import typed

DEADLINE_S = 60.0


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until the condition holds.

    Raises:
        AssertionError: it does not within the deadline.
    """
    end = asyncio.get_running_loop().time() + deadline_s
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.05)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unique(name: str) -> str:
    """A name that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


@dataclass
class Published:
    """What was published since a moment, by topic: key and decoded value of each record."""

    records: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)

    def sales(self) -> dict[str, dict[str, Any]]:
        """Unified sales by id; where there are several versions, the highest."""
        newest: dict[str, dict[str, Any]] = {}
        for topic, _, value in self.records:
            if topic == "sales.unified" and value["version"] >= newest.get(value["sale_id"], value)["version"]:
                newest[value["sale_id"]] = value
        return newest

    def dead_letters(self, unit: str) -> dict[tuple[int, int], dict[str, Any]]:
        """Dead letters of a unit by partition and offset of the original record."""
        return {
            (value["partition"], value["offset"]): value
            for topic, _, value in self.records
            if topic == "sales.dlq" and value["unit"] == unit
        }


class Servers:
    """Broker and registry as a test sees them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.kafka = KafkaSettings(host=environment["KAFKA_HOST"], port=int(environment["KAFKA_PORT"]))
        self.registry = RegistrySettings(
            host=environment["SCHEMA_REGISTRY_HOST"], port=int(environment["SCHEMA_REGISTRY_PORT"])
        )
        self.client = AsyncSchemaRegistryClient(self.registry.url)

    def settings(self, **more: Any) -> StreamSettings:
        """Settings of a unit against these servers; it goes on whatever other tests have left in its topic."""
        never = RejectionSettings(share_max=0, run_max=0)
        return StreamSettings(kafka=self.kafka, registry=self.registry, rejections=never, ops_port=free_port(), **more)

    async def encode(self, topic: str, records: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Examples (JSON values) as the topic's producer writes them; Debezium's schema is registered on the way."""
        described = catalogue()[topic]
        if described.schema_role == "reader":
            await self.client.register(described.subject, dict(described.avro))
        encode = await codec.encoder(self.client, described)
        return [encode(typed(described.avro, record)) for record in records]

    async def feed(self, topic: str, payloads: Sequence[bytes | None], **options: Any) -> list[tuple[int, int]]:
        """Write the payloads, with a producer of these options; returns partition and offset of each."""
        client = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, max_request_size=2 * 1024 * 1024, **options)
        await client.start()
        try:
            pending = [
                await client.send(topic, payload, key=f"key {number}".encode())
                for number, payload in enumerate(payloads)
            ]
            return [(metadata.partition, metadata.offset) for metadata in await asyncio.gather(*pending)]
        finally:
            await client.stop()

    @asynccontextmanager
    async def published(self, *topics: str) -> AsyncIterator[tuple[Published, Callable[[], Awaitable[None]]]]:
        """What is published from now on to these topics, else `sales.unified` and `sales.dlq`; a function reads on."""
        topics = topics or ("sales.unified", "sales.dlq")
        decoders = {topic: Decoder(self.client, catalogue()[topic]) for topic in topics}
        client = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap, auto_offset_reset="earliest")
        await client.start()
        published = Published()

        async def read() -> None:
            for messages in (await client.getmany(timeout_ms=100)).values():
                for message in messages:
                    value = await decoders[message.topic].decode(message.value)
                    published.records.append((message.topic, message.key, value))

        try:
            partitions = [
                TopicPartition(topic, number) for topic in topics for number in range(catalogue()[topic].partitions)
            ]
            client.assign(partitions)
            for partition, offset in (await client.end_offsets(partitions)).items():
                client.seek(partition, offset)
            yield published, read
        finally:
            await client.stop()

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """The committed offset of a group by topic and partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:  # the broker's first group: its topic of offsets is being created
            return {}
        finally:
            await admin.close()
        return {(tp.topic, tp.partition): committed.offset for tp, committed in offsets.items()}

    async def skip(self, group: str, topic: str) -> None:
        """Let a new group begin at the end of the topic."""
        client = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap, group_id=group, enable_auto_commit=False)
        await client.start()
        try:
            client.assign([TopicPartition(topic, number) for number in range(catalogue()[topic].partitions)])
            await client.commit(await client.end_offsets(list(client.assignment())))
        finally:
            await client.stop()

    async def lag(self, group: str, topic: str) -> int:
        """How many offsets of the topic the group has not committed."""
        client = AIOKafkaConsumer(topic, bootstrap_servers=self.kafka.bootstrap)
        await client.start()
        try:
            partitions = [TopicPartition(topic, number) for number in range(catalogue()[topic].partitions)]
            ends, begun = await client.end_offsets(partitions), await client.beginning_offsets(partitions)
        finally:
            await client.stop()
        committed = await self.committed(group)
        return sum(end - max(begun[tp], committed.get((tp.topic, tp.partition), begun[tp])) for tp, end in ends.items())

    async def members(self, group: str) -> int:
        """How many workers share the group's topic; 0 while they are being given their partitions."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            ((described,),) = [answer.groups for answer in await admin.describe_consumer_groups([group])]
        finally:
            await admin.close()
        _, _, state, _, _, members, *_ = described
        return len(members) if state == "Stable" else 0


@asynccontextmanager
async def unit_in_process(
    servers: Servers, agent: Agent, name: str, **settings: Any
) -> AsyncIterator[tuple[Unit, asyncio.Task[None]]]:
    """The agent running in this process under its own group; cancelled at the end."""
    unit = Unit(name, logs.configure(name, "warning"), Metrics(name), Readiness())
    unit.readiness.met("start")
    work = asyncio.create_task(stream.run(unit, servers.settings(**settings), agent))
    try:
        yield unit, work
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await work


@asynccontextmanager
async def forwarder(port: int, host: str, target: int) -> AsyncIterator[None]:
    """Connections to `port` of this machine reach `host:target` while the context lasts."""
    open_writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, target)
        open_writers.update((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


@dataclass(frozen=True)
class Page:
    """What somebody who is no schema registry answers."""

    status: int = 503
    content_type: str = "text/html"
    text: str = "<html><body>Service Unavailable</body></html>"


@asynccontextmanager
async def answering(port: int, page: Page) -> AsyncIterator[None]:
    """Every request to `port` of this machine gets the page while the context lasts."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=page.status, content_type=page.content_type, text=page.text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()
