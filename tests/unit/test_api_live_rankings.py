"""The newest sets: what is kept, what a subscription names, and where a client resumes."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from contracts.rankings import BY_NAME
from services.api.live_rankings import Group, LiveRankings, LiveSet, Subscription, live_set, offsets
from services.api.models import ENTRIES, SETS, Window, encode

START = datetime(2026, 2, 19, 10, tzinfo=UTC)
CITY, BRAZIL = Group("city", "1h", ""), Group("salesman", "1h", "BR")
PARTITIONS = [("rankings.city", 0), ("rankings.salesman", 0), ("rankings.product", 0)]
ALL = Subscription(("city", "salesman"), "1h", "all", ("BR",))
LATEST = Subscription(("city", "salesman"), "1h", "latest", ("BR",))


def ms(hour: int) -> int:
    """Epoch ms of the window that starts so many hours after START."""
    return int((START + timedelta(hours=hour)).timestamp() * 1000)


def one(revision: int, offset: int, group: Group = CITY, hour: int = 0) -> LiveSet:
    """A set whose body is its revision."""
    return LiveSet(group, ms(hour), revision, 0.0, f'{{"revision":{revision}}}', 1 if group.country else 0, offset)


def filled(sets: Iterable[LiveSet], keep: int = 100) -> LiveRankings:
    """Live rankings to which the sets were applied."""
    live = LiveRankings(PARTITIONS, keep)
    for each in sets:
        live.apply(each)
    return live


def revisions(live: LiveRankings, subscription: Subscription = ALL, since: str | None = None) -> list[int]:
    """Those in a snapshot."""
    sets: list[dict[str, int]] = json.loads(live.snapshot(replace(subscription, since=since))[0].text)["sets"]
    return [each["revision"] for each in sets]


def record(**changes: Any) -> dict[str, Any]:
    """A record of `rankings.*` as the codec gives it."""
    entry = {"rank": 1, "name": "São Paulo", "total_sales": Decimal("9999999999999999.99"), "transaction_count": 3}
    return {
        "ranking": "city",
        "country": "",
        "window_start": START,
        "window_end": START + timedelta(hours=1),
        "revision": 41,
        "status": "final",
        "watermark": START,
        "as_of": START + timedelta(milliseconds=7),
        "entries": [entry],
        **changes,
    }


def test_set_is_what_rest_answers_and_what_it_is_of() -> None:
    """A set is the body of REST after ranking, length and, for salespeople, country; totals to the cent."""
    body = encode(
        SETS["city"](
            window=Window(start=START, end=START + timedelta(hours=1)),
            status="final",
            revision=41,
            as_of=START + timedelta(milliseconds=7),
            watermark=START,
            rankings=[
                ENTRIES["city"](
                    rank=1, city="São Paulo", total_sales=Decimal("9999999999999999.99"), transaction_count=3
                )
            ],
        )
    ).decode()
    city = live_set(BY_NAME["city"], "1h", record(), 0, 5)
    assert city.body == '{"ranking":"city","length":"1h",' + body[1:]
    assert (city.group, city.start, city.revision, city.partition, city.offset) == (CITY, ms(0), 41, 0, 5)
    assert city.as_of == START.timestamp() + 0.007
    salesman = json.loads(live_set(BY_NAME["salesman"], "1h", record(ranking="salesman", country="BR"), 1, 5).body)
    assert salesman["country"] == "BR"
    assert salesman["rankings"][0]["salesmanName"] == "São Paulo"
    assert salesman["rankings"][0]["country"] == "BR"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "guessed"},
        {"entries": [{"rank": 11, "name": "x", "total_sales": Decimal(1), "transaction_count": 1}]},
        {"window_start": None},
    ],
)
def test_record_that_is_no_ranking(changes: dict[str, Any]) -> None:
    """A record that REST could not serve is rejected."""
    with pytest.raises(ValueError, match="validation error"):
        live_set(BY_NAME["city"], "1h", record(**changes), 0, 0)


def test_highest_revision_wins() -> None:
    """A revision that is not higher than the one that is kept changes nothing, but is passed."""
    live = filled([one(5, 0)])
    before = live.seq
    assert not live.apply(one(4, 1))
    assert not live.apply(one(5, 2))
    assert revisions(live) == [5]
    assert live.position(0) == 3
    assert live.seq != before
    assert live.apply(one(6, 3))
    assert revisions(live) == [6]


def test_at_most_so_many_windows() -> None:
    """Of more windows than are kept the oldest go, and an older one than those is not kept at all."""
    live = filled([one(hour, hour, hour=hour) for hour in range(1, 6)], keep=3)
    assert revisions(live) == [3, 4, 5]
    assert not live.apply(one(9, 9, hour=0))
    assert len(live) == 3
    assert live.apply(one(9, 10, BRAZIL, hour=0))


def test_latest_is_the_newest_window_of_each_country() -> None:
    """`latest` names the newest window of cities and of each country, whatever came last."""
    portugal = Group("salesman", "1h", "PT")
    live = filled(
        [one(1, 0, hour=2), one(2, 1, hour=1), one(3, 0, BRAZIL, hour=0), one(4, 1, portugal), one(5, 2, portugal, 3)]
    )
    both = Subscription(("city", "salesman"), "1h", "latest", ("BR", "PT"))
    assert revisions(live, both) == [1, 3, 5]
    assert revisions(live, LATEST) == [1, 3]
    assert revisions(live, Subscription(("salesman",), "1h", (ms(0),), ("PT",))) == [4]
    assert revisions(live, Subscription(("city",), "1h", "all", ("BR",))) == [2, 1]
    assert revisions(live, Subscription(("city",), "1d", "all", ("BR",))) == []


def test_resume_sends_what_changed_since() -> None:
    """After a position only what changed since is sent, the newest of each window."""
    live = filled([one(1, 0), one(2, 1, hour=1), one(3, 0, BRAZIL)])
    since = live.seq
    assert revisions(live, ALL, since) == []
    for each in (one(4, 2), one(5, 3), one(6, 1, BRAZIL, hour=1)):
        live.apply(each)
    frame, resumed = live.snapshot(replace(ALL, since=since))
    assert resumed
    assert json.loads(frame.text)["resumed"] is True
    assert json.loads(frame.text)["seq"] == live.seq
    assert revisions(live, ALL, since) == [5, 6]


def test_position_holds_over_restarts() -> None:
    """A process that read the same topics, compacted, resumes from the position of another."""
    sets = [one(1, 0), one(2, 1, hour=1), one(3, 2), one(4, 3, hour=2)]
    since = filled(sets[:2]).seq
    assert revisions(filled(sets), ALL, since) == revisions(filled(sets[1:]), ALL, since) == [3, 4]


def test_position_that_cannot_be_resumed() -> None:
    """A position beyond the end or of other topics gives everything, and says so."""
    live = filled([one(1, 0)])
    ahead = filled([one(1, 0), one(2, 1)]).seq
    other = LiveRankings([("rankings.city", 0), ("rankings.city.1d", 0)], 9).seq
    for since in (ahead, other):
        frame, resumed = live.snapshot(replace(ALL, since=since))
        assert not resumed
        assert json.loads(frame.text)["resumed"] is False
        assert revisions(live, ALL, since) == [1]


@pytest.mark.parametrize(
    "text", ["", "5", "abc", "0123abcd", "0123abcd.", "0123abcd.-1", "0123abcd." + "9" * 19, "x" * 99]
)
def test_text_that_was_never_a_position(text: str) -> None:
    """Anything else than a position of ours is rejected."""
    with pytest.raises(ValueError, match="seq of an earlier frame"):
        offsets(text)


def test_recreated_topic() -> None:
    """Offsets that begin again mean another topic: its sets are forgotten, those of other partitions stay."""
    live = filled([one(9, 5), one(8, 6, hour=1), one(3, 0, BRAZIL)])
    assert live.apply(one(1, 0))
    assert revisions(live) == [1, 3]
    assert live.latest(CITY) == ms(0)
    assert live.position(0) == 1


def test_frames() -> None:
    """Ranking and heartbeat carry the position; an event has it as its id."""
    live = filled([one(1, 0)])
    frame = live.changed(one(1, 0))
    assert json.loads(frame.text) == {"type": "ranking", "seq": live.seq, "set": {"revision": 1}}
    assert frame.event.decode() == f"id: {live.seq}\nevent: ranking\ndata: {frame.text}\n\n"
    beat = json.loads(live.heartbeat(START).text)
    assert beat == {"type": "heartbeat", "seq": live.seq, "time": "2026-02-19T10:00:00Z"}
