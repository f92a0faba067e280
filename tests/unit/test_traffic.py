"""What the traffic generator sells, and how it keeps its rate."""

import csv
import io
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.reference import CITIES
from tools.__main__ import main
from tools.traffic import app, retail
from tools.traffic.channels import OWN, PROVIDERS, Channel
from tools.traffic.transform import HEADER, actions, csv_file, due, missed, spread

ALL = tuple(Channel)


def test_the_same_seed_sells_the_same() -> None:
    """Two runs of one seed are equal, action by action."""
    first, second = (list(islice(actions(random.Random(7), ALL), 500)) for _ in range(2))
    assert first == second


def test_mostly_sales_some_changes_and_cancellations() -> None:
    """All three sources are sold through; only Postgres changes and cancels, and less often than it sells."""
    kinds = Counter((action.source, action.kind) for action in islice(actions(random.Random(1), OWN), 3000))
    assert {source for source, _ in kinds} == set(OWN)
    assert (
        kinds[Channel.POSTGRES, "insert"]
        > 4 * kinds[Channel.POSTGRES, "update"]
        > 4 * kinds[Channel.POSTGRES, "delete"] / 2
        > 0
    )
    assert {source for source, kind in kinds if kind != "insert"} == {"postgres"}


def test_providers_only_deliver() -> None:
    """Each source has its share; what a provider's webhook is about is not decided here."""
    happened = list(islice(actions(random.Random(1), ALL), 3000))
    shares = Counter(action.source for action in happened)
    assert all(400 < shares[channel] < 600 for channel in ALL)
    webhooks = [action for action in happened if action.kind == "webhook"]
    assert {action.source for action in webhooks} == set(PROVIDERS)
    assert {action.sold for action in webhooks} == {None}


def test_only_living_sales_change() -> None:
    """What is changed or cancelled was sold before and is not cancelled yet."""
    alive: set[int] = set()
    for action in islice(actions(random.Random(3), (Channel.POSTGRES,)), 2000):
        if action.kind == "insert":
            assert action.number not in alive
            alive.add(action.number)
        else:
            assert action.number in alive
        if action.kind == "delete":
            alive.remove(action.number)
        assert (action.sold is None) == (action.kind == "delete")


def test_sales_are_plausible() -> None:
    """Every sale is of a known product in a known city, at a price within bounds, exact to the cent."""
    rng = random.Random(5)
    prices = retail.PRICES
    for _ in range(500):
        sold = retail.sell(rng)
        low, high = prices[sold.product]
        assert low <= sold.amount <= high
        assert sold.amount == sold.amount.quantize(Decimal("0.01"))
        assert sold.city in set(CITIES)


def test_the_staff_is_always_the_same() -> None:
    """At least fifty people of different names, somebody in each of the ten cities."""
    staff = retail.people()
    assert len({person.name for person in staff}) == len(staff) >= 50
    assert {person.city for person in staff} == set(CITIES)


@given(st.floats(0, 10_000), st.floats(0.1, 1000), st.integers(0, 10**6))
def test_the_rate_is_honest(elapsed: float, rate: float, done: int) -> None:
    """What is due and done together is what the rate asks for, never more."""
    assert done + due(elapsed, rate, done) == max(done, int(elapsed * rate))


def test_a_long_outage_is_no_flood() -> None:
    """Ten seconds' worth is caught up, more is given up."""
    assert missed(200, 20) == 0
    assert missed(5000, 20) == 4800


def test_event_times_lie_in_the_past() -> None:
    """Event times are spread over the given span and never ahead of now."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    moments = spread(random.Random(1), 100, now, timedelta(hours=4))
    assert moments == sorted(moments)
    assert now - timedelta(hours=4) <= moments[0] < moments[-1] <= now


def test_csv_files_have_the_agreed_header_and_quote_what_needs_it() -> None:
    """The file reads back as the rows that were sold, with instants in UTC."""
    sold = retail.Sold(retail.Person('Ana, "a"', "Recife", "Nordeste"), "São Paulo", "SSD", Decimal("10.50"))
    content = csv_file([("F1", sold, datetime(2026, 1, 1, 12, tzinfo=UTC))]).decode()
    rows = list(csv.reader(io.StringIO(content)))
    assert tuple(rows[0]) == HEADER
    assert rows[1:] == [["F1", 'Ana, "a"', "São Paulo", "BR", "10.50", "SSD", "2026-01-01T12:00:00.000Z"]]


@pytest.mark.parametrize(
    "wrong",
    [
        ["traffic", "--rate", "0"],
        ["traffic", "--rate", "x"],
        ["traffic", "--sources", "postgres,fax"],
        ["traffic", "buy"],
        ["shop", "--start", "2026-02-19T10:00:00Z", "--seed"],
        ["shop", "--seed", "1", "--start", "yesterday"],
        ["seed", "--again"],
    ],
)
def test_a_wrong_argument_ends_with_a_message(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the wrong argument; the status is 2."""
    assert main(wrong) == 2
    assert wrong[-1].split(",")[-1] in capsys.readouterr().err


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selling needs no argument; seeding is a command of its own."""
    calls: list[object] = []

    def run(*arguments: object, **options: object) -> int:
        calls.append((*arguments, *options.items()))
        return 0

    monkeypatch.setattr(app, "run_traffic", run)
    monkeypatch.setattr(app, "run_seed", run)
    assert main(["traffic"]) == 0
    assert main(["traffic", "--rate", "5", "--seed", "7", "--count", "9", "--sources", "files,legacy"]) == 0
    assert main(["traffic", "--sources", "shopify,stripe", "--check", "30"]) == 0
    assert main(["seed"]) == main(["seed", "--initial"]) == 0
    assert calls[:2] == [(20.0, None, None, OWN, None), (5.0, 7, 9, (Channel.FILES, Channel.LEGACY), None)]
    assert calls[2:3] == [(20.0, None, None, (Channel.SHOPIFY, Channel.STRIPE), 30.0)]
    assert calls[3:] == [(("initial", False),), (("initial", True),)]


def test_only_webhooks_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """A check of sales that no provider tells of is a mistake, not a check that finds nothing."""
    assert main(["traffic", "--sources", "files", "--check", "5"]) == 2
    assert "--check" in capsys.readouterr().err
