"""`python -m services.connect_watcher`: watch; with `--once` deploy, with `--resnapshot` read the whole table again."""

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
        "--resnapshot",
        "--resync",  # the former name
        action="store_true",
        help="read the whole table again after changes were missed: new slot, snapshot, deletion of what is gone",
    )
    parser.add_argument(
        "--restored", action="store_true", help="with --resnapshot: the database was restored and CDC_EPOCH is raised"
    )
    args = parser.parse_args()
    if args.once or args.resnapshot:
        raise SystemExit(once(snapshot=args.resnapshot, restored=args.restored))
    run_unit(NAME, WatcherSettings, main, metrics=METRICS)
