"""`python -m services.connect_watcher`: watch, or with `--once` deploy and with `--resync` read the table anew."""

import argparse

from chassis.unit import run_unit
from services.connect_watcher.app import NAME, main, once
from services.connect_watcher.metrics import METRICS
from services.connect_watcher.settings import WatcherSettings

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{NAME}", description="Keeps the Postgres connector running."
    )
    parser.add_argument("--once", action="store_true", help="deploy the connector, wait until it runs, and end")
    parser.add_argument(
        "--resync",
        action="store_true",
        help="read the table anew after changes were missed: new slot, snapshot, deletion of what is gone",
    )
    parser.add_argument(
        "--restored", action="store_true", help="with --resync: the database was restored and CDC_EPOCH is raised"
    )
    given = parser.parse_args()
    if given.once or given.resync:
        raise SystemExit(once(resynced=given.resync, restored=given.restored))
    run_unit(NAME, WatcherSettings, main, metrics=METRICS)
