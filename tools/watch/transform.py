"""Pure: frames of the live protocol in, what is to be shown out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

NAMES: Mapping[str, str] = {"city": "city", "salesman": "salesmanName"}
"""The rankings in the order in which they are shown, and the field that names an entry of each."""

Frame = Mapping[str, Any]
Phase = Literal["connecting", "live", "reconnecting"]


class RejectedError(Exception):
    """The API does not do what was asked; the message is its own."""


@dataclass(frozen=True)
class Change:
    """What is different from the revision shown before: ranks it rose (below zero: fell), and what its total gained."""

    rose: int = 0
    gained: Decimal = Decimal(0)
    is_new: bool = False


@dataclass(frozen=True)
class Board:
    """A ranking set as the API sends it, and what has changed by name since the set before, seen at `at` (seconds)."""

    found: Frame
    changes: Mapping[str, Change] = field(default_factory=dict)
    at: float = 0.0


@dataclass
class State:
    """What is known: the boards, the place to resume from, and when the API was last heard (seconds of one clock)."""

    heard: float
    boards: dict[str, Board] = field(default_factory=dict)
    seq: str | None = None
    heartbeat_s: float = 15.0
    phase: Phase = "connecting"
    why: str = ""

    def stale(self, now: float) -> bool:
        """Whether the API has been silent for more than two heartbeats: what is shown may be old."""
        return now - self.heard > 2 * self.heartbeat_s


def parse(text: str | bytes) -> Frame:
    """A frame, amounts exact.

    Raises:
        ValueError: not a JSON object with a type.
    """
    frame = json.loads(text, parse_float=Decimal)
    if isinstance(frame, dict) and isinstance(frame.get("type"), str):
        return frame
    raise ValueError(f"not a frame of the live protocol: {text[:80]!r}")


def instant(text: str) -> datetime:
    """An instant as the API writes it."""
    return datetime.fromisoformat(text)


def changes(before: Frame | None, found: Frame) -> dict[str, Change]:
    """What is different for each name; nothing where `before` is another window."""
    if before is None or before["window"] != found["window"]:
        return {}
    name = NAMES[found["ranking"]]
    old = {entry[name]: entry for entry in before["rankings"]}
    told = {}
    for entry in found["rankings"]:
        was = old.get(entry[name])
        if was is None:
            told[entry[name]] = Change(is_new=True)
        elif (was["rank"], was["totalSales"]) != (entry["rank"], entry["totalSales"]):
            told[entry[name]] = Change(was["rank"] - entry["rank"], entry["totalSales"] - was["totalSales"])
    return told


def _newer(before: Frame, found: Frame) -> bool:
    keys = [(instant(one["window"]["start"]), one["revision"]) for one in (before, found)]
    return keys[1] > keys[0]


def _show(state: State, found: Frame, now: float) -> None:
    before = state.boards.get(found["ranking"])
    state.boards[found["ranking"]] = Board(found, changes(before.found if before else None, found), now)


def take(state: State, found: Frame, now: float) -> None:
    """Show a set, unless the one that is shown is as new."""
    before = state.boards.get(found["ranking"])
    if before is None or _newer(before.found, found):
        _show(state, found, now)


def heard(state: State, frame: Frame, now: float) -> None:
    """Take in a frame of the server; `now` in seconds.

    Raises:
        RejectedError: it is an error frame.
    """
    state.heard = now
    match frame["type"]:
        case "hello":
            state.heartbeat_s = float(frame["heartbeatSeconds"])
        case "snapshot":
            if not frame["resumed"]:  # the whole: what is not in it is not there
                kept = {found["ranking"] for found in frame["sets"]}
                state.boards = {name: board for name, board in state.boards.items() if name in kept}
                for found in frame["sets"]:
                    _show(state, found, now)
            else:
                for found in frame["sets"]:
                    take(state, found, now)
            state.seq, state.phase, state.why = frame["seq"], "live", ""
        case "ranking":
            take(state, frame["set"], now)
            state.seq = frame["seq"]
        case "heartbeat":
            state.seq = frame["seq"]
        case "error":
            raise RejectedError(str(frame["detail"]))
