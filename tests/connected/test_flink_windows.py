"""One more ranking and one more window length on a real cluster, from the sale to every reader.

A copy of the source tree gets what docs/architecture.md says that a ranking takes, one row and one contract, and runs
with RANKING_WINDOWS=1h,1d@America/Sao_Paulo; nothing else is changed.
"""

import asyncio
import json
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import codec
from contracts.catalogue import catalogue
from deploy.native.settings import NativeSettings
from services.api.live import PATH
from tests import oracle
from tests.connected.streams import until
from tests.histories import Change
from tests.rankings import publisher, registry_of
from tests.runtime import ROOT, Runtime, start_runtime

pytestmark = pytest.mark.timeout(900)

ROW = """    RankingDefinition(
        "country",
        column="country",
        per_country=False,
        topic="rankings.country",
        table="top_countries",
        path="top-countries",
        title={"en": "Top countries", "pt": "Melhores países"},
        competitor={"en": "Country", "pt": "País"},
    ),
"""
LENGTHS = ("1h", "1d")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
DAYS = 3
DEADLINE_S = 180

Start = Callable[[datetime], datetime]
Entries = list[tuple[int, str, Decimal, int]]


def source_files(tree: Path) -> dict[str, bytes]:
    """The files of a tree's packages by their path."""
    folders = ("chassis", "contracts", "deploy", "flink", "services", "streams", "tools")
    files = (path for folder in folders for path in (tree / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(tree)): path.read_bytes() for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree that also ranks countries: a row in the table, and a contract like that of products."""
    copy = tmp_path_factory.mktemp("tree")
    for name, content in source_files(ROOT).items():
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod((ROOT / name).stat().st_mode)
    table = copy / "contracts" / "rankings.py"
    before, end, after = table.read_text("utf-8").rpartition(")\nBY_NAME")
    table.write_text(f"{before}{ROW}{end}{after}", "utf-8")
    topics = copy / "contracts" / "topics"
    shutil.copytree(topics / "rankings.product", topics / "rankings.country")
    return copy


@pytest.fixture(scope="module")
def runtime(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The copy's runtime, with the job over hours and local days, the sink and the API."""
    settings = {
        "RANKING_WINDOWS": "1h,1d@America/Sao_Paulo",
        "PLACAR_HOME": str(NativeSettings().home.resolve()),
    }
    units = ("flink_watcher", "clickhouse_sink", "api")
    with start_runtime(tmp_path_factory.mktemp("windows"), units, settings, tree) as started:
        yield started


def local_day(moment: datetime) -> datetime:
    """The midnight in Sao Paulo before the moment."""
    local = moment.astimezone(SAO_PAULO)
    return datetime(local.year, local.month, local.day, tzinfo=SAO_PAULO).astimezone(UTC)


FIRST = local_day(datetime.now(UTC) - timedelta(days=DAYS + 2))
BORDER = local_day(FIRST + timedelta(hours=30))


def history() -> list[Change]:
    """Inserts, changes, moves and deletes of some days, and two sales of one city on both sides of a midnight."""
    chance = random.Random(21)

    def sale(number: int, version: int) -> Change:
        at = FIRST + timedelta(milliseconds=chance.randrange(DAYS * 86_400_000))
        return Change(
            sale_id=f"s{number}",
            source=("postgres", "files", "legacy")[number % 3],
            salesman_name=f"Vendedor {chance.randrange(14):02}",
            city=f"Cidade {chance.randrange(14):02}",
            country=chance.choice(["BR", "BR", "PT", "AR", "UY"]),
            amount=Decimal(chance.randrange(1, 2_000_000)).scaleb(-2),
            product=f"Produto {chance.randrange(14):02}",
            event_time=at,
            ingestion_time=at + timedelta(seconds=2),
            version=version,
            deleted=version > 1 and chance.random() < 0.3,
        )

    changes = [sale(number, version) for number in range(400) for version in range(1, chance.randrange(2, 4))]
    chance.shuffle(changes)
    on_the_border = [("before", BORDER - timedelta(milliseconds=1)), ("after", BORDER)]
    return changes + [
        Change(
            *(name, "files", "Ana", "Fronteira", "BR", Decimal("99999.99"), "GPU"),
            event_time=at,
            ingestion_time=at,
            version=1,
            deleted=False,
        )
        for name, at in on_the_border
    ]


def ranked(field: str, start_of: Start, country: str = "") -> dict[datetime, Entries]:
    """The top ten of every window by `field`, recomputed from all records at once."""
    sold: dict[datetime, dict[str, list[Decimal]]] = defaultdict(lambda: defaultdict(list))
    for sale in oracle.current(change.record() for change in history()):
        if country in ("", sale["country"]):
            sold[start_of(sale["event_time"])][sale[field]].append(sale["amount"])
    top = {}
    for start, by_name in sold.items():
        best = sorted((-sum(amounts, Decimal(0)), name, len(amounts)) for name, amounts in by_name.items())[:10]
        top[start] = [(rank, name, -total, count) for rank, (total, name, count) in enumerate(best, 1)]
    return top


@pytest.fixture(scope="module")
def published(runtime: Runtime) -> None:
    """All sales are in `sales.unified`."""

    async def publish() -> None:
        async with publisher(runtime, []) as sales:
            await sales.publish(history())

    asyncio.run(publish())


def address(runtime: Runtime) -> str:
    """Of the copy's API."""
    return f"http://127.0.0.1:{runtime.env['API_PORT']}"


@pytest.fixture
async def client(runtime: Runtime, published: None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the copy's rankings over REST."""
    async with httpx.AsyncClient(base_url=f"{address(runtime)}/api/v1/sales", timeout=30) as opened:
        yield opened


def iso(moment: datetime) -> str:
    """2026-02-19T03:00:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


async def becomes(
    client: httpx.AsyncClient, path: str, name: str, want: Mapping[datetime, Entries], **query: str
) -> None:
    """Wait until REST serves exactly these entries for each of the windows."""
    for start, entries in want.items():

        async def served(start: datetime = start, entries: Entries = entries) -> bool:
            answer = await client.get(path, params={"window": iso(start), **query})
            if answer.status_code != 200:
                return False
            body = json.loads(answer.text, parse_float=Decimal)
            return [(e["rank"], e[name], e["totalSales"], e["transactionCount"]) for e in body["rankings"]] == entries

        await until(served, f"{path} {query} of {iso(start)} is {entries}", DEADLINE_S)


async def test_days_of_a_time_zone_are_served_beside_hours(client: httpx.AsyncClient) -> None:
    """Every ranking of every local day and every hour is served as plain Python recomputes it, to the cent."""
    assert BORDER.hour == 3  # Sao Paulo has been three hours behind UTC all year since 2019
    days = ranked("city", local_day)
    assert len(days) == DAYS
    await becomes(client, "/top-by-city", "city", days, length="1d")
    for country in ("BR", "PT"):
        of_country = ranked("salesman_name", local_day, country)
        await becomes(client, "/top-salesman", "salesmanName", of_country, length="1d", country=country)
    await becomes(client, "/top-by-city", "city", ranked("city", oracle.hour_of))

    newest = (await client.get("/top-by-city", params={"length": "1d"})).json()["window"]
    start = max(days)
    assert newest == {"start": iso(start), "end": iso(start + timedelta(days=1))}
    rejected = await client.get("/top-by-city", params={"length": "7d"})
    assert rejected.status_code == 422
    assert rejected.json()["detail"].endswith("1h, 1d")


async def test_midnight_in_sao_paulo_is_the_border_of_days(client: httpx.AsyncClient) -> None:
    """A sale at 02:59:59.999Z belongs to the day before, one at 03:00Z to the next; explain lists just that one."""
    for start, sale_id in ((BORDER - timedelta(days=1), "before"), (BORDER, "after")):
        day = ranked("city", local_day)[start]
        await becomes(client, "/top-by-city", "city", {start: day}, length="1d")
        query = {"ranking": "city", "name": "Fronteira", "length": "1d", "window": iso(start)}
        answer = (await client.get("/explain", params=query)).json()
        assert [sale["saleId"] for sale in answer["sales"]] == [sale_id]
        assert (answer["window"]["start"], answer["transactionCount"]) == (iso(start), 1)


async def test_the_audit_agrees_on_every_length(runtime: Runtime, client: httpx.AsyncClient) -> None:
    """The audit recomputes hours and local days of every ranking, countries too, and finds nothing that differs."""
    days = ranked("city", local_day)
    await becomes(client, "/top-by-city", "city", days, length="1d")
    hours = {oracle.hour_of(change.event_time) for change in history() if not change.deleted}
    left_by_all = hours - set(ranked("city", oracle.hour_of))
    assert left_by_all
    await becomes(client, "/top-by-city", "city", {start: [] for start in left_by_all})
    records = [change.record() for change in history()]
    expected = [*oracle.expected(records).values(), *oracle.expected(records, local_day).values()]
    entries = sum(map(len, [*expected, *ranked("country", oracle.hour_of).values()]), start=0)
    entries += sum(map(len, ranked("country", local_day).values()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools", "audit", "--settle", "60"),
        cwd=runtime.root,
        env=dict(runtime.env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(DEADLINE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert f"{len(hours) + len(days)} windows, {entries} entries equal" in out.decode()


def test_a_ranking_is_one_row_and_one_contract(tree: Path) -> None:
    """Nothing else of the tree differs."""
    ours, theirs = source_files(ROOT), source_files(tree)
    assert {name for name in ours if theirs[name] != ours[name]} == {"contracts/rankings.py"}
    assert {"/".join(name.split("/")[:3]) for name in theirs if name not in ours} == {
        "contracts/topics/rankings.country"
    }


@pytest.mark.parametrize(("length", "start_of"), [("1h", oracle.hour_of), ("1d", local_day)])
async def test_a_further_ranking_is_published(runtime: Runtime, published: None, length: str, start_of: Start) -> None:
    """The last set of each window under the ranking's topic is right, in the published schema."""
    topic = "rankings.country" if length == LENGTHS[0] else f"rankings.country.{length}"
    want = ranked("country", start_of)
    last: dict[datetime, Entries] = {}
    decoder = codec.Decoder(registry_of(runtime), catalogue()["rankings.product"])
    consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()

        async def right() -> bool:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    value: dict[str, Any] = await decoder.decode(record.value)
                    assert record.key.decode() == iso(value["window_start"])
                    assert (value["ranking"], value["country"]) == ("country", "")
                    assert value["window_end"] - value["window_start"] == timedelta(hours=24 if length == "1d" else 1)
                    last[value["window_start"]] = [
                        (entry["rank"], entry["name"], entry["total_sales"], entry["transaction_count"])
                        for entry in value["entries"]
                    ]
            return {start: entries for start, entries in last.items() if entries} == want

        await until(right, f"{topic} is what plain Python recomputes", DEADLINE_S)
    finally:
        await consumer.stop()
    assert await registry_of(runtime).get_versions(f"{topic}-value") == [1]


@pytest.mark.parametrize(("length", "start_of"), [("1h", oracle.hour_of), ("1d", local_day)])
async def test_a_further_ranking_is_served_and_explained(
    client: httpx.AsyncClient, length: str, start_of: Start
) -> None:
    """REST has it from ClickHouse under the row's path, and the sales of each rank add up to it."""
    want = ranked("country", start_of)
    await becomes(client, "/top-countries", "country", want, length=length)
    start, entries = max(want.items())
    for _, name, total, count in entries:
        query = {"ranking": "country", "name": name, "length": length, "window": iso(start), "limit": "500"}
        answer = await client.get("/explain", params=query)
        assert answer.status_code == 200, answer.text
        body = json.loads(answer.text, parse_float=Decimal)
        assert (body["totalSales"], body["transactionCount"]) == (total, count)
        assert {sale["country"] for sale in body["sales"]} == {name}


@pytest.mark.parametrize(("length", "start_of"), [("1h", oracle.hour_of), ("1d", local_day)])
async def test_a_further_ranking_is_streamed(runtime: Runtime, published: None, length: str, start_of: Start) -> None:
    """The WebSocket sends the newest window's set, of this ranking alone."""
    start, entries = max(ranked("country", start_of).items())
    url = f"{address(runtime)}{PATH}?rankings=country&length={length}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket, asyncio.timeout(DEADLINE_S):
        async for message in socket:
            frame = json.loads(message.data, parse_float=Decimal)
            sets = frame.get("sets", [frame["set"]] if "set" in frame else [])
            assert {one["ranking"] for one in sets} <= {"country"}
            for one in sets:
                shown = [(e["rank"], e["country"], e["totalSales"], e["transactionCount"]) for e in one["rankings"]]
                if (one["window"]["start"], shown) == (iso(start), entries):
                    return
    raise AssertionError("the stream ended")


async def test_a_further_ranking_is_on_the_page(runtime: Runtime) -> None:
    """The page has its name, its field, its titles in both languages, and a link to its REST address."""
    async with httpx.AsyncClient(base_url=address(runtime), timeout=30) as opened:
        page = (await opened.get("/")).text
    for text in ('"name": "country"', '"field": "country"', "Top countries", "Melhores países", "/sales/top-countries"):
        assert text in page
