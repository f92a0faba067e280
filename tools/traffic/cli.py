"""`placar traffic` and `placar seed`."""

from typing import Annotated

import typer

from contracts.text import quoted
from tools.options import Source, parsed

ALL = ",".join(Source)


@parsed
def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 10_000:
        raise ValueError(f"{quoted(text)} is not above 0 and at most 10000 sales a second")
    return rate


def _sources(text: str) -> tuple[Source, ...]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in list(Source)]:
        raise typer.BadParameter(f"{quoted(unknown[0])} is not one of {ALL}", param_hint="'--sources'")
    return tuple(map(Source, names))


def traffic(
    rate: Annotated[float, typer.Option(parser=_rate, metavar="R", help="Sales a second.")] = 20.0,
    seed: Annotated[
        int | None, typer.Option(help="The same seed sells the same sales (default: another each time).")
    ] = None,
    count: Annotated[int | None, typer.Option(min=0, help="Stop after so many (default: never).")] = None,
    sources: Annotated[str, typer.Option(metavar="A,B", help="Sell through these sources.")] = ALL,
) -> int:
    """Keep selling through all sources until Ctrl-C; after a second one it does not wait for a server."""
    from tools.traffic.app import run_traffic

    return run_traffic(rate, seed, count, _sources(sources))


def seed(initial: Annotated[bool, typer.Option("--initial", help="Only where there are no sales yet.")] = False) -> int:
    """Add sales to Postgres and two CSV files to the bucket, with event times up to now."""
    from tools.traffic.app import run_seed

    return run_seed(initial=initial)
