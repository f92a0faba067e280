"""`python -m tools.audit`: ends with status 0 where all is equal, 1 where something differs, 2 when not done."""

import argparse
import asyncio
from collections.abc import Sequence

from chassis.clickhouse import clickhouse
from chassis.command import command, run
from chassis.settings import ClickHouseSettings, RankingSettings, load
from tools.audit.app import NAME, Result, audit
from tools.audit.report import Lines, Table
from tools.audit.store import LAST_SECOND, Grid, grids
from tools.audit.transform import second

TIMEOUT_S = 300.0  # one query reads all sales of some days


def _instant(text: str) -> int:
    try:
        return second(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 3600 seconds")
    return value


def arguments(labels: Sequence[str], given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, where `labels` are the lengths to choose from.

    Ends the process with a message and status 2 where it is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=NAME, description="Recomputes the rankings from the sales in ClickHouse and compares what is served."
    )
    parser.add_argument("--length", choices=labels, help="windows of one configured length only (of RANKING_WINDOWS)")
    parser.add_argument("--from", dest="start", type=_instant, default=0, metavar="ISO", help="first window (all)")
    parser.add_argument(
        "--to", dest="end", type=_instant, default=LAST_SECOND, metavar="ISO", help="end, excluded (all)"
    )
    parser.add_argument(
        "--settle", type=_seconds, default=10.0, metavar="S", help="read what differs again for so many seconds (10)"
    )
    parser.add_argument(
        "--json", action="store_true", help="a JSON object per line: every difference, at last the outcome"
    )
    return parser.parse_args(given)


async def _main(
    asked: argparse.Namespace, of: Sequence[Grid], settings: ClickHouseSettings, out: Lines | Table
) -> Result:
    async with clickhouse(settings, 1, TIMEOUT_S) as store:
        return await audit(
            store, of, asked.start, asked.end, settle_s=asked.settle, report=out.difference, say=out.note
        )


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit status."""
    settings, known = load(ClickHouseSettings), grids(load(RankingSettings).lengths)
    asked = arguments(list(known), given)
    of = [known[asked.length]] if asked.length else list(known.values())
    out = Lines() if asked.json else Table()
    result = asyncio.run(_main(asked, of, settings, out))
    out.outcome(result)
    return 1 if result.differing else 0


if __name__ == "__main__":
    run(main)
