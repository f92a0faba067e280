"""How the accounts are shown: a table for people, or one JSON object per line for machines."""

import json
import sys
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Column
from rich.table import Table as Grid

from contracts.time import iso
from tools.ledger.app import Period, lacking
from tools.ledger.transform import STEPS, Account, Step
from tools.raw_sales import RAW

SHOWN = 20  # names of missing sales per step; --json shows all
PLAIN_WIDTH = 120
SHORT = 40


def where(source: str, step: Step) -> str:
    """What a step is called."""
    return {"source": source, "topic": RAW[source][0], "unified": "sales.unified", "clickhouse": "ClickHouse"}[step]


def _lines(accounts: Mapping[str, Account], period: Period) -> Iterator[dict[str, object]]:
    for source, one in accounts.items():
        for step, names in one.missing.items():
            for name in names:
                yield {"source": source, "sale_id": name, "missing_in": where(source, step)}
    for source, one in accounts.items():
        yield {
            "from": iso(period.start),
            "to": iso(period.end),
            "source": source,
            **{step if step != "source" else "at_source": one.counts[step] for step in STEPS},
            "dead_letters": one.dead,
            "missing": sum(map(len, one.missing.values())),
        }


def print_lines(accounts: Mapping[str, Account], period: Period) -> None:
    """Every missing sale, then the numbers of each source."""
    for line in _lines(accounts, period):
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def print_table(accounts: Mapping[str, Account], period: Period) -> None:
    """The numbers side by side, and the first missing sales of each step."""
    names = ("at the source", "its topic", "sales.unified", "ClickHouse", "dead letters", "missing")
    grid = Grid("sales of", *(Column(name, justify="right", no_wrap=True) for name in names), box=None)
    for source, one in accounts.items():
        missing = sum(map(len, one.missing.values()))
        grid.add_row(source, *(str(one.counts[step]) for step in STEPS), str(one.dead), str(missing))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(grid)
    for source, one in accounts.items():
        for step, ids in one.missing.items():
            if ids:
                shown = ", ".join(name if len(name) <= SHORT else f"{name[:SHORT]}..." for name in ids[:SHOWN])
                more = f" and {len(ids) - SHOWN} more (--json shows all)" if len(ids) > SHOWN else ""
                sys.stdout.write(f"{len(ids)} of {source} missing in {where(source, step)}: {shown}{more}\n")
    total = lacking(accounts)
    said = f"{total} sales are missing" if total else "nothing is missing"
    sys.stdout.write(f"{iso(period.start)} to {iso(period.end)}: {said}\n")
