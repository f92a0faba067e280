"""Composition root of the file poller: store, registry, broker, what was read before, then the rounds."""

from chassis import dead_letters, kafka, progress, s3
from chassis.lineage import Dataset, Datasets, topic_dataset
from chassis.registry import Registry
from chassis.unit import Unit
from services.file_poller.poll import TOPIC, Encoders, Poller
from services.file_poller.settings import FilePollerSettings
from services.file_poller.transform import reading


def datasets(settings: FilePollerSettings) -> Datasets:
    """Lineage: the bucket to the rows and the dead letters."""
    return Datasets(
        inputs=[Dataset(f"s3://{settings.s3.bucket}", "/")],
        outputs=[topic_dataset(settings.kafka, topic) for topic in (TOPIC, dead_letters.TOPIC)],
    )


async def main(unit: Unit, settings: FilePollerSettings) -> None:
    """Poll until cancelled."""
    registry = Registry(unit, settings.registry)
    encoders = Encoders(
        await registry.encoder(TOPIC),
        await registry.encoder(dead_letters.TOPIC),
        await registry.encoder(progress.TOPIC),
    )
    prefix = f"{settings.s3.bucket}/"
    known = {}
    for cursor, position in (await progress.read(unit, settings.kafka, registry)).items():
        before = reading(position)
        if cursor.startswith(prefix) and before is not None:
            known[cursor.removeprefix(prefix)] = before
    async with kafka.producer(unit, settings.kafka) as client:
        await Poller(unit, settings, store=s3.bucket(settings.s3), client=client, encoders=encoders, known=known).run()
