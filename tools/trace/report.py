"""How a trace is shown: a table for people, or one JSON object per line for machines."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid

from tools.trace.transform import Event

PLAIN_WIDTH = 200


def print_lines(events: Sequence[Event]) -> None:
    """Each event with all its values."""
    for event in events:
        line = {"step": event.step, "where": event.where, "time": event.time, "said": event.said, **event.values}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def print_table(events: Sequence[Event]) -> None:
    """Each event in a line."""
    grid = Grid("step", Column("where", no_wrap=True), Column("time", no_wrap=True), "what", box=None)
    for event in events:
        grid.add_row(event.step, event.where, event.time, escape(event.said))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(grid)
