"""What the unit shopify consumes and publishes."""

from functools import partial

from chassis.stream import Agent
from contracts.sale import TOPIC
from streams.shopify.settings import Settings
from streams.shopify.transform import COLUMNS, transform


def agent(settings: Settings) -> Agent:
    """The agent of the unit."""
    return Agent("shopify.orders", TOPIC, partial(transform, currency=settings.reporting.currency), COLUMNS)
