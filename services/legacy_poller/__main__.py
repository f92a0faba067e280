"""`python -m services.legacy_poller`: poll the SOAP service until stopped."""

from chassis.unit import run_unit
from services.legacy_poller.app import datasets, main
from services.legacy_poller.metrics import METRICS
from services.legacy_poller.settings import LegacyPollerSettings

if __name__ == "__main__":
    run_unit("legacy_poller", LegacyPollerSettings, main, datasets, METRICS)
