"""The page of the live API in a real Chromium; real Kafka and ClickHouse."""

import itertools
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, Locator, Page, expect

from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Encoder
from contracts.rankings import BY_NAME, RANKINGS
from contracts.time import instant
from services.clickhouse_sink.transform import rows
from tests import browser as browsers
from tests.browser import assert_accessible, assert_fits
from tests.conftest import SCREENSHOTS
from tests.connected.serving import Database, database, ranking_set, service
from tests.connected.streams import Servers, free_port, until
from tests.connected.unit_process import UnitProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEARTBEAT_S = 2
PHONE = {"width": 360, "height": 740}
CITIES = (
    ("São Paulo", "184230.55", 412),
    ("Rio de Janeiro", "151008.10", 355),
    ("Belo Horizonte", "98412.00", 240),
    ("Curitiba", "87990.45", 201),
    ("Porto Alegre", "80112.32", 188),
    ("Salvador", "74005.99", 163),
    ("Brasília", "66120.00", 149),
    ("Florianópolis", "51873.21", 122),
    ("Recife", "43500.75", 98),
    ("Fortaleza", "38017.40", 91),
)
PEOPLE = (
    ("Ana Beatriz Souza", "61230.55", 98),
    ("João Pedro Almeida", "52008.10", 85),
    ("Mariana Ferreira", "48412.00", 80),
    ("Lucas Gabriel Santos", "37990.45", 61),
    ("Camila Rodrigues", "30112.32", 58),
)
PRODUCTS = (
    ("Laptop", "91230.50", 31),
    ("GPU", "80118.00", 22),
    ("Monitor", "40412.90", 44),
    ("Headset", "12990.45", 97),
)
Entry = tuple[str, str, int]

# Newer than every other window in the topics, which all connected tests share.
_hours = (datetime(2090, 1, 1, 12, tzinfo=UTC) + timedelta(hours=n) for n in itertools.count())


@pytest.fixture
def hour() -> datetime:
    """The start of a window of the test's own; the newest that there is."""
    return next(_hours)


def ranked(ranking: str, start: datetime, revision: int, entries: Sequence[Entry], status: str) -> dict[str, Any]:
    """A set with these names, totals and counts, built now."""
    country = "BR" if BY_NAME[ranking].per_country else ""
    made = ranking_set(f"rankings.{ranking}", start, revision, [], country=country, status=status)
    made["as_of"] = datetime.now(UTC).replace(microsecond=0)
    made["entries"] = [
        {"rank": rank, "name": name, "total_sales": Decimal(total), "transaction_count": count}
        for rank, (name, total, count) in enumerate(entries, 1)
    ]
    return made


@dataclass
class Scene:
    """An API over real servers, a browser, and what publishes rankings as the job and the sink do."""

    browser: Browser
    api: UnitProcess
    environment: Mapping[str, str]
    db: Database
    producer: AIOKafkaProducer
    encoders: Mapping[str, Encoder]

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.environment['API_PORT']}/"

    async def publish(
        self,
        start: datetime,
        revision: int,
        cities: Sequence[Entry],
        people: Sequence[Entry],
        status: str = "provisional",
    ) -> None:
        """A revision of every ranking, in ClickHouse and in the topics."""
        sets = [
            ranked(ranking, start, revision, entries, status)
            for ranking, entries in (("city", cities), ("salesman", people), ("product", PRODUCTS))
        ]
        await self.store(sets)
        await self.announce(sets)

    async def store(self, sets: Sequence[dict[str, Any]]) -> None:
        """Put ranking sets into ClickHouse."""
        for one in sets:
            await self.db.write(BY_NAME[one["ranking"]].topic, one)

    async def announce(self, sets: Sequence[dict[str, Any]]) -> None:
        """Publish ranking sets to their topics."""
        for one in sets:
            ranking = BY_NAME[one["ranking"]]
            key = instant(one["window_start"]) + ("/BR" if ranking.per_country else "")
            await self.producer.send_and_wait(ranking.topic, self.encoders[ranking.topic](one), key=key.encode())

    @asynccontextmanager
    async def page(
        self, name: str, *, at: str = "", tolerated: Sequence[str] = (), **context: Any
    ) -> AsyncIterator[Page]:
        """The page in a session of its own; see browser.opened."""
        async with browsers.opened(self.browser, self.url + at, name, tolerated=tolerated, **context) as page:
            yield page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(servers: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One API and one browser for all tests here: each has a window of its own."""
    reached = Servers(servers)
    more = {
        "API_PORT": str(free_port()),
        "API_LIVE_HEARTBEAT_S": str(HEARTBEAT_S),
    }
    producer = AIOKafkaProducer(bootstrap_servers=reached.kafka.bootstrap)
    await producer.start()
    try:
        encoders = {one.topic: await codec.encoder(reached.client, catalogue()[one.topic]) for one in RANKINGS}
        async with database(servers) as db, browsers.chromium() as browser:
            environment = {**servers, **more, "CLICKHOUSE_DB": db.settings.db}
            folder = tmp_path_factory.mktemp("page")
            async with service("api", environment, folder) as process:
                await until(process.ready, "the API is ready")
                yield Scene(browser, process, environment, db, producer, encoders)
    finally:
        await producer.stop()


def section(page: Page, ranking: str) -> Locator:
    """A ranking's section."""
    return page.locator(f'[data-ranking="{ranking}"]')


def row(page: Page, name: str) -> Locator:
    """A name's row."""
    return page.get_by_role("row").filter(has=page.get_by_role("button", name=name, exact=True))


def names(page: Page, ranking: str) -> Locator:
    """The names in the order in which they are shown."""
    return section(page, ranking).locator("tbody .name button")


def of(entries: Sequence[Entry]) -> list[str]:
    """Their names."""
    return [name for name, _, _ in entries]


async def test_renders(scene: Scene, hour: datetime) -> None:
    """Every ranking is there with names in order, totals to the last cent, window, status and freshness."""
    cities = [("São Paulo", "9999999999999999.99", 3), *CITIES[1:]]
    await scene.publish(hour, 1, cities, PEOPLE, status="final")
    async with scene.page("light", viewport={"width": 1280, "height": 940}) as page:
        await expect(names(page, "city")).to_have_text(of(cities))
        await expect(names(page, "salesman")).to_have_text(of(PEOPLE))
        await expect(row(page, "São Paulo")).to_contain_text("R$9,999,999,999,999,999.99")
        await expect(row(page, "São Paulo")).to_contain_text("3 sales")
        await expect(section(page, "city").locator(".status summary")).to_have_text("Final")
        await expect(section(page, "city").locator(".caption")).to_contain_text(
            f"{hour:%Y}, {hour - timedelta(hours=3):%I:00} "
        )
        await expect(section(page, "city").locator(".as-of")).to_contain_text("as of ")
        await expect(page.locator("#live")).to_have_attribute("data-phase", "live")
        await expect(names(page, "product")).to_have_text(of(PRODUCTS))
        await expect(page.locator(".ranking")).to_have_count(len(RANKINGS))
        boxes = [await section(page, ranking.name).bounding_box() for ranking in RANKINGS]
        corners = [(box["y"], box["x"]) for box in boxes if box is not None]
        assert len(corners) == len(RANKINGS)
        assert {top for top, _ in corners} == {corners[0][0]}  # side by side, in the table's order
        assert corners == sorted(corners)
        await assert_accessible(page)


async def test_a_change_is_shown(scene: Scene, hour: datetime) -> None:
    """A new revision moves rows and bars, marks ranks and amounts that changed, and is announced to screen readers."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    async with scene.page("change", viewport={"width": 1280, "height": 940}) as page:
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await page.evaluate(
            "window.moved = new Set(); new MutationObserver(() => document.getAnimations().forEach("
            "(a) => window.moved.add(a.effect.target.textContent + (a.effect.pseudoElement ?? ''))))"
            ".observe(document.querySelector('tbody'), { childList: true })"
        )
        await row(page, "Salvador").get_by_role("button").focus()
        changed = [("Curitiba", "190000.00", 202), CITIES[0], ("Natal", "160000.00", 1), *CITIES[1:3], *CITIES[4:9]]
        await scene.publish(hour, 2, changed, PEOPLE)
        await expect(names(page, "city")).to_have_text(of(changed))
        await expect(row(page, "Curitiba").locator(".move")).to_have_text("▲3")
        await expect(row(page, "São Paulo").locator(".move")).to_have_text("▼1")
        await expect(row(page, "Natal").locator(".move")).to_have_text("new")
        await expect(row(page, "Curitiba").locator(".delta")).to_have_text("+R$102,009.55")
        await expect(page.locator("#news")).to_have_text(
            "Top cities: Curitiba leads with R$190,000.00; Curitiba rises to 1; Natal rises to 3"
        )
        await expect(row(page, "Salvador").get_by_role("button")).to_be_focused()
        assert await page.evaluate(
            "[...window.moved].some((text) => text.includes('Recife') && text.includes('::before'))"
        )
        await scene.publish(hour, 3, [("Curitiba", "100000.00", 201), *changed[1:]], [])
        await expect(row(page, "Curitiba").locator(".delta")).to_have_text("-R$90,000.00")
        await expect(section(page, "salesman").locator(".empty")).to_contain_text("No sales in this window yet.")


async def test_still(scene: Scene, hour: datetime) -> None:
    """Who wants less motion sees the new order at once."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    async with scene.page("still", reduced_motion="reduce") as page:
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await scene.publish(hour, 2, [*CITIES[5:], *CITIES[:5]], PEOPLE)
        await expect(names(page, "city")).to_have_text([*of(CITIES[5:]), *of(CITIES[:5])])
        moving = (
            "document.getAnimations().filter((a) => a.effect.getKeyframes().some((k) => k.transform || k.width)).length"
        )
        assert await page.evaluate(moving) == 0


async def test_survives_an_api_restart(scene: Scene, hour: datetime) -> None:
    """The page says that it reconnects, comes back by itself, and shows what changed while the API was unavailable."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    rejected = ("WebSocket connection to", "net::ERR")
    async with scene.page("restarted", tolerated=rejected) as page:
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await page.evaluate("window.unchanged = true")
        await scene.api.end()
        await expect(page.locator("#live")).not_to_have_attribute("data-phase", "live")
        await expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        await expect(page.locator("html")).to_have_class("stale")
        await page.screenshot(path=SCREENSHOTS / "stale.png")
        await scene.publish(hour, 2, CITIES[1:], PEOPLE[1:])
        await scene.api.start()
        await expect(names(page, "city")).to_have_text(of(CITIES[1:]))
        await expect(names(page, "salesman")).to_have_text(of(PEOPLE[1:]))
        await expect(page.locator("#live")).to_have_attribute("data-phase", "live")
        await expect(page.locator("html")).not_to_have_class("stale")
        await expect(page.get_by_role("alert")).to_be_hidden()
        assert await page.evaluate("window.unchanged")
        await scene.publish(hour, 3, CITIES[2:], PEOPLE)
        await expect(names(page, "city")).to_have_text(of(CITIES[2:]))


async def test_a_silent_api_turns_the_page_grey(scene: Scene, hour: datetime) -> None:
    """Connected to an API that says nothing for two heartbeats the page loses its colour, and gets it back."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    async with scene.page("silent", tolerated=("WebSocket connection to",)) as page:
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await page.wait_for_load_state("networkidle")  # the list of windows is there: a stopped API answers too late
        os.kill(scene.api.pid, signal.SIGSTOP)
        try:
            await expect(page.locator("html")).to_have_class("stale")
            await expect(page.locator("#live summary")).to_have_text("Not up to date")
            await expect(page.locator(".rankings")).to_have_css("filter", re.compile(r"grayscale\(1\)"))
        finally:
            os.kill(scene.api.pid, signal.SIGCONT)
        await expect(page.locator("html")).not_to_have_class("stale")
        await expect(page.locator("#live")).to_have_attribute("data-phase", "live")


def sales(start: datetime, count: int) -> Iterator[dict[str, Any]]:
    """Sales of Recife, in the window."""
    for number in range(count):
        yield {
            "sale_id": f"page-{number}",
            "source": ("files", "legacy", "postgres")[number % 3],
            "salesman_name": "Ana Beatriz Souza",
            "city": "Recife",
            "country": "BR",
            "amount": Decimal("9999999999999.99") if number == 0 else Decimal(number),
            "product": "Headset",
            "event_time": start + timedelta(seconds=number),
            "ingestion_time": start,
            "version": 1,
            "deleted": False,
        }


async def test_a_rank_explains_itself(scene: Scene, hour: datetime) -> None:
    """A click on a rank shows the sales behind it, page after page, on a screen of any size."""
    plan = scene.db.plans["sales.unified"]
    of_recife = [row for sale in sales(hour, 60) for row in rows(plan, sale)]
    await scene.db.store.insert(plan.mapping.table, plan.columns, of_recife)
    await scene.publish(hour, 1, [("Recife", "10000000001769.99", 60), ("Natal", "1.00", 1)], PEOPLE)
    async with scene.page("explain", viewport={"width": 1000, "height": 800}) as page:
        await row(page, "Recife").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_have_text("1. Recife")
        await expect(dialog.locator(".sum")).to_have_text("R$10,000,000,001,769.99 in 60 sales")
        await expect(dialog.locator("tbody tr")).to_have_count(50)
        await expect(dialog.locator("tbody tr").first).to_contain_text("R$9,999,999,999,999.99")
        await expect(dialog.locator(".state")).to_have_text("50 of 60 shown")
        await assert_accessible(page)
        await dialog.get_by_role("button", name="Show more").click()
        await expect(dialog.locator("tbody tr")).to_have_count(60)
        await expect(dialog.get_by_role("button", name="Show more")).to_be_hidden()
        await page.set_viewport_size({"width": 360, "height": 740})
        await assert_fits(page)
        await page.screenshot(path=SCREENSHOTS / "explain-phone.png")
        await dialog.get_by_role("button", name="Close").click()
        await expect(dialog).to_be_hidden()


async def test_a_rank_without_sales(scene: Scene, hour: datetime) -> None:
    """Where a rank's sales are gone the dialog says so."""
    await scene.publish(hour, 1, [("Natal", "1.00", 1)], PEOPLE)
    async with scene.page("explain-gone", tolerated=("404",)) as page:
        await row(page, "Natal").click()
        await expect(page.get_by_role("dialog")).to_contain_text("There is no sale of Natal in this window any more.")


async def test_windows_of_the_past(scene: Scene, hour: datetime) -> None:
    """Another window is picked, stepped to and linked to; it is followed too, and the newest is a click away."""
    before, newest = next(_hours), next(_hours)
    await scene.publish(hour, 1, CITIES[5:], PEOPLE, status="final")
    await scene.publish(before, 1, CITIES[3:], PEOPLE, status="final")
    await scene.publish(newest, 1, CITIES, PEOPLE)
    async with scene.page("past") as page:
        await expect(names(page, "city")).to_have_text(of(CITIES))
        picker = page.locator("#windows select")
        await expect(picker.locator(f'option[value="{instant(hour)}"]')).to_have_count(1)
        await page.get_by_role("button", name="Previous window").click()
        await expect(names(page, "city")).to_have_text(of(CITIES[3:]))
        await picker.select_option(instant(hour))
        await expect(names(page, "city")).to_have_text(of(CITIES[5:]))
        await scene.publish(hour, 2, CITIES[6:], PEOPLE, status="corrected")
        await expect(names(page, "city")).to_have_text(of(CITIES[6:]))
        await expect(section(page, "city").locator(".status summary")).to_have_text("Corrected")
        await page.reload()
        await expect(names(page, "city")).to_have_text(of(CITIES[6:]))
        await expect(picker).to_have_value(instant(hour))
        await page.get_by_role("button", name="Next window").click()
        await expect(names(page, "city")).to_have_text(of(CITIES[3:]))
        await page.get_by_role("button", name="Back to live").click()
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await scene.publish(next(_hours), 1, CITIES[1:], PEOPLE)
        await expect(names(page, "city")).to_have_text(of(CITIES[1:]))


async def test_a_window_that_is_announced_before_it_is_stored(scene: Scene, hour: datetime) -> None:
    """The windows to pick follow also where the live stream is ahead of ClickHouse."""
    before, newest = hour, next(_hours)
    await scene.publish(before, 1, CITIES[3:], PEOPLE)
    async with scene.page("ahead") as page:
        await expect(names(page, "city")).to_have_text(of(CITIES[3:]))
        sets = [ranked(ranking.name, newest, 1, CITIES, "provisional") for ranking in RANKINGS]
        await scene.announce(sets)
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await scene.store(sets)
        await expect(page.locator(f'#windows option[value="{instant(newest)}"]')).to_have_count(1)
        await page.get_by_role("button", name="Previous window").click()
        await expect(names(page, "city")).to_have_text(of(CITIES[3:]))


async def test_portuguese_dark_and_remembered(scene: Scene, hour: datetime) -> None:
    """A Brazilian browser gets a page in Portuguese, a dark system gets a dark page; choices outlast a reload."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    wide = {"width": 1280, "height": 940}
    async with scene.page("dark", locale="pt-BR", color_scheme="dark", viewport=wide) as page:
        dark = await page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor")
        await expect(page.locator("html")).to_have_attribute("lang", "pt-BR")
        await expect(page.get_by_role("heading", level=2).first).to_have_text("Melhores cidades")
        await expect(row(page, "São Paulo")).to_contain_text("R$\xa0184.230,55")
        await expect(row(page, "São Paulo")).to_contain_text("412 vendas")
        await assert_accessible(page)
        await page.get_by_role("button", name="English").click()
        await page.get_by_role("button", name="Switch to the light theme").click()
        await page.reload()
        await expect(page.get_by_role("heading", level=2).first).to_have_text("Top cities")
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        assert await page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor") != dark
        await page.get_by_role("button", name="Switch to the dark theme").click()
        assert await page.evaluate("localStorage.getItem('placar.theme')") is None  # as the system has it


async def test_below_a_path_with_a_token(
    scene: Scene, hour: datetime, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Below a path the page works as at the root; where a token is needed it asks, and keeps it for the session."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    port, token = free_port(), "0123456789abcdef"
    more = {"API_PORT": str(port), "API_ROOT_PATH": "/sales/placar", "API_LIVE_TOKEN": token}
    environment = {**scene.environment, **more}
    async with service("api", environment, tmp_path_factory.mktemp("below")) as process:
        await until(process.ready, "the API is ready")
        url = f"http://127.0.0.1:{port}/sales/placar"
        tolerated = ("WebSocket connection to", "401", "404")
        async with browsers.opened(scene.browser, url, "token", tolerated=tolerated) as page:
            dialog = page.get_by_role("dialog", name="Token needed")
            await expect(dialog).to_be_visible()
            await expect(page.locator("#live summary")).to_have_text("Token needed")
            await assert_accessible(page)
            await dialog.get_by_label("Token", exact=True).fill("fedcba9876543210")
            await dialog.get_by_role("button", name="Connect").click()
            await expect(dialog).to_contain_text("does not accept this token")
            await dialog.get_by_label("Token", exact=True).fill(token)
            await page.keyboard.press("Enter")
            await expect(names(page, "city")).to_have_text(of(CITIES))
            await expect(page.locator(f'#windows option[value="{instant(hour)}"]')).to_have_count(1)
            await page.reload()
            await expect(names(page, "city")).to_have_text(of(CITIES))
            await expect(dialog).to_be_hidden()
            assert token not in await page.evaluate("JSON.stringify(localStorage)")
            await row(page, "Recife").click()  # has no sales: the answer comes from below the path all the same
            await expect(page.get_by_role("dialog")).to_contain_text("There is no sale of Recife")
            href = await page.get_by_role("link", name="API description", include_hidden=True).get_attribute("href")
            assert href == "/sales/placar/openapi.json"


async def test_phone(scene: Scene, hour: datetime) -> None:
    """On a small phone nothing is cut off or scrolls sideways, and everything is as accessible."""
    long = [("Vila Bela da Santíssima Trindade", "9999999999999999.99", 4_000_000), *CITIES[1:]]
    await scene.publish(hour, 1, long, PEOPLE)
    async with scene.page("phone", viewport=PHONE, device_scale_factor=2, has_touch=True, locale="pt-BR") as page:
        await expect(names(page, "city")).to_have_text(of(long))
        await assert_fits(page)
        await assert_accessible(page)


async def test_keyboard(scene: Scene, hour: datetime) -> None:
    """Everything is reached with Tab, opened with Enter and left with Escape, which gives the focus back."""
    await scene.publish(hour, 1, CITIES, PEOPLE)
    hour = next(_hours)
    await scene.publish(hour, 1, CITIES, PEOPLE)
    async with scene.page("keyboard", tolerated=("404",)) as page:  # these ranks have no sales
        await expect(names(page, "city")).to_have_text(of(CITIES))
        await expect(page.get_by_role("button", name="Previous window")).to_be_enabled()
        reached = [""]
        while reached[-1] != "Rio de Janeiro" and len(reached) < 20:
            await page.keyboard.press("Tab")
            label = "document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()"
            reached.append(await page.evaluate(label))
        assert reached[1:5] == ["Skip to the rankings", "Português", "English", "Switch to the dark theme"]
        assert reached[5:] == ["Previous window", "Window", "Connected", "Provisional", "São Paulo", "Rio de Janeiro"]
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("2. Rio de Janeiro")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(row(page, "Rio de Janeiro").get_by_role("button")).to_be_focused()
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        why = section(page, "city").locator(".status p")
        await expect(why).to_contain_text("This window is still open")
        await page.keyboard.press("Escape")
        await expect(why).to_be_hidden()
        await expect(section(page, "city").locator(".status summary")).to_be_focused()
