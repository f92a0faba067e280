"""Command output: records as a table for people, or as one JSON object per line for machines."""

import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

PLAIN_WIDTH = 160
"""Characters of a line where the output is no terminal."""

_NUMBER = re.compile(r"-|[-+]?[0-9]+(\.[0-9]+)?")


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:.2f}")  # the digits themselves: never through a float
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def print_json(record: Mapping[str, Any]) -> None:
    """Print one line, at once: the next one may take long."""
    sys.stdout.write(orjson.dumps(record, default=_exact).decode() + "\n")
    sys.stdout.flush()


def console() -> Console:
    """The standard output: as wide as the terminal, or PLAIN_WIDTH."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def note(text: str) -> None:
    """Tell the person who waits, not the reader of the output."""
    sys.stderr.write(f"{text}\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, Decimal) else str(value)


class Rows:
    """Records, printed as JSON lines as they come, or by `print` as a table of these columns.

    The table shows the first `limit`; `hidden` counts the others. Columns of numbers are aligned to the right, and
    those of single words are never broken.
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
            self._cells.append([_cell(shown.get(column, record.get(column))) for column in self._columns])

    def print(self) -> None:
        """Print the table, where there is one."""
        if not self._cells:
            return
        columns = []
        for name, cells in zip(self._columns, zip(*self._cells, strict=True), strict=True):
            numbers = all(_NUMBER.fullmatch(cell) for cell in cells)
            words = not any(" " in cell for cell in cells)
            columns.append(Column(name.replace("_", " "), justify="right" if numbers else "left", no_wrap=words))
        table = Table(*columns, box=None)
        for row in self._cells:
            table.add_row(*(Text(cell) for cell in row))
        console().print(table)
