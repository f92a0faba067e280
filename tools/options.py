"""Options that several commands have: imported by every `cli.py`, so it imports nothing that takes long."""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Annotated, TypeVar

import typer

from contracts.text import quoted
from contracts.time import EXAMPLE, parse_instant, to_ms

T = TypeVar("T")


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse` for typer: the message of its ValueError is what is wrong with the argument."""

    @wraps(parse)
    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return checked


class Source(StrEnum):
    """Where sales come from."""

    POSTGRES = "postgres"
    FILES = "files"
    LEGACY = "legacy"
    SHOPIFY = "shopify"
    STRIPE = "stripe"


def instant(text: str) -> int:
    """Milliseconds since 1970 of an instant with a zone.

    Raises:
        typer.BadParameter: it is none, or before 1970.
    """
    try:
        milliseconds = to_ms(parse_instant(text))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{quoted(text)}: {error}") from None
    if milliseconds < 0:
        raise typer.BadParameter(f"{quoted(text)} is before 1970; write {EXAMPLE}")
    return milliseconds


Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Settle = Annotated[float, typer.Option(min=0, max=3600, metavar="S", help="Seconds to wait for what is in flight.")]
