"""`python -m services.lineage`."""

from chassis.unit import run_unit
from services.lineage.app import NAME, main
from services.lineage.metrics import METRICS
from services.lineage.settings import LineageServerSettings

if __name__ == "__main__":
    run_unit(NAME, LineageServerSettings, main, metrics=METRICS)
