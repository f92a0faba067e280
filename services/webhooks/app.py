"""Composition root of the webhook receiver: server, registry, broker."""

import asyncio
import gc

from chassis import dead_letters, kafka
from chassis.asgi import listen, serve
from chassis.datasets import Dataset, Datasets, avro_fields, derived, described, topic_dataset
from chassis.registry import Registry
from chassis.unit import Unit
from contracts.catalogue import catalogue
from contracts.webhooks import OTHER, PRIVACY, TOPICS, Provider
from services.webhooks.publisher import Publisher
from services.webhooks.receiver import Receiver
from services.webhooks.routes import application
from services.webhooks.settings import WebhooksSettings

EVENTS = (*(topic for kinds in TOPICS.values() for topic in kinds.values()), OTHER, PRIVACY)
"""Every topic of events."""


OURS = ("provider", "topic", "received_at")
"""The fields of an event that no provider sends."""


def datasets(settings: WebhooksSettings) -> Datasets:
    """Lineage: from what the providers deliver to the topics of their events, field by field."""
    contract = catalogue()[OTHER]
    fields = [each for each in avro_fields(contract.avro) if each.name not in OURS]

    def delivered(provider: Provider) -> Dataset:
        dataset = Dataset(settings.public_url, f"webhooks/{provider}")
        return described(dataset, fields, contract.owner, meaning=f"Events that {provider} delivers.")

    inputs = {provider: delivered(provider) for provider in TOPICS}
    columns = {each.name: (each.name,) for each in fields}
    topics = {
        topic: derived(topic_dataset(settings.kafka, topic), inputs[provider], columns)
        for provider, kinds in TOPICS.items()
        for topic in kinds.values()
    }
    return Datasets(
        inputs=[*inputs.values()],
        outputs=[
            *topics.values(),
            *(topic_dataset(settings.kafka, topic) for topic in (OTHER, PRIVACY, dead_letters.TOPIC)),
        ],
        counted={
            **{topic: [(topic, "published")] for topic in EVENTS},
            dead_letters.TOPIC: [(topic, "dead_letter") for topic in EVENTS],
        },
    )


async def _publish(unit: Unit, settings: WebhooksSettings, receiver: Receiver, publisher: Publisher) -> None:
    """Connect, then publish until cancelled.

    Raises:
        ContractError: the registry does not hold a contract.
        KafkaError: the broker rejected a record; a restart begins with a new producer.
    """
    registry = Registry(unit, settings.registry)
    receiver.encoders = {topic: await registry.encoder(topic) for topic in (*EVENTS, dead_letters.TOPIC)}
    async with kafka.producer(unit, settings.kafka) as client:
        await publisher.run(client)


async def main(unit: Unit, settings: WebhooksSettings) -> None:
    """Serve until cancelled; what was taken in is answered first. Until the broker is reached answers are 503.

    Raises:
        OSError: the port is in use.
        ContractError | KafkaError: see `_publish`.
    """
    listener = listen(settings.bind_host, settings.port, "WEBHOOKS_PORT")
    publisher = Publisher(settings.ack_timeout_s)
    receiver = Receiver(unit, settings, publisher)
    app = application(receiver, unit.log)
    gc.freeze()
    # in the order in which they are stopped: while the server drains, what it has taken in is still published
    work = (serve(app, listener), _publish(unit, settings, receiver, publisher), receiver.export())
    tasks = [asyncio.create_task(each) for each in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])
    for task in ended:
        task.result()
