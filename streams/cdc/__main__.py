"""`python -m streams.cdc`: run the unit cdc."""

from chassis.unit import run_unit
from streams.cdc.app import datasets, main
from streams.cdc.metrics import METRICS
from streams.cdc.settings import Settings

if __name__ == "__main__":
    run_unit("cdc", Settings, main, datasets, METRICS)
