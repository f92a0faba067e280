"""Dead letters and replays as tables for people, or as one JSON object per line."""

import heapq
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from contracts.text import one_line, shortened
from tools.dead_letters.app import Outcome, Replayed, described
from tools.dead_letters.transform import DeadLetter, Position
from tools.table import Rows, print_json, warn

SHOWN = 1000  # rows of a table, which is held until it is printed; --json shows all
SHORT = 70
LISTED = ("id", "time", "reason", "unit", "topic", "attempt", "replayed_at", "detail")
REPLAYED = ("id", "topic", "attempt", "key", "what is sent, or why not")


def _add_listed(rows: Rows, dead_letter: DeadLetter, replayed_at: str | None) -> None:
    record = {**described(dead_letter), "replayed_at": replayed_at}
    times = {"time": record["time"][:19], "replayed_at": (replayed_at or "-")[:19]}
    rows.add(record, **times, detail=shortened(dead_letter.detail, SHORT))


async def print_list(dead_letters: AsyncIterator[tuple[DeadLetter, str | None]], *, as_json: bool) -> None:
    """Print each as it comes as JSON, or the newest SHOWN in a table, newest last, and how many there are."""
    rows = Rows(*LISTED, as_json=as_json)
    newest: list[tuple[datetime, Position, DeadLetter, str | None]] = []
    count = 0
    async for dead_letter, replayed_at in dead_letters:
        count += 1
        if as_json:
            _add_listed(rows, dead_letter, replayed_at)
        else:
            keep = heapq.heappush if len(newest) < SHOWN else heapq.heappushpop
            keep(newest, (dead_letter.time, dead_letter.position, dead_letter, replayed_at))
    if not count:
        warn("there is no dead letter that matches")
    elif not as_json:
        for *_, dead_letter, replayed_at in sorted(newest):
            _add_listed(rows, dead_letter, replayed_at)
        rows.print()
        more = f", of which the newest {SHOWN} are shown (--json shows all)" if count > SHOWN else ""
        print(f"{count} dead letters{more}")


def print_one(dead_letter: dict[str, Any], *, as_json: bool) -> None:
    """Print everything about one dead letter, its bytes last: as a record, as text, or in hexadecimal."""
    if as_json:
        print_json(dead_letter)
        return
    for name, value in dead_letter.items():
        if name not in {"key", "value"}:
            print(f"{name:<13} {'-' if value is None else value}")
    for name in ("key", "value"):
        forms = dead_letter[name]
        if forms is None:
            print(f"{name:<13} -")
        elif "record" in forms:
            print(f"{name:<13} {forms['bytes']} bytes, a record of schema id {forms['schema_id']}")
            print(json.dumps(forms["record"], ensure_ascii=False, indent=2))
        else:
            kind = "text" if "text" in forms else "hex"
            print(f"{name:<13} {forms['bytes']} bytes, as {kind}: {forms[kind]}")
            if "unreadable" in forms and name == "value":
                print(f"{'':<13} no record: {forms['unreadable']}")


def add_replayed(rows: Rows, one: Replayed) -> None:
    """Show what becomes of one dead letter as a row."""
    dead_letter = one.dead_letter
    record: dict[str, Any] = {"id": str(dead_letter.position), "topic": dead_letter.topic, "rejected": one.rejected}
    text = f"cannot be replayed: {one.rejected}"
    if one.record is not None:
        value = one.record.value or b""
        record |= {"attempt": dead_letter.attempt + 1, "hex": value.hex(), "record": one.patched}
        text = one_line(one.record.value, SHORT)
        if one.patched is not None:
            text = shortened(json.dumps(one.patched, ensure_ascii=False), 4 * SHORT)
    rows.add(record, **{"key": one_line(dead_letter.key, 40), REPLAYED[-1]: text})


def print_outcome(rows: Rows, outcome: Outcome, *, dry_run: bool) -> None:
    """Print the table and the numbers."""
    if rows.as_json:
        print_json(
            {
                "replayed": 0 if dry_run else outcome.replayed,
                "would_replay": outcome.replayed if dry_run else 0,
                "rejected": outcome.rejected,
                "replayed_before": outcome.before,
                "broken": outcome.broken,
            }
        )
        return
    rows.print()
    if rows.hidden:
        print(f"and {rows.hidden} more (--json shows all)")
    counts = [f"{outcome.replayed} {'would be ' if dry_run else ''}replayed"]
    counts += [f"{outcome.rejected} cannot be replayed"] if outcome.rejected else []
    counts += [f"{outcome.before} replayed before (--again replays them)"] if outcome.before else []
    print(", ".join(counts))
    if not (outcome.replayed or outcome.rejected or outcome.before):
        warn("there is no dead letter that matches")
    if outcome.broken:
        warn(f"not all were acknowledged: {outcome.broken}; run it again: what is not noted is sent again")
