"""Chromium for tests: Debian's own, driven by Playwright; pages may not complain, and screenshots are kept."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.conftest import SCREENSHOTS

PROGRAM = "/usr/bin/chromium"
WAIT_MS = 30_000  # a shared machine may be many times slower than one's own
ARGUMENTS = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A started browser without a window."""
    expect.set_options(timeout=WAIT_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser, url: str, name: str, *, tolerated: Sequence[str] = (), **context: Any
) -> AsyncIterator[Page]:
    """The page at `url` in a session of its own, with a screenshot `name` at the end, also of a failed test.

    Fails where the browser complained (errors, warnings, violations of the content security policy), except with
    messages that have one of the `tolerated` parts. `context` is what Playwright calls so: locale, viewport...
    """
    session = await browser.new_context(**({"timezone_id": "America/Sao_Paulo", "locale": "en-US"} | context))
    session.set_default_timeout(WAIT_MS)
    page = await session.new_page()
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} at {urlsplit(message.location['url']).path}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        await page.goto(url)
        yield page
    finally:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"{name}.png")
        await session.close()
    surprising = [text for text in complaints if not any(part in text for part in tolerated)]
    assert not surprising, surprising


async def assert_fits(page: Page) -> None:
    """Nothing is wider than the window."""
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def assert_accessible(page: Page) -> None:
    """axe-core finds nothing serious, once nothing moves any more."""
    await page.evaluate(
        "Promise.all(document.getAnimations().filter(a => a.effect.getTiming().iterations < 9).map(a => a.finished))"
    )
    violations = (await Axe().run(page)).response["violations"]
    serious = [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious
