"""What the unit files consumes and publishes."""

from functools import partial

from chassis.stream import Agent
from contracts.sale import TOPIC
from streams.files.settings import Settings, zone
from streams.files.transform import COLUMNS, transform


def agent(settings: Settings) -> Agent:
    """The agent of the unit."""
    return Agent("sales.files", TOPIC, partial(transform, zone=zone(settings.timezone)), COLUMNS)
