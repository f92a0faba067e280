"""Pure: the newest ranking set of each window as JSON, who wants which of them, and positions to resume from."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, NamedTuple

import orjson

from contracts.rankings import RankingDefinition
from contracts.time import at_ms, instant, to_ms
from services.api.models import SETS, RankingSet, encode
from services.api.transform import epoch_second

MAX_SALES = 2**32 - 1  # the store's UInt32
TOTAL_LIMIT = Decimal(10) ** 36  # its Decimal(38, 2)
_SEQ = re.compile(r"[0-9a-f]{8}(\.[0-9]{1,18})+")


class Group(NamedTuple):
    """Windows that follow each other: `country` is '' where the ranking is over all countries."""

    ranking: str
    length: str
    country: str


@dataclass(frozen=True, slots=True)
class LiveSet:
    """The newest set of one window: `start` in epoch ms, `as_of` in epoch seconds, `body` its JSON, encoded once.

    `partition` is an index into the partitions of LiveRankings, `offset` that of the record.
    """

    group: Group
    start: int
    revision: int
    as_of: float
    body: str
    partition: int
    offset: int


class Frame:
    """One message for many clients, encoded once: as a WebSocket message, and when it is needed as an event."""

    def __init__(self, name: str, seq: str, text: str, as_of: float | None = None) -> None:
        self.name = name
        self.text = text
        self.as_of = as_of
        self._seq = seq

    @cached_property
    def event(self) -> bytes:
        """The frame as a server-sent event; without `seq` it has no id."""
        identified = f"id: {self._seq}\n" if self._seq else ""
        return f"{identified}event: {self.name}\ndata: {self.text}\n\n".encode()


@dataclass(frozen=True)
class Subscription:
    """What a client wants from now on, and after `since` (a `seq`) where it has one.

    `windows` are starts in epoch ms; `countries` matter for rankings per country only.
    """

    rankings: tuple[str, ...]
    length: str
    windows: Literal["latest", "all"] | tuple[int, ...] = "latest"
    countries: tuple[str, ...] = ("BR",)
    since: str | None = None

    def wants_group(self, group: Group) -> bool:
        """Whether windows of the group are wanted."""
        return (
            group.ranking in self.rankings
            and group.length == self.length
            and (not group.country or group.country in self.countries)
        )

    def wants(self, group: Group, start: int, latest: int) -> bool:
        """Whether the window of the group is wanted; `latest` is the start of the group's newest window."""
        if not self.wants_group(group):
            return False
        if self.windows == "latest":
            return start == latest
        return self.windows == "all" or start in self.windows

    def described(self) -> dict[str, Any]:
        """The subscription as `hello` has it."""
        windows = self.windows if isinstance(self.windows, str) else [instant(at_ms(start)) for start in self.windows]
        return {
            "rankings": list(self.rankings),
            "length": self.length,
            "windows": windows,
            "countries": list(self.countries),
        }


def _unstorable(made: RankingSet) -> str:
    """Why the store rejects such a set: then REST does not serve it, and neither does the live stream. Empty if not."""
    if epoch_second(made.window.start) is None or epoch_second(made.window.end) is None:
        return f"a window is of whole seconds from 1970 to 2106, not {instant(made.window.start)}"
    ranks = [entry.rank for entry in made.rankings]
    if ranks != list(range(1, len(ranks) + 1)):
        return f"ranks must count from 1: {ranks}"
    for entry in made.rankings:
        if entry.transaction_count > MAX_SALES or abs(entry.total_sales) >= TOTAL_LIMIT:
            return f"rank {entry.rank}: {entry.transaction_count} sales of {entry.total_sales} do not fit the store"
    return ""


def answer(ranking: RankingDefinition, record: Mapping[str, Any]) -> RankingSet:
    """A record of `rankings.*` as REST answers it.

    Raises:
        ValueError: it is no ranking that can be served.
    """
    return SETS[ranking.name].model_validate(
        {
            "window": {"start": record["window_start"], "end": record["window_end"]},
            **{field: record[field] for field in ("status", "revision", "as_of", "watermark")},
            "rankings": [
                {"country": record["country"], **entry, ranking.column: entry["name"]} for entry in record["entries"]
            ],
        }
    )


def live_set(
    ranking: RankingDefinition, length: str, record: Mapping[str, Any], partition: int, offset: int
) -> LiveSet:
    """A record of `rankings.*` as it is kept.

    Raises:
        ValueError: it is no ranking that can be served.
    """
    made = answer(ranking, record)
    if why := _unstorable(made):
        raise ValueError(why)
    country = record["country"] if ranking.per_country else ""
    of = {"ranking": ranking.name, "length": length, **({"country": country} if country else {})}
    body = (orjson.dumps(of)[:-1] + b"," + encode(made)[1:]).decode()  # what it is of, and what REST answers
    start = to_ms(made.window.start)
    return LiveSet(
        Group(ranking.name, length, country), start, made.revision, made.as_of.timestamp(), body, partition, offset
    )


def offsets(seq: str) -> tuple[str, tuple[int, ...]]:
    """The mark of the partitions and the position that are in a `seq`.

    Raises:
        ValueError: it was never one.
    """
    if not _SEQ.fullmatch(seq):
        raise ValueError("must be the seq of an earlier frame, unchanged")
    mark, *position = seq.split(".")
    return mark, tuple(int(offset) for offset in position)


class LiveRankings:
    """The newest set of each window, at most `keep` windows of a group, and how far each partition has been read.

    A `seq` is the next offset of each partition after a mark of which partitions these are, so it means the same to
    every process that reads the same topics.
    """

    def __init__(self, partitions: Sequence[tuple[str, int]], keep: int) -> None:
        self.partitions = tuple(partitions)
        self._keep = keep
        self._mark = f"{zlib.crc32(repr(self.partitions).encode()):08x}"
        self._next = [0] * len(self.partitions)
        self._groups: dict[Group, dict[int, LiveSet]] = {}
        self._latest: dict[Group, int] = {}

    @property
    def seq(self) -> str:
        """The position as text."""
        return ".".join((self._mark, *map(str, self._next)))

    def position(self, partition: int) -> int:
        """The next offset of the partition; 0 before the first record."""
        return self._next[partition]

    def passed(self, partition: int, offset: int) -> None:
        """The partition has been read up to and with `offset`, also where that record changed nothing.

        An offset that was passed before means that the topic was recreated: then its sets are forgotten.
        """
        if offset < self._next[partition]:
            for group, windows in list(self._groups.items()):
                self._groups[group] = {start: one for start, one in windows.items() if one.partition != partition}
                self._settle(group)
        self._next[partition] = offset + 1

    def _settle(self, group: Group) -> None:
        windows = self._groups[group]
        if len(windows) > self._keep:
            del windows[min(windows)]
        if windows:
            self._latest[group] = max(windows)
        else:
            del self._groups[group]
            self._latest.pop(group, None)

    def apply(self, new: LiveSet) -> bool:
        """Keep the set; False where it is not newer than the one that is kept, or its window is too old to be kept."""
        self.passed(new.partition, new.offset)
        windows = self._groups.setdefault(new.group, {})
        known = windows.get(new.start)
        if known is not None and known.revision >= new.revision:
            return False
        windows[new.start] = new
        self._settle(new.group)
        return new.start in windows

    def latest(self, group: Group) -> int:
        """The start of the group's newest window.

        Raises:
            KeyError: the group has none.
        """
        return self._latest[group]

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def resumable(self, since: str) -> tuple[int, ...] | None:
        """The position in `since`; None where it is of other partitions or beyond what they hold.

        Raises:
            ValueError: it was never a `seq`.
        """
        mark, position = offsets(since)
        fits = mark == self._mark and len(position) == len(self._next)
        if not fits or any(offset > known for offset, known in zip(position, self._next, strict=True)):
            return None
        return position

    def wanted(self, subscription: Subscription) -> list[LiveSet]:
        """The sets that a subscription names, in order of ranking, country and window."""
        sets: list[LiveSet] = []
        for group in sorted(filter(subscription.wants_group, self._groups)):
            windows = self._groups[group]
            starts: tuple[int, ...] | list[int]
            if subscription.windows == "latest":
                starts = (self._latest[group],)
            else:
                starts = sorted(windows if subscription.windows == "all" else set(subscription.windows) & set(windows))
            sets += [windows[start] for start in starts]
        return sets

    def size(self, subscription: Subscription) -> int:
        """How many sets a snapshot goes through: what it costs, also where `since` leaves most of them out."""
        windows = subscription.windows
        each = None if windows == "all" else 1 if windows == "latest" else len(windows)
        return sum(each or len(self._groups[group]) for group in self._groups if subscription.wants_group(group))

    def snapshot(self, subscription: Subscription) -> tuple[Frame, bool]:
        """The snapshot frame, and whether it resumes after the subscription's `since` and has only what is newer.

        Raises:
            ValueError: `since` was never a `seq`.
        """
        position = None if subscription.since is None else self.resumable(subscription.since)
        sets = ",".join(
            one.body for one in self.wanted(subscription) if position is None or one.offset >= position[one.partition]
        )
        resumed = "false" if position is None else "true"
        text = f'{{"type":"snapshot","seq":"{self.seq}","resumed":{resumed},"sets":[{sets}]}}'
        return Frame("snapshot", self.seq, text), position is not None

    def changed(self, one: LiveSet) -> Frame:
        """The frame for a set that has just been applied."""
        text = f'{{"type":"ranking","seq":"{self.seq}","set":{one.body}}}'
        return Frame("ranking", self.seq, text, one.as_of)

    def heartbeat(self, now: datetime) -> Frame:
        """The frame that is sent where nothing else is new."""
        return Frame("heartbeat", self.seq, f'{{"type":"heartbeat","seq":"{self.seq}","time":"{instant(now)}"}}')
