"""The audit against real ClickHouse: sales and sets as the sink writes them."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contracts.windows import DEFAULT, window_lengths
from services.clickhouse_sink.transform import rows
from tests import oracle
from tests.connected.commands import Run, process
from tests.connected.serving import Database, database, ranking_set
from tests.connected.streams import free_port
from tools.audit.app import PAGE_WINDOWS, Result, compare
from tools.audit.store import LAST_SECOND, grids
from tools.audit.transform import Difference

START = datetime(2026, 2, 19, 10, tzinfo=UTC)


@pytest.fixture
async def db(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A database of the test's own."""
    async with database(servers) as made:
        yield made


async def write(db: Database, topic: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as the sink does, in one block."""
    plan = db.plans[topic]
    await db.store.insert(plan.mapping.table, plan.columns, [row for record in records for row in rows(plan, record)])


def sale(number: int, **more: Any) -> dict[str, Any]:
    """A sale of START's hour, its fields decided by its number unless `more` gives them."""
    return {
        "sale_id": f"s{number}",
        "source": "files",
        "salesman_name": f"person {number % 23}",
        "city": f"city {number % 17}",
        "country": "BR" if number % 3 else "PT",
        "amount": Decimal(number % 29 + 1) + Decimal("0.01"),
        "product": "GPU",
        "event_time": START + timedelta(seconds=number % 3600),
        "ingestion_time": START,
        "version": 1,
        "deleted": False,
    } | more


async def serve(db: Database, sales: Sequence[Mapping[str, Any]], revision: int = 1) -> None:
    """Serve what the batch oracle ranks in each hour, as the sink writes it."""
    await _serve(db, oracle.expected(sales), revision)


async def serve_days(db: Database, sales: Sequence[Mapping[str, Any]]) -> None:
    """The same for each local day."""
    await _serve(db, oracle.expected(sales, midnight), 1, ".1d", lambda start: midnight(start + timedelta(hours=30)))


async def _serve(
    db: Database,
    rankings: oracle.Rankings,
    revision: int,
    suffix: str = "",
    end_of: Callable[[datetime], datetime] = lambda start: start + timedelta(hours=1),
) -> None:
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for set_key, entries in rankings.items():
        topic = f"rankings.{set_key.ranking}{suffix}"
        record = ranking_set(topic, set_key.start, revision, [], country=set_key.country)
        record["window_end"] = end_of(set_key.start)
        record["entries"] = [
            {"rank": e.rank, "name": e.name, "total_sales": e.total, "transaction_count": e.count} for e in entries
        ]
        records[topic].append(record)
    for topic, of_topic in records.items():
        await write(db, topic, of_topic)


async def audit(servers: Mapping[str, str], db: Database, *arguments: str, **more: str) -> Run:
    """Run `placar audit` over the test's database."""
    return await process("tools", {**servers, "CLICKHOUSE_DB": db.settings.db, **more}, "audit", *arguments)


async def compared(db: Database, windows: str = DEFAULT) -> tuple[Result, list[Difference]]:
    """Compare everything in this process."""
    different: list[Difference] = []
    of = list(grids(window_lengths(windows)).values())
    result = await compare(db.store, of, 0, LAST_SECOND, settle_s=0, report=different.append, inform=lambda text: None)
    return result, different


async def test_a_planted_difference_is_found(servers: Mapping[str, str], db: Database) -> None:
    """What the oracle ranks is equal, with status 0 and one line; a cent planted in it is found, with status 1."""
    sales = [sale(n) for n in range(400)]
    sales += [sale(n, version=2, deleted=True) for n in range(0, 400, 7)]
    sales += [sale(n, version=3, city="São Paulo", amount=Decimal("9999999999999.99")) for n in range(0, 400, 11)]
    await write(db, "sales.unified", sales)
    await serve(db, sales)
    equal = await audit(servers, db)
    assert (equal.status, equal.out, equal.err) == (0, "1 windows, 31 entries equal\n", "")

    await serve(db, [*sales, sale(1000, city="São Paulo", salesman_name="person 22", amount=Decimal("0.01"))], 2)
    planted = await audit(servers, db, "--settle", "0", "--json")
    *differences, outcome = (json.loads(line, parse_float=Decimal) for line in planted.out.splitlines())
    assert planted.status == 1
    assert {(d["ranking"], d["name"], d["figure"], d["delta"]) for d in differences} == {
        ("city", "São Paulo", "total", Decimal("0.01")),
        ("city", "São Paulo", "count", 1),
        ("salesman", "person 22", "total", Decimal("0.01")),
        ("salesman", "person 22", "count", 1),
        ("product", "GPU", "total", Decimal("0.01")),
        ("product", "GPU", "count", 1),
    }
    assert outcome["differing"] == 3
    table = await audit(servers, db, "--settle", "0")
    assert table.status == 1
    assert "2026-02-19T10:00:00Z" in table.out
    assert "+0.01" in table.out
    assert "3 sets differ" in table.out
    outside = await audit(servers, db, "--from", "2026-02-19T11:00:00Z", "--to", "2026-02-19T20:00:00Z")
    assert (outside.status, outside.out) == (0, "0 windows, 0 entries equal\n")


async def test_ties_are_ranked_by_name(db: Database) -> None:
    """Equal totals are ranked in code point order of the names, also where that decides who is among the ten."""
    names = ["z", "Z", "á", "a", "É", "ß", "日", "😀", "é", "Ω", "-", "a b", "aa"]
    sales = [sale(n, sale_id=f"t{n}", city=name, amount=Decimal(5)) for n, name in enumerate(names)]
    await write(db, "sales.unified", sales)
    await serve(db, sales)
    result, different = await compared(db)
    assert (result.windows, different) == (1, [])
    assert result.entries > 10


async def test_totals_of_more_than_64_bits(db: Database) -> None:
    """Totals beyond 64 bits are ranked to the cent, and one that is served a cent too high differs."""
    largest = Decimal("9999999999999999.99")
    sales = [
        sale(number, sale_id=f"{city}{number}", city=city, salesman_name="Ana", country="BR", amount=largest)
        for city in ("Natal", "Olinda", "Recife")
        for number in range(1_000)
    ]
    sales += [sale(0, sale_id="more", city="Recife", salesman_name="Ana", country="BR", amount=Decimal("0.01"))]
    await write(db, "sales.unified", sales)
    await serve(db, sales)
    result, different = await compared(db)
    assert (result.windows, different) == (1, [])
    cent = sale(0, sale_id="planted", city="Natal", salesman_name="Bia", country="BR", amount=Decimal("0.01"))
    await serve(db, [*sales, cent], 2)
    _, different = await compared(db)
    total = 1_000 * largest
    figures = {(one.name, one.figure, one.served, one.recomputed) for one in different}
    assert ("Natal", "total", total + Decimal("0.01"), total) in figures


async def test_windows_that_only_one_side_has(db: Database) -> None:
    """Sales that are not served differ; a window without sales is equal when served as empty, and not as it was."""
    gone, unserved = START + timedelta(hours=3), START + timedelta(hours=5)
    await write(db, "sales.unified", [sale(1, version=2, deleted=True, event_time=gone), sale(2, event_time=unserved)])
    await write(db, "rankings.city", [ranking_set("rankings.city", gone, 1, ["as it was"])])
    result, different = await compared(db)
    assert (result.windows, result.differing) == (0, 4)
    assert {(d.key.ranking, d.key.window, d.name, d.served is None) for d in different} == {
        ("city", int(gone.timestamp()), "as it was", False),
        ("city", int(unserved.timestamp()), "city 2", True),
        ("salesman", int(unserved.timestamp()), "person 2", True),
        ("product", int(unserved.timestamp()), "GPU", True),
    }
    await write(db, "rankings.city", [ranking_set("rankings.city", gone, 2, [])])
    result, different = await compared(db)
    assert (result.windows, result.differing) == (1, 3)
    assert {d.key.window for d in different} == {int(unserved.timestamp())}


async def test_many_windows_are_compared_in_pages(db: Database) -> None:
    """A period of more hours than a page holds is compared whole, years apart too, and every difference is found."""
    draw = random.Random(4)
    hours = draw.sample(range(100_000), PAGE_WINDOWS + 40)
    sales = [
        sale(n, sale_id=f"{n}/{hour}", event_time=datetime(2010, 1, 1, tzinfo=UTC) + timedelta(hours=hour))
        for hour in hours
        for n in range(3)
    ]
    await write(db, "sales.unified", sales)
    await serve(db, sales)
    result, different = await compared(db)
    assert (result.windows, different) == (len(hours), [])
    wrong = [sale(0, sale_id=f"0/{hour}", version=2, deleted=True, event_time=START) for hour in hours]
    await write(db, "sales.unified", wrong)
    result, different = await compared(db)
    assert (result.windows, result.differing) == (0, 3 * len(hours))
    assert len({d.key.window for d in different}) == len(hours)


async def test_a_ranking_in_flight(db: Database) -> None:
    """A ranking that arrives while the audit reads again is equal."""
    sales = [sale(n) for n in range(20)]
    await write(db, "sales.unified", sales)
    differs = asyncio.Event()

    async def arrive() -> None:
        await differs.wait()
        await serve(db, sales)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(arrive())
        result = await compare(
            db.store,
            list(grids(window_lengths(DEFAULT)).values()),
            *(0, LAST_SECOND),
            settle_s=20,
            report=lambda _: None,
            inform=lambda _: differs.set(),
        )
    assert (result.windows, result.differing, result.settled) == (1, 0, 4)


async def test_what_cannot_be_compared(servers: Mapping[str, str], db: Database) -> None:
    """A server that is unavailable or has no tables, or a wrong period, ends it with status 2 and says why."""
    port = str(free_port())
    down = await audit(servers, db, CLICKHOUSE_NATIVE_PORT=port)
    assert (down.status, down.out, down.err.count("\n")) == (2, "", 1)
    assert f"{servers['CLICKHOUSE_HOST']}:{port}" in down.err
    assert "CLICKHOUSE_HOST, CLICKHOUSE_NATIVE_PORT" in down.err
    without = await audit(servers, db, CLICKHOUSE_DB="default")
    assert (without.status, without.out) == (2, "")
    assert "CLICKHOUSE_DB" in without.err
    wrong = await audit(servers, db, "--from", "yesterday")
    assert wrong.status == 2
    assert "--from" in wrong.err
    assert "2026-02-19T10:00:00Z" in wrong.err


SAO_PAULO = ZoneInfo("America/Sao_Paulo")
WINDOWS = "1h,1d@America/Sao_Paulo"
CHANGED_CLOCKS = ("2018-11-03", "2018-11-04", "2018-11-05", "2019-02-16", "2019-02-17", "2026-02-18", "2026-02-19")


def midnight(moment: datetime) -> datetime:
    """The start of the moment's day in Sao Paulo: on a day that has no midnight, the first instant that it has."""
    local = moment.astimezone(SAO_PAULO)
    return datetime(local.year, local.month, local.day, tzinfo=SAO_PAULO).astimezone(UTC)


async def test_local_days(servers: Mapping[str, str]) -> None:
    """Days in Sao Paulo are compared by the local clock, of 23 and 25 hours too; a sale on the wrong side is found."""
    first_moments = [datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=SAO_PAULO) for day in CHANGED_CLOCKS]
    sales = [
        sale(n, sale_id=f"{n}/{number}", event_time=midnight(moment) + timedelta(minutes=97 * n))
        for number, moment in enumerate(first_moments)
        for n in range(14)
    ]
    borders = [midnight(moment) + by for moment in first_moments for by in (timedelta(milliseconds=-1), timedelta(0))]
    border = {"city": "Border", "amount": Decimal("500.00")}
    sales += [sale(0, sale_id=f"border {n}", event_time=at, **border) for n, at in enumerate(borders)]
    async with database(servers, WINDOWS) as db:
        await write(db, "sales.unified", sales)
        await serve(db, sales)
        await serve_days(db, sales)
        days = len({midnight(one["event_time"]) for one in sales})
        hours = len({oracle.hour_of(one["event_time"]) for one in sales})
        assert days == 10  # the seven, and the three before the first of a run
        result, different = await compared(db, WINDOWS)
        assert (result.windows, different) == (days + hours, [])

        # the same sale a millisecond earlier is one of the day before
        moved = sale(0, sale_id="border 1", version=2, event_time=borders[0], **border)
        await write(db, "sales.unified", [moved])
        await serve(db, [*sales, moved], 2)
        with_days = await audit(servers, db, "--settle", "0", "--json", "--length", "1d", RANKING_WINDOWS=WINDOWS)
        *differences, outcome = (json.loads(line, parse_float=Decimal) for line in with_days.out.splitlines())
        assert with_days.status == 1
        starts = {"2018-11-02T03:00:00Z", "2018-11-03T03:00:00Z"}
        assert {(d["length"], d["ranking"], d["window"]) for d in differences} == {
            ("1d", ranking, start) for ranking in ("city", "salesman", "product") for start in starts
        }
        assert (outcome["windows"], outcome["differing"]) == (days - 2, 6)
        with_hours = await audit(servers, db, "--length", "1h", RANKING_WINDOWS=WINDOWS)
        assert (with_hours.status, with_hours.err) == (0, "")
        of_one_day = ("--from", "2026-02-19T10:00:00Z", "--to", "2026-02-19T10:00:01Z", "--length", "1d")
        one_day = await audit(servers, db, *of_one_day, RANKING_WINDOWS=WINDOWS)
        assert (one_day.status, one_day.out.split(",")[0]) == (0, "1 windows")
        unknown = await audit(servers, db, "--length", "1d")
        assert (unknown.status, unknown.out) == (2, "")
        assert "--length" in unknown.err
        assert "'1h'" in unknown.err


async def test_windows_of_another_grid_differ(servers: Mapping[str, str]) -> None:
    """A set that is served for a day that begins where no local day does is a difference, not overlooked."""
    async with database(servers, WINDOWS) as db:
        at_midnight_utc = ranking_set("rankings.city.1d", START.replace(hour=0), 1, ["of another time zone"])
        await write(db, "rankings.city.1d", [at_midnight_utc])
        _, different = await compared(db, WINDOWS)
        assert {(d.key.length, d.name, d.recomputed) for d in different} == {("1d", "of another time zone", None)}
