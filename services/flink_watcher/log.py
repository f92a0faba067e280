"""The log of `sales.unified` on the broker: where it begins and ends, and how far a group has read."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chassis.settings import KafkaSettings
from services.flink_watcher.transform import NotDoneError, Part

TOPIC = "sales.unified"
ANSWER_S = 20.0


class LogError(NotDoneError):
    """The broker did not answer; the message names address, setting and reason."""


class SalesLog:
    """The log on one broker."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    async def parts(self, group: str) -> list[Part]:
        """Every partition, with what `group` has committed there.

        Raises:
            LogError: the broker is unavailable, or has no such topic.
        """
        where = f"{TOPIC} at {self._kafka.bootstrap} (settings KAFKA_HOST, KAFKA_PORT)"
        # assigned by hand, so that it reads a group's commits and is no member of it
        client = AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap, group_id=group, enable_auto_commit=False)
        try:
            async with asyncio.timeout(ANSWER_S):
                await client.start()
                if TOPIC not in await client.topics():
                    raise LogError(f"{where}: no such topic; run `task contracts:publish`")
                first = [TopicPartition(TOPIC, 0)]
                client.assign(first)
                await client.end_offsets(first)  # only now does it know of the others
                of = [TopicPartition(TOPIC, number) for number in sorted(client.partitions_for_topic(TOPIC))]
                begins, ends = await client.beginning_offsets(of), await client.end_offsets(of)
                return [Part(one.partition, begins[one], ends[one], await client.committed(one)) for one in of]
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogError(f"{where}: {error!r}") from error
        finally:
            await client.stop()
