"""Command output: tables for people, one JSON object per line for programs, remarks on standard error."""

import json
import sys
from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

PLAIN_WIDTH = 160


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
    """A value as a table shows it, a dash for None."""
    return "-" if value is None else escape(str(value))


def print_json(values: Any) -> None:
    """Write one line of JSON at once: what follows may take long."""
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
