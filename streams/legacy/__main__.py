"""`python -m streams.legacy`: run the unit legacy."""

from chassis.stream import run_stream
from streams.legacy.agents import agent
from streams.legacy.settings import Settings

if __name__ == "__main__":
    run_stream("legacy", Settings, agent)
