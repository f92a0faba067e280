"""`python -m services.legacy_soap`: serve until stopped."""

from chassis.unit import run_unit
from services.legacy_soap.app import datasets, main
from services.legacy_soap.metrics import METRICS
from services.legacy_soap.settings import LegacySoapServerSettings

if __name__ == "__main__":
    run_unit("legacy_soap", LegacySoapServerSettings, main, datasets, METRICS)
