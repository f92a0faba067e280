"""`python -m services.webhooks`: serve until stopped."""

from chassis.unit import run_unit
from services.webhooks.app import datasets, main
from services.webhooks.metrics import METRICS
from services.webhooks.settings import WebhooksSettings

if __name__ == "__main__":
    run_unit("webhooks", WebhooksSettings, main, datasets, METRICS)
