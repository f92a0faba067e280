"""`placar traffic`, `placar seed` and `placar shop`."""

from typing import Annotated

import typer

from contracts.text import quoted
from tools.options import instant, parsed
from tools.traffic.channels import OWN, PROVIDERS, Channel


@parsed
def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 10_000:
        raise ValueError(f"{quoted(text)} is not above 0 and at most 10000 sales a second")
    return rate


def _sources(text: str) -> tuple[Channel, ...]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in list(Channel)]:
        raise typer.BadParameter(f"{quoted(unknown[0])} is not one of {','.join(Channel)}", param_hint="'--sources'")
    return tuple(map(Channel, names))


def traffic(
    rate: Annotated[float, typer.Option(parser=_rate, metavar="R", help="Sales and webhooks a second.")] = 20.0,
    seed: Annotated[
        int | None, typer.Option(help="The same seed sells the same sales (default: another each time).")
    ] = None,
    count: Annotated[int | None, typer.Option(min=0, help="Stop after so many (default: never).")] = None,
    sources: Annotated[
        str, typer.Option(metavar="A,B", help="Sell through these; shopify, stripe, hubspot send signed webhooks.")
    ] = ",".join(OWN),
    check: Annotated[
        float | None,
        typer.Option(min=0, max=3600, metavar="S", help="At the end wait up to S seconds for the webhooks' sales."),
    ] = None,
) -> int:
    """Keep selling until Ctrl-C; after a second one it does not wait for a server.

    With --check it ends with 1 where sales of the simulated Shopify and Stripe are not stored as they must be.
    """
    from tools.traffic.app import run_traffic

    chosen = _sources(sources)
    if check is not None and not set(chosen) & set(PROVIDERS):
        raise typer.BadParameter("is for webhooks; --sources names no provider", param_hint="'--check'")
    return run_traffic(rate, seed, count, chosen, check)


def seed(initial: Annotated[bool, typer.Option("--initial", help="Only where there are no sales yet.")] = False) -> int:
    """Add sales to Postgres and two CSV files to the bucket, with event times up to now."""
    from tools.traffic.app import run_seed

    return run_seed(initial=initial)


def shop(
    seed: Annotated[int, typer.Option(min=0, help="Of a round, as traffic prints it.")],
    start: Annotated[int, typer.Option(parser=instant, metavar="ISO", help="Start of the round.")],
    orders: Annotated[int, typer.Option(min=1, max=10_000, help="Orders of the round.")] = 200,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0: a free one.")] = 8093,
) -> int:
    """Serve the list endpoints of Shopify, Stripe and HubSpot for a round of traffic's simulated shop, until Ctrl-C."""
    from contracts.time import at_ms
    from tools.traffic.shop.serve import serve

    return serve(seed, at_ms(start), orders, port)
