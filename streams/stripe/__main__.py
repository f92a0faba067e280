"""`python -m streams.stripe`: run the unit stripe."""

from chassis.stream import run_stream
from streams.stripe.agents import agent
from streams.stripe.settings import Settings

if __name__ == "__main__":
    run_stream("stripe", Settings, agent)
