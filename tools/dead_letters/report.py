"""How the outcome is shown: a table for people, or one JSON object per line for machines."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid

from contracts.examples import plain
from contracts.text import one_line, shortened
from tools.dead_letters.app import Outcome, Sent
from tools.dead_letters.store import Unreadable
from tools.dead_letters.transform import Letter, newest

SHOWN = 1000  # a table is held until it is printed; --json shows every letter
PLAIN_WIDTH = 160  # characters of a line where no terminal tells
SHORT = 70


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _say_unreadable(found: Unreadable) -> None:
    _note(f"{found.place[0]}-{found.place[1]} is no dead letter: {found.why}")


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


class Lines:
    """One JSON object per line, as they come."""

    def _write(self, record: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")

    def letter(self, letter: Letter, replayed_at: str | None) -> None:
        """Write a letter, without its bytes."""
        self._write(
            {
                "id": letter.id,
                "time": plain(letter.time),
                "reason": letter.reason,
                "unit": letter.unit,
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "attempt": letter.attempt,
                "replayed_at": replayed_at,
                "detail": letter.detail,
            }
        )

    def sent(self, sent: Sent) -> None:
        """Write what happens to a letter."""
        record: dict[str, Any] = {"id": sent.letter.id, "topic": sent.letter.topic, "rejected": sent.why}
        if sent.record is not None:
            record |= {
                "attempt": sent.letter.attempt + 1,
                "hex": (sent.record.value or b"").hex(),
                "record": sent.values,
            }
        self._write(record)

    def unreadable(self, found: Unreadable) -> None:
        """Say that a record is no letter; the lines hold letters only."""
        _say_unreadable(found)

    def listed(self, count: int) -> None:
        """Nothing: the lines are the answer."""

    def all(self, shown_letter: dict[str, Any]) -> None:
        """Write everything about one letter."""
        self._write(shown_letter)

    def outcome(self, outcome: Outcome, *, dry_run: bool) -> None:
        """Write the numbers."""
        self._write(
            {
                "replayed": 0 if dry_run else outcome.replayed,
                "would_replay": outcome.replayed if dry_run else 0,
                "rejected": outcome.rejected,
                "replayed_before": outcome.before,
                "broken": outcome.broken,
            }
        )


class Table:
    """Tables of the newest SHOWN letters, and the numbers in a line."""

    def __init__(self) -> None:
        self._letters: list[Letter] = []
        self._replayed: dict[str, str] = {}
        self._sent = Grid(
            "id", "topic", Column("attempt", justify="right"), "key", "what is sent, or why not", box=None
        )
        self._more = 0

    def letter(self, letter: Letter, replayed_at: str | None) -> None:
        """Hold a letter; the oldest go where there are many."""
        self._letters.append(letter)
        if replayed_at is not None:
            self._replayed[letter.id] = replayed_at
        if len(self._letters) >= 2 * SHOWN:
            self._letters = newest(self._letters, SHOWN)

    def sent(self, sent: Sent) -> None:
        """Add a letter's fate, or count it."""
        if self._sent.row_count == SHOWN:
            self._more += 1
            return
        letter = sent.letter
        if sent.record is None:
            said, attempt = f"cannot be replayed: {sent.why}", "-"
        else:
            attempt = str(letter.attempt + 1)
            said = one_line(sent.record.value, SHORT)
            if sent.values is not None:
                said = shortened(json.dumps(sent.values, ensure_ascii=False), 4 * SHORT)
        self._sent.add_row(letter.id, letter.topic, attempt, escape(one_line(letter.key, 40)), escape(said))

    def unreadable(self, found: Unreadable) -> None:
        """Say that a record is no letter."""
        _say_unreadable(found)

    def listed(self, count: int) -> None:
        """Print the letters that are held."""
        if not count:
            _note("no dead letter fits")
            return
        kept = (Column(name, no_wrap=True) for name in ("id", "time", "reason", "unit", "topic"))
        grid = Grid(*kept, Column("attempt", justify="right"), "replayed", "detail", box=None)
        for letter in newest(self._letters, SHOWN):
            grid.add_row(
                letter.id,
                plain(letter.time)[:19],
                letter.reason,
                letter.unit,
                letter.topic,
                str(letter.attempt),
                self._replayed.get(letter.id, "-")[:19],
                escape(shortened(letter.detail, SHORT)),
            )
        _console().print(grid)
        more = f", of which the newest {SHOWN} are shown (--json shows all)" if count > SHOWN else ""
        sys.stdout.write(f"{count} dead letters{more}\n")

    def all(self, shown_letter: dict[str, Any]) -> None:
        """Print everything about one letter, its bytes at last: as a record, as text, or in hexadecimal."""
        for name, value in shown_letter.items():
            if name not in {"key", "value"}:
                sys.stdout.write(f"{name:<13} {'-' if value is None else value}\n")
        for name in ("key", "value"):
            forms = shown_letter[name]
            if forms is None:
                sys.stdout.write(f"{name:<13} -\n")
            elif "record" in forms:
                sys.stdout.write(f"{name:<13} {forms['bytes']} bytes, a record of schema id {forms['schema_id']}\n")
                sys.stdout.write(json.dumps(forms["record"], ensure_ascii=False, indent=2) + "\n")
            else:
                kind = "text" if "text" in forms else "hex"
                sys.stdout.write(f"{name:<13} {forms['bytes']} bytes, as {kind}: {forms[kind]}\n")
                if "unreadable" in forms and name == "value":
                    sys.stdout.write(f"{'':<13} no record: {forms['unreadable']}\n")

    def outcome(self, outcome: Outcome, *, dry_run: bool) -> None:
        """Print what happened to each, and the numbers."""
        if self._sent.row_count:
            _console().print(self._sent)
        if self._more:
            sys.stdout.write(f"and {self._more} more (--json shows all)\n")
        would = "would be " if dry_run else ""
        said = [f"{outcome.replayed} {would}replayed"]
        said += [f"{outcome.rejected} cannot be replayed"] if outcome.rejected else []
        said += [f"{outcome.before} replayed before (--again replays them)"] if outcome.before else []
        sys.stdout.write(", ".join(said) + "\n")
        if not (outcome.replayed or outcome.rejected or outcome.before):
            _note("no dead letter fits")
        if outcome.broken:
            _note(f"not all were acknowledged: {outcome.broken}; run it again: what is not noted is sent again")
