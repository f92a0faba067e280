"""`python -m streams.files`: run the unit files."""

from chassis.unit import run_unit
from streams.files.app import datasets, main
from streams.files.metrics import METRICS
from streams.files.settings import Settings

if __name__ == "__main__":
    run_unit("files", Settings, main, datasets, METRICS)
