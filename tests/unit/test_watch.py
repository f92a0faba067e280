"""The terminal view: what frames make of the state, and what is on the screen."""

import json
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from contracts.rankings import RANKINGS
from tools.__main__ import main
from tools.watch import app
from tools.watch.transform import Change, RejectedError, State, apply, parse
from tools.watch.view import screen

HELLO = {"type": "hello", "protocol": 1, "heartbeatSeconds": 5, "subscription": {}}


def ranking_set(revision: int, *entries: tuple[str, str], hour: int = 10) -> dict[str, Any]:
    """A set of cities with these names and totals."""
    return {
        "ranking": "city",
        "window": {"start": f"2026-02-19T{hour}:00:00Z", "end": f"2026-02-19T{hour + 1}:00:00Z"},
        "status": "provisional",
        "revision": revision,
        "asOf": f"2026-02-19T{hour}:00:01Z",
        "rankings": [
            {"rank": rank, "city": name, "totalSales": Decimal(total), "transactionCount": 1}
            for rank, (name, total) in enumerate(entries, 1)
        ],
    }


def snapshot(*sets: dict[str, Any], resumed: bool = False, seq: str = "s") -> dict[str, Any]:
    """A snapshot frame."""
    return {"type": "snapshot", "seq": seq, "resumed": resumed, "sets": list(sets)}


def shown(state: State, now: float, width: int) -> str:
    """What the terminal shows."""
    out = StringIO()
    Console(file=out, width=width).print(screen(state, now, "127.0.0.1:8080", width))
    return out.getvalue()


def after(*frames: dict[str, Any]) -> State:
    """The state after these frames, a second apart."""
    state = State(0)
    for second, frame in enumerate(frames, 1):
        apply(state, frame, second)
    return state


def test_amounts_are_exact() -> None:
    """The digits of a total are kept, also those that a float loses."""
    text = '{"type":"ranking","seq":"1","set":{"rankings":[{"totalSales":9999999999999999.99}]}}'
    assert parse(text)["set"]["rankings"][0]["totalSales"] == Decimal("9999999999999999.99")


@pytest.mark.parametrize("text", ["[]", "{}", '{"type":1}', "nonsense"])
def test_no_frame(text: str) -> None:
    """What is not a frame is an error that shows its beginning."""
    with pytest.raises(ValueError, match=r"not a frame|Expecting value"):
        parse(text)


def test_changes_of_a_revision() -> None:
    """A revision is compared by name: ranks risen and fallen, totals gained and lost, names that are new."""
    state = after(
        snapshot(ranking_set(1, ("Recife", "30.00"), ("Natal", "20.00"), ("Belém", "10.00"))),
        {
            "type": "ranking",
            "seq": "2",
            "set": ranking_set(2, ("Natal", "35.50"), ("Recife", "29.00"), ("Manaus", "9.00")),
        },
    )
    assert state.rankings["city"].changes == {
        "Natal": Change(1, Decimal("15.50")),
        "Recife": Change(-1, Decimal("-1.00")),
        "Manaus": Change(is_new=True),
    }
    assert state.seq == "2"


def test_a_new_window_is_no_change() -> None:
    """The first set of the next hour is shown without marks; a set of the hour before does not replace it."""
    state = after(
        snapshot(ranking_set(5, ("Recife", "30.00"))),
        {"type": "ranking", "seq": "2", "set": ranking_set(6, ("Recife", "1.00"), hour=11)},
        {"type": "ranking", "seq": "3", "set": ranking_set(7, ("Recife", "31.00"))},
    )
    shown_ranking = state.rankings["city"]
    assert (shown_ranking.set["revision"], shown_ranking.changes) == (6, {})


def test_an_older_revision_is_not_shown() -> None:
    """A resumed snapshot that repeats what is known changes nothing."""
    state = after(snapshot(ranking_set(5, ("Recife", "30.00"))), snapshot(ranking_set(4, ("x", "1.00")), resumed=True))
    assert state.rankings["city"].set["revision"] == 5


def test_a_whole_snapshot_replaces_everything() -> None:
    """What a snapshot that is not resumed does not have is no longer shown, and lower revisions count."""
    state = after(snapshot(ranking_set(5, ("Recife", "30.00"))), snapshot(ranking_set(1, ("Natal", "1.00"))))
    assert [entry["city"] for entry in state.rankings["city"].set["rankings"]] == ["Natal"]
    apply(state, snapshot(), 9)
    assert state.rankings == {}


def test_rejection() -> None:
    """An error frame ends the view with the server's own words."""
    with pytest.raises(RejectedError, match="length: must be"):
        after({"type": "error", "code": "invalid_subscription", "detail": "length: must be 1h", "errors": []})


def test_stale_after_two_heartbeats() -> None:
    """The view is stale once nothing, not even a heartbeat, came for two heartbeats, and says so."""
    state = after(HELLO, snapshot(ranking_set(1, ("Recife", "30.00"))), {"type": "heartbeat", "seq": "9", "time": "-"})
    assert (state.heard, state.seq) == (3, "9")
    assert not state.stale(13)
    assert state.stale(13.1)
    assert "stale" not in shown(state, 13, 200)
    assert "stale: what is shown may be old" in shown(state, 13.1, 200)


@pytest.mark.parametrize("width", [80, 200])
def test_screen(width: int) -> None:
    """Both rankings are shown with totals to the cent, marks, status and connection, in wide and narrow terminals."""
    state = after(
        snapshot(ranking_set(1, ("Recife", "9999999999999990.00"), ("Natal", "20.00"))),
        {
            "type": "ranking",
            "seq": "2",
            "set": ranking_set(2, ("Recife", "9999999999999999.99"), ("Manaus", "21.00"), ("Natal", "20.00")),
        },
    )
    text = shown(state, 3, width)
    for part in ("Top cities", "9,999,999,999,999,999.99", "+9.99", "▼1", "new", "provisional", "Top salespeople"):
        assert part in text
    assert "no sales yet" in text
    assert "● live  127.0.0.1:8080" in text
    assert "+9.99" not in shown(state, 20, width)


def test_an_emptied_window() -> None:
    """A window whose sales were all cancelled is shown as empty."""
    assert "no sales in this window" in shown(after(snapshot(ranking_set(1))), 1, 100)


def test_waits_double_and_end() -> None:
    """Attempts are ever further apart, at most LONGEST_RETRY_S seconds, and never all at one time."""
    waits = [app.wait_s(failures) for failures in range(40)]
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits[:6]))
    assert all(app.LONGEST_RETRY_S / 2 <= wait <= app.LONGEST_RETRY_S for wait in waits[6:])
    assert len(set(waits[10:])) > 1


@pytest.mark.parametrize("token", ["secret-of-sixteen", ""])
async def test_the_token_is_shown_to_the_api_only(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """A token goes into a header, not into the address; a resumed connection names its position."""
    connections: list[tuple[str, dict[str, str]]] = []

    def connect(address: str, *, additional_headers: dict[str, str], **_: Any) -> Any:
        connections.append((address, additional_headers))
        raise ConnectionRefusedError

    monkeypatch.setattr(app, "connect", connect)
    state = after(snapshot(seq="12.3"))
    with pytest.raises(ConnectionRefusedError):
        app.connection(app.Subscription("ws://api/live", {"countries": "BR"}, token), state.seq)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    assert connections == [("ws://api/live?countries=BR&since=12.3", headers)]


def test_a_rejected_token() -> None:
    """Where the API wants another token, the setting is named."""
    rejected = InvalidStatus(Response(401, "Unauthorized", Headers()))
    assert app.why(rejected) == "it wants another token (setting API_LIVE_TOKEN)"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/api/v1/sales/live"),
        ("https://placar.example/", "wss://placar.example/api/v1/sales/live"),
    ],
)
def test_address(address: str, expected: str) -> None:
    """The address of the API is the one of its page; the path is known."""
    assert app.live_url(address) == expected


def test_a_wrong_address(capsys: pytest.CaptureFixture[str]) -> None:
    """An address without a scheme ends the command with status 2 and names an example."""
    assert main(["watch", "--url", "localhost:8080"]) == 2
    assert "--url" in (err := capsys.readouterr().err)
    assert "such as http://127.0.0.1:8080" in err


@pytest.mark.parametrize("width", [80, 160, 240, 400])
def test_every_ranking_of_the_table_is_shown(width: int) -> None:
    """Each ranking has its title and the name of its competitors, in whatever columns the terminal has."""
    sets = [
        {
            **ranking_set(1),
            "ranking": ranking.name,
            "rankings": [{"rank": 1, field: f"first {ranking.name}", "totalSales": Decimal(1), "transactionCount": 1}],
        }
        for ranking, field in zip(RANKINGS, ("city", "salesmanName", "product"), strict=True)
    ]
    text = " ".join(shown(after(snapshot(*sets)), 1, width).split())
    for ranking in RANKINGS:
        assert ranking.title["en"] in text
        assert ranking.competitor["en"] in text
        assert f"first {ranking.name}" in text


def test_a_ranking_that_is_not_known_is_left_out() -> None:
    """An API that has one ranking more is watched all the same."""
    assert after(snapshot({**ranking_set(1), "ranking": "channel"})).rankings == {}


def test_parse_keeps_text() -> None:
    """A name with any characters is the same on both sides."""
    frame = {"type": "ranking", "set": {"rankings": [{"city": 'São "x" \\ 😀'}]}}
    assert parse(json.dumps(frame)) == frame
