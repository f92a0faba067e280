"""`placar watch`."""

from typing import Annotated

import typer


def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Print the current rankings and end; so without a terminal.")
    ] = False,
    url: Annotated[str | None, typer.Option(help="The API (default: http://BIND_HOST:API_PORT).")] = None,
    length: Annotated[str | None, typer.Option(help="Length of the windows, of RANKING_WINDOWS (the first).")] = None,
    country: Annotated[str, typer.Option(help="Rankings per country are of this one.")] = "BR",
) -> int:
    """The live rankings in the terminal; q or Ctrl-C ends it."""
    from tools.watch.app import run

    return run(url, length, country, once=once)
