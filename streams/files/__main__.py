"""`python -m streams.files`: run the unit files."""

from chassis.stream import run_stream
from streams.files.agents import agent
from streams.files.settings import Settings

if __name__ == "__main__":
    run_stream("files", Settings, agent)
