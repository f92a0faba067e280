"""`python -m services.connect_watcher`: watch; with `--once`: deploy, wait until it runs, and end."""

import argparse

from chassis.unit import run_unit
from services.connect_watcher.app import NAME, main, once
from services.connect_watcher.settings import WatcherSettings

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{NAME}", description="Keeps the Postgres connector running."
    )
    parser.add_argument("--once", action="store_true", help="deploy the connector, wait until it runs, and end")
    if parser.parse_args().once:
        raise SystemExit(once())
    run_unit(NAME, WatcherSettings, main)
