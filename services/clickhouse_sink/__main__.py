"""`python -m services.clickhouse_sink`."""

from chassis.unit import run_unit
from services.clickhouse_sink.app import NAME, datasets, main
from services.clickhouse_sink.metrics import METRICS
from services.clickhouse_sink.settings import SinkSettings

if __name__ == "__main__":
    run_unit(NAME, SinkSettings, main, datasets, METRICS)
