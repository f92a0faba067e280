"""Helpers of the sources' tests: a unit as a process, the bucket, and what was published."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from obstore.store import S3Store
from pydantic import SecretStr
from schema_registry.client import AsyncSchemaRegistryClient
from yarl import URL

from chassis import s3
from chassis.s3_protocol import signed
from chassis.settings import RegistrySettings, S3Settings
from contracts.catalogue import catalogue
from contracts.codec import Decoder
from tests.connected.unit_process import UnitProcess, unit_process

Records = list[tuple[bytes | None, dict[str, Any]]]


def store_settings(environment: Mapping[str, str]) -> S3Settings:
    """Where the servers' bucket is."""
    return S3Settings(
        endpoint=environment.get("S3_ENDPOINT") or f"http://127.0.0.1:{environment['S3_PORT']}",
        access_key=environment["S3_ACCESS_KEY"],
        secret_key=SecretStr(environment["S3_SECRET_KEY"]),
        bucket=environment["S3_BUCKET"],
    )


def bucket(environment: Mapping[str, str]) -> S3Store:
    """A client of the bucket that the servers hold."""
    return s3.bucket(store_settings(environment))


async def put(environment: Mapping[str, str], key: str, content: bytes) -> bool:
    """Put an object under a key that obstore rejects; returns whether the store took it."""
    settings = store_settings(environment)
    path = quote(f"/{settings.bucket}/{key}", safe="/-_.~")
    url = URL(settings.endpoint + path, encoded=True)
    async with aiohttp.ClientSession() as session:
        unsigned = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        headers = signed(settings, "PUT", path, "", unsigned, now=datetime.now(UTC))
        async with session.put(url, data=content, headers=headers) as response:
            return response.status == 200


class Reader:
    """Everything that has been published to a topic from the moment of its making."""

    def __init__(self, environment: Mapping[str, str], topic: str) -> None:
        kafka = f"{environment['KAFKA_HOST']}:{environment['KAFKA_PORT']}"
        registry = RegistrySettings(
            host=environment["SCHEMA_REGISTRY_HOST"], port=int(environment["SCHEMA_REGISTRY_PORT"])
        )
        self._decoder = Decoder(AsyncSchemaRegistryClient(registry.url), catalogue()[topic])
        self._client = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
        self._partitions = [TopicPartition(topic, number) for number in range(catalogue()[topic].partitions)]
        self.records: Records = []

    async def start(self) -> None:
        """Begin at the topic's end."""
        await self._client.start()
        self._client.assign(self._partitions)
        for partition, offset in (await self._client.end_offsets(self._partitions)).items():
            self._client.seek(partition, offset)

    async def stop(self) -> None:
        """Close the connection."""
        await self._client.stop()

    async def waiting(self) -> int:
        """How many records have come since the last `read`; they are neither fetched nor decoded."""
        ends = await self._client.end_offsets(self._partitions)
        return sum([end - await self._client.position(partition) for partition, end in ends.items()])

    async def read(self) -> Records:
        """Everything so far."""
        ends = await self._client.end_offsets(self._partitions)
        while any([await self._client.position(partition) < ends[partition] for partition in self._partitions]):
            for messages in (await self._client.getmany(timeout_ms=200)).values():
                for message in messages:
                    self.records.append((message.key, await self._decoder.decode(message.value)))
        return self.records

    async def of(self, start: bytes) -> Records:
        """Everything so far whose key begins so."""
        return [(key, value) for key, value in await self.read() if key is not None and key.startswith(start)]


@asynccontextmanager
async def reader(environment: Mapping[str, str], topic: str) -> AsyncIterator[Reader]:
    """A started Reader while the context lasts."""
    reading = Reader(environment, topic)
    await reading.start()
    try:
        yield reading
    finally:
        await reading.stop()


def peak_bytes(process: UnitProcess) -> int:
    """The most memory (resident set) that a process has had so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def service(
    unit: str, environment: Mapping[str, str], log: Path, *, wait: bool = True
) -> AbstractAsyncContextManager[UnitProcess]:
    """A started service, ready unless `wait` is off; stopped at the end if it still runs."""
    return unit_process(f"services.{unit}", environment, log, wait=wait)
