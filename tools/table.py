"""Command output: tables for people, one JSON object per line for programs, remarks on standard error."""

import re
import sys
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

PLAIN_WIDTH = 160
_NUMBER = re.compile(r"-|[-+]?[0-9]+(\.[0-9]+)?")


def console(plain_width: int = PLAIN_WIDTH) -> Console:
    """The standard output; `plain_width` is the length of a line, in characters, where it is no terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else plain_width, highlight=False)


def table(*columns: str, right: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """A table without a frame; columns in `right` are aligned right, those in `right` or `whole` are never wrapped."""
    return Table(
        *(
            Column(name, justify="right" if name in right else "left", no_wrap=name in right or name in whole)
            for name in columns
        ),
        box=None,
    )


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
        names = [column.replace("_", " ") for column in self._columns]
        cells = dict(zip(names, zip(*self._cells, strict=True), strict=True))
        right = [name for name, values in cells.items() if all(map(_NUMBER.fullmatch, values))]
        whole = [name for name, values in cells.items() if not any(" " in value for value in values)]
        grid = table(*names, right=right, whole=whole)
        for row in self._cells:
            grid.add_row(*row)
        console().print(grid)
