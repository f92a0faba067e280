"""`python -m services.flink_watcher`: watch, or with `--once` or `--rebuild` do one thing and end."""

import argparse

from chassis.unit import run_unit
from services.flink_watcher.app import NAME, main, once
from services.flink_watcher.metrics import METRICS
from services.flink_watcher.settings import WatcherSettings

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m services.{NAME}", description="Keeps the ranking job running.")
    parser.add_argument("--once", action="store_true", help="submit the job where needed, wait until it runs, and end")
    parser.add_argument(
        "--rebuild", action="store_true", help="recompute all rankings beside the running job, switch over, and end"
    )
    parser.add_argument(
        "--skip", action="store_true", help="skip the record that stopped the job, wait until it runs, and end"
    )
    args = parser.parse_args()
    if args.once or args.rebuild or args.skip:
        try:
            raise SystemExit(once(rebuilt=args.rebuild, skipped=args.skip))
        except KeyboardInterrupt:
            raise SystemExit(130) from None
    run_unit(NAME, WatcherSettings, main, metrics=METRICS)
