"""`python -m tools.trace SOURCE SALE_ID`: 0 shown, 1 no step knows the sale, 2 wrong usage or a server is down."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from chassis.clickhouse import clickhouse
from chassis.command import command, run
from chassis.registry import Client
from chassis.settings import ClickHouseSettings, KafkaSettings, RankingSettings, RegistrySettings, load
from tools.raw_sales import RAW, sale_id
from tools.trace.app import NAME, Servers, trace
from tools.trace.report import print_lines, print_table
from tools.trace.transform import Event

TIMEOUT_S = 60.0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with a message and status 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog=NAME, description="Shows one sale at every step, from its raw records to its rank."
    )
    parser.add_argument("source", choices=list(RAW))
    parser.add_argument("sale_id", metavar="SALE_ID", help="its id at the source; for postgres the row's id")
    parser.add_argument("--json", action="store_true", help="a JSON object per line, with whole records")
    asked = parser.parse_args(given)
    asked.sale_id = sale_id(asked.sale_id)
    if asked.sale_id is None:
        parser.error("SALE_ID is empty")
    return asked


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Trace, print, and return the exit status."""
    asked = arguments(given)
    kafka, registry, store = load(KafkaSettings), load(RegistrySettings), load(ClickHouseSettings)
    lengths = load(RankingSettings).lengths

    async def events_of() -> list[Event]:
        async with clickhouse(store, 1, TIMEOUT_S) as opened:
            return await trace(Servers(kafka, Client(registry), opened, lengths), asked.source, asked.sale_id)

    events = asyncio.run(events_of())
    if not events:
        sys.stderr.write(f"no step knows the sale {asked.sale_id[:60]!r} of {asked.source}\n")
        return 1
    (print_lines if asked.json else print_table)(events)
    return 0


if __name__ == "__main__":
    run(main)
