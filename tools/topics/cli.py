"""`placar topics list | describe | tail`, and `placar produce`."""

import asyncio
from contextlib import aclosing
from typing import Annotated

import typer

from tools.options import Json

NEWEST = 10

topics = typer.Typer(help="Look into topics: what they are, what they hold.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="TOPIC")]


@topics.command("list")
def list_(as_json: Json = False) -> None:
    """Every topic: what it is, how much it holds."""
    from tools.records import servers
    from tools.topics import app, report

    report.print_list(asyncio.run(app.every(servers("topics"))), as_json=as_json)


@topics.command()
def describe(topic: Name, as_json: Json = False) -> None:
    """One topic: contract, partitions, schemas."""
    from tools.records import servers
    from tools.topics import app, report

    report.print_one(*asyncio.run(app.one(servers("topics"), topic)), as_json=as_json)


@topics.command()
def tail(
    topic: Name,
    lines: Annotated[
        int | None, typer.Option("-n", "--lines", min=1, max=1_000_000, metavar="N", help=f"So many (newest {NEWEST}).")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Then what comes, until Ctrl-C.")] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="The oldest first; all where -n is not given.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Its newest records, decoded. Ends with 1 where it holds none."""
    from tools.records import servers
    from tools.table import warn
    from tools.topics import app, report

    if follow and from_beginning and lines is not None:
        raise typer.BadParameter("--from-beginning -n N ends after N records: leave out -f")
    count = NEWEST if lines is None and not from_beginning else lines

    async def showing() -> int:
        shown = 0
        records = app.tail(servers("topics"), topic, count, beginning=from_beginning, follow=follow)
        async with aclosing(records):  # also where whoever reads the output has gone
            async for record in records:
                report.print_record(record, as_json=as_json)
                shown += 1
        return shown

    try:
        shown = asyncio.run(showing())
    except KeyboardInterrupt:
        if follow:
            return 0  # Ctrl-C is how following ends
        raise
    if not shown:
        warn(f"{topic} holds no record")
    return 0 if shown else 1


def produce(
    topic: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON records, one after another; - is standard input.")],
    key: Annotated[str | None, typer.Option(help="The key of each.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes of FILE as one record, whatever they are.")] = False,
) -> None:
    """Write records, validated against the topic's contract."""
    from chassis.errors import NotDoneError
    from contracts.text import quoted
    from tools.records import servers
    from tools.table import warn
    from tools.topics import app

    reached = servers("produce")
    contract = reached.topics.get(topic)
    if contract is None:
        raise NotDoneError(f"TOPIC {quoted(topic)} is not in contracts/topics; there are {', '.join(reached.topics)}")

    async def written() -> list[str]:
        values = [app.content(file)] if raw else await app.encoded_file(reached, contract, file)
        return await app.produce(reached, contract, None if key is None else key.encode(), values)

    for position in asyncio.run(written()):
        print(position)
    if key is None:
        warn(f"without a key; {topic} has {contract.key} as its key (--key)")
