"""`python -m services.flink_watcher`: watch; with `--once`: submit or replace, wait until it runs, and end."""

import argparse

from chassis.unit import run_unit
from services.flink_watcher.app import NAME, datasets, main, once
from services.flink_watcher.settings import WatcherSettings

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m services.{NAME}", description="Keeps the ranking job running.")
    parser.add_argument("--once", action="store_true", help="submit the job where needed, wait until it runs, and end")
    if parser.parse_args().once:
        raise SystemExit(once())
    run_unit(NAME, WatcherSettings, main, datasets)
