"""What the unit stripe consumes and publishes."""

from functools import partial

from chassis.stream import Agent
from contracts.sale import TOPIC
from streams.stripe.settings import Settings
from streams.stripe.transform import COLUMNS, transform


def agent(settings: Settings) -> Agent:
    """The agent of the unit."""
    return Agent("stripe.charges", TOPIC, partial(transform, currency=settings.reporting.currency), COLUMNS)
