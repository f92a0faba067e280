"""Composition root of the legacy poller: registry, the position, the SOAP client, the broker, the rounds."""

import contextlib

from chassis import dead_letters, kafka, progress
from chassis.datasets import Dataset, Datasets, avro_fields, derived, described, soap_dataset, topic_dataset
from chassis.registry import Registry
from chassis.unit import Unit
from contracts.catalogue import catalogue
from services.legacy_poller import soap
from services.legacy_poller.answer import OPERATION
from services.legacy_poller.poll import CURSOR, SERVER, SETTING, TOPIC, Poller
from services.legacy_poller.settings import LegacyPollerSettings
from services.legacy_poller.transform import cursor


def datasets(settings: LegacyPollerSettings) -> Datasets:
    """Lineage: the SOAP operation, by its elements, to the sales and the dead letters."""
    contract = catalogue()[TOPIC]
    elements = [each for each in avro_fields(contract.avro) if each.name != "fetched_at"]
    sales = described(
        soap_dataset(settings.service.host, settings.service.port, OPERATION),
        elements,
        contract.owner,
        meaning="Sales of the legacy ERP.",
        also=[Dataset(f"http://{settings.service.host}:{settings.service.port}", "/ws/sales")],
    )
    published = derived(topic_dataset(settings.kafka, TOPIC), sales, {each.name: (each.name,) for each in elements})
    return Datasets(
        inputs=[sales],
        outputs=[published, topic_dataset(settings.kafka, dead_letters.TOPIC)],
        counted={TOPIC: [(TOPIC, "published")], dead_letters.TOPIC: [(TOPIC, "dead_letter")]},
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
