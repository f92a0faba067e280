"""`python -m services.file_poller`: poll the bucket until stopped."""

from chassis.unit import run_unit
from services.file_poller.app import datasets, main
from services.file_poller.metrics import METRICS
from services.file_poller.settings import FilePollerSettings

if __name__ == "__main__":
    run_unit("file_poller", FilePollerSettings, main, datasets, METRICS)
