"""`placar audit`."""

from typing import Annotated

import typer

from tools.options import Json, Settle, instant


def audit(
    length: Annotated[
        str | None, typer.Option(help="Windows of one configured length only (of RANKING_WINDOWS).")
    ] = None,
    start: Annotated[
        int | None, typer.Option("--from", parser=instant, metavar="ISO", help="First window (default: all).")
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=instant, metavar="ISO", help="End, excluded (default: all).")
    ] = None,
    settle: Settle = 10.0,
    as_json: Json = False,
) -> int:
    """Recompute the rankings from the stored sales and compare what is served.

    Ends with 0 where all is equal, with 1 where something differs after --settle seconds.
    """
    from tools.audit.app import run

    return run(length, start, end, settle_s=settle, as_json=as_json)
