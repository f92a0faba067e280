"""How the outcome is shown: a table for people, or one JSON object per line for machines."""

import dataclasses
import sys
from decimal import Decimal
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid

from tools.audit.app import Result
from tools.audit.transform import Difference, Figure, instant

SHOWN = 1000  # the table is held until it is printed; --json shows every difference
PLAIN_WIDTH = 160  # characters of a line where no terminal tells


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:.2f}")  # the digits themselves: never through a float
    raise TypeError(f"{type(value).__name__} has no JSON form here")


class Lines:
    """One JSON object per line: each difference as it is found, then the outcome."""

    def _write(self, record: dict[str, Any]) -> None:
        sys.stdout.write(orjson.dumps(record, default=_exact).decode() + "\n")

    def difference(self, found: Difference) -> None:
        """Write a difference."""
        length, ranking, window, country = found.key
        self._write(
            {
                "length": length,
                "ranking": ranking,
                "window": instant(window),
                "country": country,
                "name": found.name,
                "figure": found.figure,
                "served": found.served,
                "recomputed": found.recomputed,
                "delta": found.delta,
            }
        )

    def note(self, text: str) -> None:
        """Leave out what is meant for people."""

    def outcome(self, result: Result) -> None:
        """Write the outcome."""
        self._write(dataclasses.asdict(result))


def _shown(figure: Figure | None, sign: str = "") -> str:
    if figure is None:
        return "-"
    return f"{figure:{sign}.2f}" if isinstance(figure, Decimal) else f"{figure:{sign}}"


class Table:
    """A table of the first SHOWN differences, and the outcome in a line."""

    def __init__(self) -> None:
        right = (Column(name, justify="right", no_wrap=True) for name in ("served", "recomputed", "delta"))
        self._grid = Grid(
            "length", "ranking", Column("window", no_wrap=True), "country", "name", "figure", *right, box=None
        )
        self._more = 0

    def difference(self, found: Difference) -> None:
        """Add a difference, or count it."""
        if self._grid.row_count == SHOWN:
            self._more += 1
            return
        length, ranking, window, country = found.key
        figures = (_shown(found.served), _shown(found.recomputed), _shown(found.delta, "+"))
        self._grid.add_row(length, ranking, instant(window), country, escape(found.name), found.figure, *figures)

    def note(self, text: str) -> None:
        """Tell a person why it takes longer."""
        sys.stderr.write(f"{text}\n")

    def outcome(self, result: Result) -> None:
        """Print the table, where there is one, and the line."""
        equal = f"{result.windows} windows, {result.entries} entries equal"
        if not result.differing:
            settled = f" ({result.settled} sets trailed their sales at first)" if result.settled else ""
            sys.stdout.write(f"{equal}{settled}\n")
            return
        terminal = sys.stdout.isatty()
        Console(file=sys.stdout, width=None if terminal else PLAIN_WIDTH).print(self._grid)
        more = f" ({self._more} more differences: --json shows all)" if self._more else ""
        sys.stdout.write(f"{result.differing} sets differ{more}; {equal}\n")
        if result.changing:
            sys.stdout.write(
                f"{result.changing} of them were still changing: sales arrive; leave the current window out with --to, "
                "or wait longer with --settle\n"
            )
