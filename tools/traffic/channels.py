"""Through what is sold: the retailer's own sources, and the providers whose webhooks tell of sales elsewhere."""

from enum import StrEnum


class Channel(StrEnum):
    """A source of sales, or a provider of webhooks."""

    POSTGRES = "postgres"
    FILES = "files"
    LEGACY = "legacy"
    SHOPIFY = "shopify"
    STRIPE = "stripe"
    HUBSPOT = "hubspot"


PROVIDERS = (Channel.SHOPIFY, Channel.STRIPE, Channel.HUBSPOT)
OWN = tuple(channel for channel in Channel if channel not in PROVIDERS)
