"""`python -m services.trace SOURCE SALE_ID`: 0 shown, 1 no step knows the sale, 2 wrong usage or a server is away."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis.clickhouse import SETTING, StoreAway, clickhouse, refusal
from chassis.registry import SETTING as REGISTRY_SETTING
from chassis.registry import Client, RegistryAway
from chassis.sales import RAW, sale_id
from chassis.settings import ClickHouseSettings, KafkaSettings, RankingSettings, RegistrySettings, load
from services.trace.app import NAME, Servers, trace
from services.trace.report import print_lines, print_table
from services.trace.transform import Event

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


def main(given: Sequence[str] | None = None) -> int:
    """Trace, print, and return the exit status."""
    asked = arguments(given)
    kafka, registry, store = load(KafkaSettings), load(RegistrySettings), load(ClickHouseSettings)
    lengths = load(RankingSettings).lengths
    for name in ("asynch", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a server that is away is told once, below

    async def run() -> list[Event]:
        async with clickhouse(store, 1, TIMEOUT_S) as opened:
            return await trace(Servers(kafka, Client(registry), opened, lengths), asked.source, asked.sale_id)

    try:
        events = asyncio.run(run())
    except KafkaError as error:
        why = f"kafka at {kafka.bootstrap} (settings KAFKA_HOST, KAFKA_PORT): {error!r}"
    except RegistryAway as error:
        why = f"schema registry at {registry.url} (settings {REGISTRY_SETTING}): {error}"
    except (StoreAway, ServerException) as error:
        said = refusal(error) if isinstance(error, ServerException) else str(error)
        why = f"clickhouse at {store.address}, database {store.db} ({SETTING}): {said}"
    else:
        if not events:
            sys.stderr.write(f"no step knows the sale {asked.sale_id[:60]!r} of {asked.source}\n")
            return 1
        (print_lines if asked.json else print_table)(events)
        return 0
    sys.stderr.write(f"trace not done: {why}\n")
    return 2


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
