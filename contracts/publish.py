"""Creates topics and subjects from the catalogue; idempotent, and rejected where the registry rejects."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError
from schema_registry.client import AsyncSchemaRegistryClient
from schema_registry.client.errors import ClientError

from contracts.catalogue import Topic
from contracts.codec import ContractError


@dataclass(frozen=True)
class Published:
    """What happened to one topic: `created` or `present`, and the schema id of its subject where it is ours."""

    topic: str
    outcome: str
    schema_id: int | None


async def _publish_topic(admin: AIOKafkaAdminClient, topic: Topic, replicas: int) -> str:
    wanted = NewTopic(topic.name, topic.partitions, replicas, topic_configs=topic.broker_settings)
    answer = await admin.create_topics([wanted])
    _, code, *rest = answer.topic_errors[0]
    if code == 0:
        return "created"
    if code != TopicAlreadyExistsError.errno:
        raise ContractError(f"topic {topic.name} was rejected by the broker: code {code} {rest}")
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.broker_settings)])
    return "present"


async def _publish_subject(registry: AsyncSchemaRegistryClient, topic: Topic) -> int | None:
    await registry.update_compatibility(level=topic.compatibility, subject=topic.subject)
    if topic.schema_role == "reader":
        return None
    try:
        schema_id: int = await registry.register(topic.subject, dict(topic.avro))
    except ClientError as error:
        raise ContractError(
            f"subject {topic.subject} ({topic.compatibility}) rejects the schema: {error.server_traceback or error}"
        ) from error
    return schema_id


async def publish(
    topics: Mapping[str, Topic], admin: AIOKafkaAdminClient, registry: AsyncSchemaRegistryClient, replicas: int = 1
) -> list[Published]:
    """Make broker and registry hold the catalogue. All subjects first: a rejected schema creates no topic.

    A topic that is created gets so many copies; one that is there keeps its own.

    Raises:
        ContractError: an incompatible schema, with the registry's reason, or a topic that the broker rejects.
    """
    ids = {name: await _publish_subject(registry, topic) for name, topic in topics.items()}
    return [Published(name, await _publish_topic(admin, topic, replicas), ids[name]) for name, topic in topics.items()]
