"""The operations dashboard in a real Chromium, over a real Prometheus."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import tenacity
from playwright.async_api import Locator, Page, expect

from tests.browser import assert_accessible, assert_fits, chromium, opened
from tests.conftest import SCREENSHOTS
from tests.connected.serving import service
from tests.connected.streams import forwarder, free_port, until
from tests.e2e.scrape import within

NOT_WELL = re.compile(r"^(warning|critical)$")


async def turns_of_the_clock(page: Page) -> AsyncIterator[tenacity.AttemptManager]:
    """Turns of at most a minute, after each of which the page believes that a quarter of a minute is over."""
    async for turn in within(60):
        yield turn
        await page.clock.fast_forward(15_000)


def panel(page: Page, title: str) -> Locator:
    """A panel of the dashboard."""
    return page.locator(".panel").filter(has=page.get_by_role("heading", name=title, exact=True))


async def test_dashboard(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Alerts link to the runbook, unknown values are unknown, and without Prometheus nothing is shown as well."""
    local, port = free_port(), str(free_port())  # Prometheus is reached at the local port while a forwarder is open
    environment = {**servers, "OPS_PORT": port, "PROMETHEUS_URL": f"http://127.0.0.1:{local}"}
    tall = {"width": 1280, "height": 2200}
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(service("ops", environment, tmp_path))
        await until(process.ready, "the dashboard is ready")
        browser = await stack.enter_async_context(chromium())
        opening = opened(browser, f"http://127.0.0.1:{port}/", "ops", tolerated=("503",), viewport=tall)
        page = await stack.enter_async_context(opening)
        async with forwarder(local, "127.0.0.1", int(servers["PROMETHEUS_PORT"])):
            await page.clock.install()
            await page.reload()
            # most of the pipeline does not run here: its processes are targets that are down
            targets = panel(page, "Targets")
            async for turn in turns_of_the_clock(page):
                with turn:
                    await expect(targets).to_have_attribute("data-state", NOT_WELL, timeout=2000)
            await expect(targets.locator(".number")).to_have_text(re.compile(r"^\d+ of \d+$"))
            await expect(targets.locator(".series").first).to_contain_text("alertmanager")
            await expect(targets.get_by_role("img")).to_have_attribute("aria-label", re.compile("^Last hour: between"))
            await expect(panel(page, "Disk free")).to_have_attribute("data-state", "unknown")
            await expect(panel(page, "Disk free")).to_contain_text("no data")
            await expect(page.locator("#verdict")).to_contain_text("alert")
            await assert_accessible(page)
            await page.screenshot(path=SCREENSHOTS / "ops-troubled.png")
            await page.set_viewport_size({"width": 360, "height": 740})
            await assert_fits(page)
            await page.screenshot(path=SCREENSHOTS / "ops-phone.png")
        async for turn in turns_of_the_clock(page):
            with turn:
                await expect(page.locator("#verdict")).to_contain_text("Unknown: Prometheus", timeout=2000)
        await expect(page.locator("html")).to_have_class("stale")
        await expect(page.locator(".panels").first).to_have_css("filter", re.compile(r"grayscale\(1\)"))
        await page.get_by_role("button", name="theme").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("link", name="What to do: TargetDown").first.click()
        await expect(page).to_have_url(re.compile(r"/runbook#targetdown$"))
        await expect(page.get_by_role("heading", name="TargetDown")).to_be_in_viewport()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await assert_accessible(page)
