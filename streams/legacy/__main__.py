"""`python -m streams.legacy`: run the unit legacy."""

from chassis.unit import run_unit
from streams.legacy.app import datasets, main
from streams.legacy.metrics import METRICS
from streams.legacy.settings import Settings

if __name__ == "__main__":
    run_unit("legacy", Settings, main, datasets, METRICS)
