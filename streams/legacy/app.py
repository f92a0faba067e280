"""Composition root of the unit legacy."""

from chassis import stream
from chassis.datasets import Datasets
from chassis.unit import Unit
from streams.legacy.agents import agent
from streams.legacy.settings import Settings


def datasets(settings: Settings) -> Datasets:
    """What the unit reads and writes, for lineage."""
    return agent(settings).datasets(settings)


async def main(unit: Unit, settings: Settings) -> None:
    """Run until cancelled."""
    await stream.run(unit, settings, agent(settings))
