"""`python -m services.api`."""

from chassis.unit import run_unit
from services.api.app import NAME, datasets, main
from services.api.metrics import METRICS
from services.api.settings import ApiSettings

if __name__ == "__main__":
    run_unit(NAME, ApiSettings, main, datasets, METRICS)
