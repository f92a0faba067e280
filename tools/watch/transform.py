"""Pure: frames of the live protocol in, what is to be shown out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic.alias_generators import to_camel

from contracts.rankings import RANKINGS
from contracts.text import quoted

NAMES: Mapping[str, str] = {ranking.name: to_camel(ranking.column) for ranking in RANKINGS}
"""The field of the API that names the competitors of each ranking."""

Frame = Mapping[str, Any]


class RejectedError(Exception):
    """The API rejects the subscription; the message is its own."""


@dataclass(frozen=True)
class Change:
    """What a revision changed for a name: ranks it rose (below zero: fell), and what its total gained."""

    rose: int = 0
    gained: Decimal = Decimal(0)
    is_new: bool = False


@dataclass(frozen=True)
class ShownRanking:
    """A ranking set as the API sends it, and what it changed by name when it came, `at` seconds of the clock."""

    set: Frame
    changes: Mapping[str, Change]
    at: float


@dataclass
class State:
    """What is known: the rankings, the position to resume from, and when the API was last heard (seconds)."""

    heard: float
    rankings: dict[str, ShownRanking] = field(default_factory=dict)
    seq: str | None = None
    heartbeat_s: float = 15.0
    phase: Literal["connecting", "live", "reconnecting"] = "connecting"
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
    raise ValueError(f"not a frame of the live protocol: {quoted(text)}")


def changes(before: Frame | None, now: Frame) -> dict[str, Change]:
    """What is different for each name; nothing where `before` is another window."""
    if before is None or before["window"] != now["window"]:
        return {}
    name = NAMES[now["ranking"]]
    old = {entry[name]: entry for entry in before["rankings"]}
    changed = {}
    for entry in now["rankings"]:
        was = old.get(entry[name])
        if was is None:
            changed[entry[name]] = Change(is_new=True)
        elif (was["rank"], was["totalSales"]) != (entry["rank"], entry["totalSales"]):
            changed[entry[name]] = Change(was["rank"] - entry["rank"], entry["totalSales"] - was["totalSales"])
    return changed


def _revision(ranking_set: Frame) -> tuple[datetime, int]:
    return datetime.fromisoformat(ranking_set["window"]["start"]), ranking_set["revision"]


def _show(state: State, ranking_set: Frame, now: float, *, whole: bool = False) -> None:
    """Show a set; unless it is of a `whole` snapshot, only where it is newer than the one that is shown."""
    name = ranking_set["ranking"]
    before = state.rankings[name].set if name in state.rankings else None
    if name in NAMES and (before is None or whole or _revision(ranking_set) > _revision(before)):
        state.rankings[name] = ShownRanking(ranking_set, changes(before, ranking_set), now)


def apply(state: State, frame: Frame, now: float) -> None:
    """Take in a frame of the server; `now` in seconds.

    Raises:
        RejectedError: it is an error frame.
    """
    state.heard = now
    match frame["type"]:
        case "error":
            raise RejectedError(str(frame["detail"]))
        case "hello":
            state.heartbeat_s = float(frame["heartbeatSeconds"])
        case "snapshot":
            whole = not frame["resumed"]
            if whole:  # what is not in it is not there
                kept = {ranking_set["ranking"] for ranking_set in frame["sets"]}
                state.rankings = {name: shown for name, shown in state.rankings.items() if name in kept}
            for ranking_set in frame["sets"]:
                _show(state, ranking_set, now, whole=whole)
            state.phase, state.why = "live", ""
        case "ranking":
            _show(state, frame["set"], now)
    state.seq = frame.get("seq", state.seq)
