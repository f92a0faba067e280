"""What the unit legacy consumes and publishes."""

from chassis.stream import Agent
from contracts.sale import TOPIC
from streams.legacy.settings import Settings
from streams.legacy.transform import COLUMNS, transform


def agent(_: Settings) -> Agent:
    """The agent of the unit."""
    return Agent("sales.legacy", TOPIC, transform, COLUMNS)
