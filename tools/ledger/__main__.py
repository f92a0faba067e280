"""`python -m tools.ledger`: ends with status 0 where nothing is missing, 1 where something is, 2 when not done."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence

from chassis import s3
from chassis.clickhouse import clickhouse
from chassis.command import NotDoneError, command, run
from chassis.registry import Client
from chassis.settings import (
    ClickHouseSettings,
    KafkaSettings,
    LegacySoapSettings,
    PostgresSettings,
    RegistrySettings,
    S3Settings,
    load,
)
from contracts.time import DAY_MS
from tools.ledger.app import Period, Servers, lacking, ledger
from tools.ledger.report import print_lines, print_table
from tools.ledger.sources import SourceError
from tools.ledger.store import NAME
from tools.ledger.transform import SOURCES, Account
from tools.raw_sales import written

TIMEOUT_S = 300.0  # one query reads all sales of the period


def _instant(text: str) -> int:
    found = written(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not ISO 8601, such as 2026-02-19T10:00:00Z")
    return found


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 3600 seconds")
    return value


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with a message and status 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog=NAME, description="Counts the sales of a period at each step from the sources to ClickHouse."
    )
    parser.add_argument("--from", dest="start", type=_instant, metavar="ISO", help="first instant (a day before --to)")
    parser.add_argument("--to", dest="end", type=_instant, metavar="ISO", help="end, excluded (now)")
    parser.add_argument("--source", action="append", choices=SOURCES, help="only this source; may be repeated (all)")
    parser.add_argument(
        "--settle", type=_seconds, default=90.0, metavar="S", help="wait so many seconds for what is on its way (90)"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object per line: what is missing, then the numbers")
    asked = parser.parse_args(given)
    asked.end = time.time_ns() // 1_000_000 if asked.end is None else asked.end
    asked.start = asked.end - DAY_MS if asked.start is None else asked.start
    if asked.start >= asked.end:
        parser.error("--from is not before --to")
    return asked


class Settings:
    """Where everything is; ends the process with one line where a setting is wrong."""

    def __init__(self) -> None:
        self.postgres, self.s3, self.legacy = load(PostgresSettings), load(S3Settings), load(LegacySoapSettings)
        self.kafka, self.registry = load(KafkaSettings), load(RegistrySettings)
        self.clickhouse = load(ClickHouseSettings)

    def source(self, name: str) -> str:
        """Where a source is, and by which settings."""
        return {
            "postgres": f"postgres at {self.postgres.host}:{self.postgres.port} (settings POSTGRES_*)",
            "files": f"object store at {self.s3.endpoint} (settings {s3.SETTING})",
            "legacy": f"legacy service at {self.legacy.url} (settings LEGACY_SOAP_HOST, LEGACY_SOAP_PORT)",
        }[name]


async def _main(asked: argparse.Namespace, settings: Settings, say: Callable[[str], None]) -> dict[str, Account]:
    async with clickhouse(settings.clickhouse, 1, TIMEOUT_S) as store:
        registry = Client(settings.registry)
        bucket = s3.bucket(settings.s3)
        servers = Servers(settings.postgres, bucket, settings.legacy, settings.kafka, registry, store)
        period = Period(asked.start, asked.end)
        return await ledger(servers, asked.source or SOURCES, period, settle_s=asked.settle, say=say)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit status."""
    asked, settings = arguments(given), Settings()
    try:
        accounts = asyncio.run(_main(asked, settings, _note))
    except SourceError as error:
        raise NotDoneError(f"{settings.source(error.source)}: {error}") from error
    (print_lines if asked.json else print_table)(accounts, Period(asked.start, asked.end))
    return 1 if lacking(accounts) else 0


if __name__ == "__main__":
    run(main)
