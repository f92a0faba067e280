"""`python -m streams.cdc`: run the unit cdc."""

from chassis.stream import run_stream
from streams.cdc.agents import agent
from streams.cdc.settings import Settings

if __name__ == "__main__":
    run_stream("cdc", Settings, agent)
