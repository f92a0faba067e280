"""What the unit cdc consumes and publishes."""

from functools import partial

from chassis.stream import Agent
from contracts.sale import TOPIC
from streams.cdc.settings import Settings
from streams.cdc.transform import COLUMNS, transform


def agent(settings: Settings) -> Agent:
    """The agent of the unit."""
    return Agent("sales.postgres", TOPIC, partial(transform, epoch=settings.epoch), COLUMNS)
