"""Composition root of the file poller: store, registry, broker, what was read before, then the rounds."""

from chassis import dead_letters, kafka, progress, s3
from chassis.datasets import (
    Dataset,
    Datasets,
    bucket_dataset,
    derived,
    described,
    named_fields,
    topic_dataset,
)
from chassis.registry import Registry
from chassis.unit import Unit
from contracts.catalogue import catalogue
from services.file_poller.poll import TOPIC, Poller
from services.file_poller.settings import FilePollerSettings
from services.file_poller.transform import COLUMNS, reading


def datasets(settings: FilePollerSettings) -> Datasets:
    """Lineage: the bucket, by the header of its files, to the rows and the dead letters."""
    bucket = described(
        bucket_dataset(settings.s3),
        named_fields((name, "string") for name in COLUMNS),
        catalogue()[TOPIC].owner,
        meaning="CSV files of sales.",
        also=[Dataset(settings.s3.endpoint, settings.s3.bucket)],
    )
    rows = derived(topic_dataset(settings.kafka, TOPIC), bucket, {name: (name,) for name in COLUMNS})
    return Datasets(
        inputs=[bucket],
        outputs=[rows, topic_dataset(settings.kafka, dead_letters.TOPIC)],
        counted={TOPIC: [(TOPIC, "published")], dead_letters.TOPIC: [(TOPIC, "dead_letter")]},
    )


async def main(unit: Unit, settings: FilePollerSettings) -> None:
    """Poll until cancelled."""
    registry = Registry(unit, settings.registry)
    encoders = {topic: await registry.encoder(topic) for topic in (TOPIC, dead_letters.TOPIC, progress.TOPIC)}
    prefix = f"{settings.s3.bucket}/"
    known = {}
    for cursor, position in (await progress.read(unit, settings.kafka, registry)).items():
        before = reading(position)
        if cursor.startswith(prefix) and before is not None:
            known[cursor.removeprefix(prefix)] = before
    async with s3.open_bucket(settings.s3) as bucket, kafka.producer(unit, settings.kafka) as client:
        await Poller(unit, settings, bucket=bucket, client=client, encoders=encoders, known=known).run()
