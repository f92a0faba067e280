"""`python -m services.server_exporter`."""

from chassis.unit import run_unit
from services.server_exporter.app import NAME, main
from services.server_exporter.metrics import METRICS
from services.server_exporter.settings import ExporterSettings

if __name__ == "__main__":
    run_unit(NAME, ExporterSettings, main, metrics=METRICS)
