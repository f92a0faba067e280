"""Composition root of the legacy poller: registry, what was read before, the SOAP client, the broker, the rounds."""

import contextlib

from chassis import dead_letters, kafka, progress
from chassis.lineage import Dataset, Datasets, topic_dataset
from chassis.registry import Registry
from chassis.unit import Unit
from services.legacy_poller import soap
from services.legacy_poller.poll import CURSOR, SERVER, SETTING, TOPIC, Poller
from services.legacy_poller.settings import LegacyPollerSettings
from services.legacy_poller.transform import cursor


def datasets(settings: LegacyPollerSettings) -> Datasets:
    """Lineage: the SOAP operation to the sales and the dead letters."""
    service = settings.service
    return Datasets(
        inputs=[Dataset(f"soap://{service.host}:{service.port}", soap.OPERATION)],
        outputs=[topic_dataset(settings.kafka, topic) for topic in (TOPIC, dead_letters.TOPIC)],
    )


async def main(unit: Unit, settings: LegacyPollerSettings) -> None:
    """Poll until cancelled."""
    registry = Registry(unit, settings.registry)
    encoders = {topic: await registry.encoder(topic) for topic in (TOPIC, dead_letters.TOPIC, progress.TOPIC)}
    before = cursor((await progress.read(unit, settings.kafka, registry)).get(CURSOR))
    url = settings.service.url
    service = await unit.connect(
        SERVER,
        url,
        SETTING,
        lambda: soap.connect(url, settings.timeout_s, settings.max_answer_bytes),
        soap.Unanswered,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(service.close)
        client = await stack.enter_async_context(kafka.producer(unit, settings.kafka))
        await Poller(unit, settings, service=service, client=client, encoders=encoders, cursor=before).run()
