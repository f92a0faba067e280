"""`python -m tools.dead_letters`: 0 done, 1 nothing fits or not all could be replayed, 2 wrong usage or not done."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chassis.command import command, run
from chassis.settings import KafkaSettings, RankingSettings, RegistrySettings, load
from contracts.catalogue import catalogue
from contracts.reasons import REASONS
from tools.dead_letters.app import list_letters, replay, show
from tools.dead_letters.report import Lines, Table
from tools.dead_letters.store import NAME, Servers
from tools.dead_letters.transform import Filter, Place, place


def _place(text: str) -> Place:
    try:
        return place(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ISO 8601, such as 2026-02-19T10:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _patch(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(Path(text).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no JSON file: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text} holds no JSON object, which a merge patch of a record is")
    return found


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with a message and status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog=NAME, description="Dead letters: list, show, replay (docs/dead-letters.md).")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="a JSON object per line")
    meant = argparse.ArgumentParser(add_help=False)
    meant.add_argument("--reason", choices=list(REASONS), metavar="CODE", help="only with this reason code")
    meant.add_argument("--topic", choices=list(catalogue()), metavar="TOPIC", help="only of this topic")
    meant.add_argument("--unit", help="only rejected by this unit")
    meant.add_argument("--since", type=_instant, metavar="ISO", help="only rejected at or after this instant (UTC)")
    commands.add_parser("list", parents=[shared, meant], help="the letters that fit")
    one = commands.add_parser("show", parents=[shared], help="everything about one letter, with its original bytes")
    one.add_argument("id", type=_place, metavar="ID", help="partition-offset, as list shows it")
    again = commands.add_parser("replay", parents=[shared, meant], help="send letters once more to their topics")
    again.add_argument("ids", type=_place, nargs="*", metavar="ID", help="only these (all that fit)")
    again.add_argument("--patch", type=_patch, metavar="FILE", help="a JSON merge patch (RFC 7386) on each record")
    again.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    again.add_argument("--again", action="store_true", help="also what was replayed before")
    return parser.parse_args(given)


async def _main(asked: argparse.Namespace, servers: Servers, out: Lines | Table) -> int:
    if asked.command == "show":
        found = await show(servers, asked.id)
        if found is None:
            sys.stderr.write(f"there is no dead letter {asked.id[0]}-{asked.id[1]} in sales.dlq (any more)\n")
            return 1
        out.all(found)
        return 0
    places = frozenset(asked.ids) if getattr(asked, "ids", None) else None
    wanted = Filter(places, asked.reason, asked.topic, asked.unit, asked.since)
    if asked.command == "list":
        count = await list_letters(servers, wanted, out)
        out.listed(count)
        return 0 if count else 1
    outcome = await replay(servers, wanted, asked.patch, again=asked.again, dry_run=asked.dry_run, report=out)
    out.outcome(outcome, dry_run=asked.dry_run)
    return outcome.status


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    asked = arguments(given)
    servers = Servers(load(KafkaSettings), load(RegistrySettings), catalogue(load(RankingSettings).lengths))
    return asyncio.run(_main(asked, servers, Table() if not asked.json else Lines()))


if __name__ == "__main__":
    run(main)
