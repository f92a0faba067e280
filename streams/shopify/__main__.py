"""`python -m streams.shopify`: run the unit shopify."""

from chassis.stream import run_stream
from streams.shopify.agents import agent
from streams.shopify.settings import Settings

if __name__ == "__main__":
    run_stream("shopify", Settings, agent)
