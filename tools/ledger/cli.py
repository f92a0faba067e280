"""`placar ledger`."""

from typing import Annotated

import typer

from tools.options import Json, Settle, Source, instant


def ledger(
    start: Annotated[
        int | None,
        typer.Option("--from", parser=instant, metavar="ISO", help="First instant (default: a day before --to)."),
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=instant, metavar="ISO", help="End, excluded (default: now).")
    ] = None,
    source: Annotated[
        list[Source] | None, typer.Option(help="Only this source; may be repeated (default: all).")
    ] = None,
    settle: Settle = 90.0,
    as_json: Json = False,
) -> int:
    """Count the sales of a period at each step from the sources to ClickHouse, and name what is missing.

    Ends with 0 where nothing is missing, with 1 where something is after --settle seconds.
    """
    from tools.ledger.app import run

    return run(start, end, source or list(Source), settle_s=settle, as_json=as_json)
