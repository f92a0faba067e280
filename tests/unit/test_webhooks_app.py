"""The composition of the webhook receiver: what ends it, and what it tells lineage."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from chassis import logs
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from contracts.codec import ContractError
from contracts.webhooks import TOPICS
from services.webhooks import app
from services.webhooks.app import EVENTS, datasets, main
from services.webhooks.metrics import METRICS
from services.webhooks.settings import WebhooksSettings
from tests.connected.streams import free_port


def started() -> tuple[asyncio.Task[None], int]:
    """The receiver on a port of its own."""
    port = free_port()
    unit = Unit("webhooks", logs.configure("webhooks", "error"), Metrics("webhooks", METRICS), Readiness())
    return asyncio.create_task(main(unit, WebhooksSettings(port=port))), port


def publishing(monkeypatch: pytest.MonkeyPatch, until: Callable[[], object]) -> None:
    """Let the part that connects and publishes do this instead."""

    async def publish(*_: object) -> None:
        until()
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "_publish", publish)


async def test_an_error_of_the_publishing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised as it is, so that it ends the process with one line."""

    def fail() -> None:
        raise ContractError("run `task contracts:publish`")

    publishing(monkeypatch, fail)
    work, _ = started()
    with pytest.raises(ContractError, match="contracts:publish"):
        async with asyncio.timeout(10):
            await work


async def test_it_serves_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers before the broker was reached, and nothing of it is left after it was cancelled."""
    publishing(monkeypatch, lambda: None)
    before = asyncio.all_tasks()
    work, port = started()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/health")).status_code == 503
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await work
    assert asyncio.all_tasks() <= before


def test_lineage_leads_from_every_provider_to_every_topic() -> None:
    """Each provider is where events come from, each topic is where they go, with the count of what went there."""
    told = datasets(WebhooksSettings(public_url="https://hooks.example.com"))
    assert [(one.namespace, one.name) for one in told.inputs] == [
        ("https://hooks.example.com", f"webhooks/{provider}") for provider in TOPICS
    ]
    assert {one.name for one in told.outputs} == {*EVENTS, "sales.dlq"} == set(told.counted)
