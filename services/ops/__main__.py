"""`python -m services.ops`."""

from chassis.unit import run_unit
from services.ops.app import NAME, main
from services.ops.metrics import METRICS
from services.ops.settings import OpsSettings

if __name__ == "__main__":
    run_unit(NAME, OpsSettings, main, metrics=METRICS)
