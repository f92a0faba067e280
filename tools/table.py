"""Command output: tables for people, one JSON object per line for programs, remarks on standard error."""

import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PLAIN_WIDTH = 160
_NUMBER = re.compile(r"-|[-+]?[0-9]+(\.[0-9]+)?")


def console() -> Console:
    """The standard output, whose lines have PLAIN_WIDTH characters where it is no terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def cell(value: object) -> str:
    """A value as a table shows it, a dash for None, a decimal with two digits."""
    return "-" if value is None else f"{value:.2f}" if isinstance(value, Decimal) else escape(str(value))


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:.2f}")  # the digits themselves: never through a float
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def print_json(values: Any) -> None:
    """Write one line of JSON at once: what follows may take long. A decimal is a number with two digits."""
    sys.stdout.write(orjson.dumps(values, default=_exact).decode() + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")


class Rows:
    """Records, printed as JSON lines as they come, or by `print` as a table of these columns.

    The table shows the first `limit`; `hidden` counts the others. Columns of numbers are aligned right, and those
    without a space are never wrapped.
    """

    def __init__(self, *columns: str, as_json: bool, limit: int | None = None) -> None:
        self.as_json = as_json
        self.hidden = 0
        self._columns, self._limit = columns, limit
        self._cells: list[list[str]] = []

    def add(self, record: Mapping[str, Any], **shown: str) -> None:
        """Take a record; `shown` has other words for some columns of the table."""
        if self.as_json:
            print_json(record)
        elif len(self._cells) == self._limit:
            self.hidden += 1
        else:
            self._cells.append([cell(shown.get(column, record.get(column))) for column in self._columns])

    def print(self) -> None:
        """Print the table, where there is one."""
        if not self._cells:
            return
        grid = Table(box=None)
        for column, values in zip(self._columns, zip(*self._cells, strict=True), strict=True):
            right = all(map(_NUMBER.fullmatch, values))
            whole = right or not any(" " in value for value in values)
            grid.add_column(column.replace("_", " "), justify="right" if right else "left", no_wrap=whole)
        for row in self._cells:
            grid.add_row(*row)
        console().print(grid)
