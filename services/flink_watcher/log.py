"""The log of `sales.unified`: where it begins and ends, how far a group has read, and what nobody can read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from chassis import kafka
from chassis.registry import Client, RegistryUnavailableError
from chassis.settings import KafkaSettings, RegistrySettings
from contracts import codec
from contracts.catalogue import catalogue
from services.flink_watcher.transform import NotDoneError, Part, Undecodable

NAME = "flink_watcher"
TOPIC = "sales.unified"
ANSWER_S = 20.0
AT_ONCE = 10_000
"""Records that are published again as one batch."""


class LogError(NotDoneError):
    """The broker or the registry did not answer; the message names address, setting and reason."""


class SalesLog:
    """The log on one broker."""

    def __init__(self, settings: KafkaSettings, registry: RegistrySettings) -> None:
        self._kafka = settings
        self._registry = registry

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[str]:
        """Errors as LogError; yields how it names the log."""
        where = f"{TOPIC} at {self._kafka.bootstrap} (settings {kafka.SETTING})"
        try:
            yield where
        except (KafkaError, OSError, RegistryUnavailableError) as error:
            raise LogError(f"{where}: {error!r}") from error

    async def parts(self, group: str) -> list[Part]:
        """Every partition, with what `group` has committed there.

        Raises:
            LogError: the broker is unavailable, or has no such topic.
        """
        # assigned by hand, so that it reads a group's commits and is no member of it
        client = AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap, group_id=group, enable_auto_commit=False)
        async with self._answering() as where:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await client.start()
                    numbers = (await kafka.partitions(client)).get(TOPIC)
                    if not numbers:
                        raise LogError(f"{where}: no such topic; run `task contracts:publish`")
                    of = [TopicPartition(TOPIC, number) for number in numbers]
                    client.assign(of)
                    begins, ends = await client.beginning_offsets(of), await client.end_offsets(of)
                    return [Part(one.partition, begins[one], ends[one], await client.committed(one)) for one in of]
            finally:
                await client.stop()

    async def undecodable(self, group: str) -> Undecodable | None:
        """The first record behind what the group has committed that is none of the contract; None where all are.

        Raises:
            LogError: the broker or the registry is unavailable.
        """
        decoder = codec.Decoder(Client(self._registry), catalogue()[TOPIC])
        read = {part.number: part.read for part in await self.parts(group)}
        async with self._answering(), kafka.reading(NAME, self._kafka, [TOPIC]) as client:
            for partition in client.assignment():
                client.seek(partition, read[partition.partition])
            async for message in kafka.messages_to_end(client):
                try:
                    if message.value is not None:
                        await decoder.decode(message.value)
                except codec.DecodeError as error:
                    return Undecodable(message.partition, message.offset, f"{error.reason}: {error.detail}")
        return None

    async def skip(self, blocked: Undecodable) -> int:
        """Make its partition begin behind the record; returns how many records before it were published again.

        They are upserts, so a second time changes nothing; without it the log would lose them.

        Raises:
            LogError: the broker is unavailable; the log still has everything, some of it perhaps twice.
        """
        partition, count, batch = TopicPartition(TOPIC, blocked.partition), 0, list[kafka.Record]()
        async with (
            self._answering(),
            kafka.reading(NAME, self._kafka, [TOPIC]) as client,
            kafka.sending(NAME, self._kafka) as producer,
        ):
            async for message in kafka.messages_to_end(client, {partition: blocked.offset}):
                batch.append(kafka.Record(TOPIC, message.key, message.value, message.headers))
                if len(batch) == AT_ONCE:
                    count += await kafka.publish(producer, batch)
                    batch.clear()
            count += await kafka.publish(producer, batch)
            admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka.bootstrap, client_id=NAME)
            try:
                await admin.start()
                await admin.delete_records({partition: RecordsToDelete(before_offset=blocked.offset + 1)})
            finally:
                await admin.close()
        return count
