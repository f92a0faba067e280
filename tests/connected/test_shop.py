"""The simulated providers against the real receiver, broker and ClickHouse."""

import asyncio
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from chassis.errors import NotDoneError
from contracts.webhooks import OTHER, PRIVACY, SECRETS, TOPICS
from services.clickhouse_sink.transform import rows
from streams.shopify.agents import agent as shopify
from streams.shopify.settings import Settings as ShopifySettings
from streams.stripe.agents import agent as stripe
from streams.stripe.settings import Settings as StripeSettings
from tests.connected.commands import process
from tests.connected.serving import Database, database
from tests.connected.streams import Servers, free_port, unique, unit_in_process, until
from tests.connected.unit_process import UnitProcess, unit_process
from tests.runtime import ROOT
from tools.traffic.shop.check import check
from tools.traffic.shop.delivery import Delivery, plan
from tools.traffic.shop.history import history
from tools.traffic.shop.model import outcome
from tools.traffic.shop.sender import Sender
from tools.traffic.shop.settings import WebhooksSettings

EVENT_TOPICS = (*(topic for kinds in TOPICS.values() for topic in kinds.values()), OTHER, PRIVACY)
PROVIDERS = tuple(TOPICS)


def environment(servers: Mapping[str, str], **more: str) -> dict[str, str]:
    """Of a receiver on a port of its own, with two secrets of each provider."""
    secrets = {name: f"new-{name},old-{name}" for name in SECRETS.values()}
    return {**servers, "WEBHOOKS_PORT": str(free_port()), **secrets, **more}


def settings_of(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> WebhooksSettings:
    """The settings of a sender to that receiver."""
    for name in ("WEBHOOKS_PORT", *SECRETS.values()):
        monkeypatch.setenv(name, env[name])
    return WebhooksSettings()


def deliveries(seed: int, orders: int) -> list[Delivery]:
    """A plan of a history that ended lately."""
    start = datetime.now(UTC) - timedelta(days=7)
    return plan(history(seed, people=10, orders=orders, start=start).events, seed)


def seed() -> int:
    """A seed of this test's own: the topics are shared."""
    return time.time_ns()


async def arrived(
    servers: Mapping[str, str],
    env: Mapping[str, str],
    log: Path,
    planned: list[Delivery],
    send: Callable[[UnitProcess], Awaitable[None]],
) -> dict[str, list[Any]]:
    """Let `send` send the plan to a started receiver; returns the records of each event by its identity."""
    reached = Servers(servers)
    async with reached.published(*EVENT_TOPICS) as (published, read):
        async with unit_process("services.webhooks", env, log, wait=True) as receiver:
            await send(receiver)
        ids = {event.event_id for delivery in planned for event in delivery.events}
        found: dict[str, list[Any]] = {}

        async def complete() -> bool:
            await read()
            found.clear()
            for topic, key, value in published.records:
                if value["event_id"] in ids:
                    found.setdefault(value["event_id"], []).append((topic, key, value))
            return set(found) == ids

        await until(complete, "every event is in a topic")
        return found


async def test_every_event_arrives_as_it_was_sent(
    servers: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the plan repeats, delays or signs with which secret: each event is in its topic, byte for byte."""
    planned, env = deliveries(seed(), 60), environment(servers)

    async def send(_: UnitProcess) -> None:
        async with Sender(settings_of(env, monkeypatch), PROVIDERS) as sender:
            await sender.send(planned)

    found = await arrived(servers, env, tmp_path / "log", planned, send)
    times = Counter(event.event_id for delivery in planned for event in delivery.events)
    kinds = {thing: topic for of in TOPICS.values() for thing, topic in of.items()}
    for event in (event for delivery in planned for event in delivery.events):
        assert len(found[event.event_id]) == times[event.event_id]
        for topic, key, value in found[event.event_id]:
            assert (value["provider"], value["event_type"]) == (event.provider, event.event_type)
            assert (value["occurred_at"], value["api_version"]) == (event.occurred_at, event.api_version)
            if value["attempt"] in (None, 1):
                assert value["body"] == event.body
            if topic in kinds.values():
                assert key == event.object_id.encode()


async def test_a_killed_receiver_loses_nothing(
    servers: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while deliveries are under way and started again, it has every event once all are acknowledged."""
    planned, env = deliveries(seed(), 60), environment(servers)

    async def send(receiver: UnitProcess) -> None:
        async with Sender(settings_of(env, monkeypatch), PROVIDERS) as sender:
            sending = asyncio.create_task(sender.send(planned))
            await until(lambda: taken(receiver), "some are acknowledged")
            await receiver.end(signal.SIGKILL)
            assert not sending.done()
            await receiver.start()
            await sending

    await arrived(servers, env, tmp_path / "log", planned, send)


async def taken(receiver: UnitProcess) -> bool:
    """Whether the receiver has acknowledged a request."""
    samples = await receiver.samples()
    return any("placar_webhook_requests_total" in name and value > 0 for name, value in samples.items())


@asynccontextmanager
async def answering(port: int, *statuses: int) -> AsyncIterator[Counter[str]]:
    """A receiver that answers each event with these statuses in turn, the last one for ever; counts bodies."""
    posted: Counter[str] = Counter()

    async def post(request: web.Request) -> web.Response:
        body = await request.text()
        posted[body] += 1
        return web.Response(status=statuses[min(posted[body], len(statuses)) - 1], text="because")

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/health", health), web.post("/webhooks/{path:.*}", post)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield posted
    finally:
        await runner.cleanup()


async def test_what_is_not_acknowledged_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 and a 500 are followed by the same payload again, until it is acknowledged."""
    env = environment({})
    events = history(5, people=3, orders=5, start=datetime(2026, 2, 19, tzinfo=UTC)).events
    planned = [Delivery(event.provider, (event,), event.occurred_at) for event in events if event.provider == "stripe"]
    settings = settings_of(env, monkeypatch)
    async with answering(settings.port, 503, 500, 200) as posted, Sender(settings, PROVIDERS) as sender:
        await sender.send(planned)
    assert posted == {event.body.decode(): 3 for event in events if event.provider == "stripe"}


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, r"answered 401: because \(are secrets"), (503, r"took no webhook for 1 s.*answered 503: because")],
)
async def test_a_receiver_that_takes_nothing_ends_it(
    monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    """A rejection ends it at once, a receiver that stays unavailable at the deadline; the message has its answer."""
    env, planned = environment({}), deliveries(5, 2)
    settings = settings_of(env, monkeypatch)
    async with answering(settings.port, status), Sender(settings, PROVIDERS, deadline_s=1) as sender:
        with pytest.raises(NotDoneError, match=message):
            await sender.send(planned)


async def test_the_command_names_what_is_missing(servers: Mapping[str, str]) -> None:
    """Without a receiver, or without a secret, traffic ends with one line that names the setting."""
    env = environment(servers)
    chosen = ("traffic", "--sources", "shopify,stripe")
    nobody = await process("tools", env, *chosen)
    assert nobody.status == 2
    assert nobody.err.count("\n") == 1
    assert f"no webhook receiver at http://127.0.0.1:{env['WEBHOOKS_PORT']} (settings WEBHOOKS_" in nobody.err
    unset = await process("tools", {**env, "STRIPE_WEBHOOK_SECRETS": ""}, *chosen)
    assert (unset.status, unset.err.count("\n")) == (2, 1)
    assert "STRIPE_WEBHOOK_SECRETS is not set" in unset.err


async def test_traffic_sends_webhooks(servers: Mapping[str, str], tmp_path: Path) -> None:
    """As many webhooks as were wanted are acknowledged; nothing makes sales of them here, which the check says."""
    env = environment(servers)
    arguments = ("--sources", "shopify,stripe,hubspot", "--rate", "200", "--count", "400", "--check", "0")
    async with unit_process("services.webhooks", env, tmp_path / "log", wait=True) as receiver:
        run = await process("tools", env, "traffic", "--seed", str(seed() % 2**32), *arguments)
        samples = await receiver.samples()
    accepted = sum(
        value for name, value in samples.items() if "requests_total" in name and 'outcome="accepted"' in name
    )
    stopped = next(line for line in run.out.splitlines() if line.startswith("stopped; 400 in"))
    numbers = {provider: int(number) for provider, number in re.findall(r"(\w+) webhook (\d+)", stopped)}
    assert set(numbers) == set(PROVIDERS)
    assert sum(numbers.values()) == 400 == accepted, run.err
    assert run.status == 1
    assert re.search(r"\d+ sales of the simulated shop must be ranked.*differ$", run.out.splitlines()[-1])


@pytest.fixture
async def db(servers: Mapping[str, str]) -> AsyncIterator[Database]:
    """A database of the test's own."""
    async with database(servers) as made:
        yield made


async def test_stored_sales_are_checked(db: Database) -> None:
    """What is stored as it must be has no difference; another amount, or a payment that stayed a sale, is named."""
    events = history(9, people=20, orders=80, start=datetime(2026, 2, 19, tzinfo=UTC)).events
    due = outcome(events)
    stored: list[dict[str, Any]] = [
        {
            "sale_id": sale_id,
            "source": source,
            "salesman_name": sale.salesperson,
            "city": sale.city,
            "country": sale.country,
            "amount": sale.amount,
            "product": sale.product,
            "event_time": sale.event_time,
            "ingestion_time": sale.event_time,
            "version": 1,
            "deleted": False,
        }
        for (source, sale_id), sale in due.items()
        if sale is not None
    ]
    mapped = db.plans["sales.unified"]

    async def write(records: list[dict[str, Any]]) -> None:
        await db.store.insert(
            mapped.mapping.table, mapped.columns, [row for record in records for row in rows(mapped, record)]
        )

    await write(stored)
    assert await check(db.settings, due, 0) == []
    gone = next(key for key, sale in due.items() if sale is None)
    await write([{**stored[0], "amount": stored[0]["amount"] + 1, "version": 2}])
    await write([{**stored[0], "source": gone[0], "sale_id": gone[1]}])
    left = await check(db.settings, due, 0.1)
    assert sorted(line.split(" is ")[0] for line in left) == sorted(
        [f"{stored[0]['source']}:{stored[0]['sale_id']}", ":".join(gone)]
    )


async def test_what_traffic_sold_is_what_is_stored(servers: Mapping[str, str], db: Database, tmp_path: Path) -> None:
    """Through receiver, both streams services and the sink every sale ends as the shop has it; the check says so."""
    env = environment(servers, CLICKHOUSE_DB=db.settings.db, CLICKHOUSE_SINK_GROUP=unique("sink"))
    arguments = ("--rate", "200", "--count", "1500", "--seed", str(seed() % 2**32), "--check", "45")
    async with AsyncExitStack() as stack:
        for agent, name in ((shopify(ShopifySettings()), "shopify"), (stripe(StripeSettings()), "stripe")):
            await stack.enter_async_context(unit_in_process(Servers(servers), agent, unique(name)))
        for unit in ("clickhouse_sink", "webhooks"):
            process_of = unit_process(f"services.{unit}", env, tmp_path / f"{unit}.log", wait=True)
            await stack.enter_async_context(process_of)
        run = await process("tools", env, "traffic", "--sources", ",".join(PROVIDERS), *arguments)
    assert run.status == 0, (run.out[-3000:], run.err)
    assert re.fullmatch(
        r"[0-9]{2,} sales of the simulated shop must be ranked, [0-9]{2,} must not: all as it must be",
        run.out.splitlines()[-1],
    )


async def test_the_shop_lists_its_objects_over_http() -> None:
    """The command prints the addresses of its endpoints, answers on them, and ends at Ctrl-C."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools", "shop", "--seed", "7", "--start", "2026-02-19T10:00:00Z", "--port", "0",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    try:
        async with asyncio.timeout(60):
            urls = [(await started.stdout.readline()).decode().strip() for _ in range(3)]
            async with httpx.AsyncClient(trust_env=False) as client:
                answers = [(await client.get(url)).json() for url in urls]
    finally:
        started.send_signal(signal.SIGINT)
        await started.wait()
    assert [len(answer[name]) for answer, name in zip(answers, ("orders", "data", "results"), strict=True)] == [
        50, 10, 10,
    ]  # fmt: skip
