"""`placar dead-letters`: list, show, replay."""

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.reasons import REASONS
from contracts.text import quoted
from contracts.time import parse_instant
from tools.dead_letters.transform import Position, Query, position
from tools.options import Json, parsed

if TYPE_CHECKING:  # help does not wait for it
    from tools.records import Servers

dead_letters = typer.Typer(help="Records that could not be used: list, show, replay them.", no_args_is_help=True)


@parsed
def _since(text: str) -> datetime:
    try:
        return parse_instant(text, UTC)
    except ValueError as error:
        raise ValueError(f"{quoted(text)}: {error}") from None


@parsed
def _reason(text: str) -> str:
    if text not in REASONS:
        raise ValueError(f"{quoted(text)} is not one of {', '.join(REASONS)}")
    return text


@parsed
def _patch(text: str) -> dict[str, Any]:
    try:
        patch = json.loads(Path(text).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{quoted(text)} is no JSON file: {error}") from None
    if isinstance(patch, dict):
        return patch
    raise ValueError(f"{quoted(text)} holds no JSON object, which a merge patch of a record is")


Reason = Annotated[
    str | None,
    typer.Option(parser=_reason, metavar="CODE", autocompletion=lambda: list(REASONS), help="Only with this reason."),
]
TopicName = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="Only of this topic.")]
Unit = Annotated[str | None, typer.Option("--unit", metavar="UNIT", help="Only rejected by this service.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=_since, metavar="ISO", help="Only rejected at or after this instant (UTC without a zone)."),
]


def _servers(topic: str | None = None) -> "Servers":
    """Broker and registry, whose topics are the only ones that `--topic` may name."""
    from tools.records import servers

    reached = servers("dead-letters")
    if topic is not None and topic not in reached.topics:
        known = ", ".join(reached.topics)
        raise typer.BadParameter(f"{quoted(topic)} is not one of {known}", param_hint="--topic")
    return reached


@dead_letters.command("list")
def list_(
    reason: Reason = None, topic: TopicName = None, unit: Unit = None, since: Since = None, as_json: Json = False
) -> int:
    """The dead letters that match, newest last."""
    from tools.dead_letters import app, report

    query = Query(reason=reason, topic=topic, unit=unit, since=since)
    asyncio.run(report.print_list(app.matching(_servers(topic), query), as_json=as_json))
    return 0


@dead_letters.command()
def show(
    identity: Annotated[Position, typer.Argument(parser=parsed(position), metavar="ID", help="As list shows it.")],
    as_json: Json = False,
) -> int:
    """Everything about one dead letter, with its original bytes. Ends with 1 where there is none."""
    from tools.dead_letters import app, report
    from tools.table import warn

    dead_letter = asyncio.run(app.show(_servers(), identity))
    if dead_letter is None:
        warn(f"there is no dead letter {identity} in sales.dlq (any more)")
        return 1
    report.print_one(dead_letter, as_json=as_json)
    return 0


@dead_letters.command()
def replay(  # noqa: PLR0917 - typer names them
    ids: Annotated[
        list[Position] | None,
        typer.Argument(parser=parsed(position), metavar="ID...", help="Only these (default: all)."),
    ] = None,
    reason: Reason = None,
    topic: TopicName = None,
    unit: Unit = None,
    since: Since = None,
    patch: Annotated[
        dict[str, Any] | None,
        typer.Option(parser=_patch, metavar="FILE", help="A JSON merge patch (RFC 7386) on each record."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    as_json: Json = False,
) -> int:
    """Send records once more to the topics that they came from.

    Ends with 1 where nothing matches or something could not be replayed.
    """
    from tools.dead_letters import app, report
    from tools.table import Rows

    query = Query(frozenset(ids or ()), reason, topic, unit, since)
    rows = Rows(*report.REPLAYED, as_json=as_json, limit=report.SHOWN)
    add = partial(report.add_replayed, rows)
    outcome = asyncio.run(app.replay(_servers(topic), query, patch, add, again=again, dry_run=dry_run))
    report.print_outcome(rows, outcome, dry_run=dry_run)
    return outcome.status
