"""`task bench:freshness`: how long a sale takes from its source to the REST answer and to a WebSocket.

Runs against the running pipeline. While `--rate` sales a second are committed in Postgres, or with `--source shopify`
are delivered as signed orders to the webhook receiver, one probe sale at a time goes into a window of its own, 20 days
back, and REST is asked every 50 ms until that window's total has grown by the probe. It counts from the commit, or from
the receiver's answer.
A WebSocket that subscribes to that window is read meanwhile; a token, where one is needed, is that of API_LIVE_TOKEN.
Prints p50, p95 and the maximum in seconds, of each.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import aiohttp
import asyncpg
import httpx
import orjson
import tenacity

from chassis.settings import PostgresSettings, load
from contracts.catalogue import catalogue
from contracts.webhooks import sign_shopify
from tools.traffic.shop.settings import WebhooksSettings

INSERT = (
    "INSERT INTO sales (salesman_id, salesman, city, country, amount, product, sale_date)"
    " SELECT id, name, $1, 'BR', $2, 'SSD', $3 FROM salesman ORDER BY id LIMIT 1"
)


Sell = Callable[[str, Decimal, datetime], Awaitable[None]]
"""Sells once, in a city, for an amount, at a time; returns when the source has the sale."""


def postgres(pool: asyncpg.Pool) -> Sell:
    """Sales that are committed, each in a transaction of its own."""

    async def sell(city: str, amount: Decimal, moment: datetime) -> None:
        await pool.execute(INSERT, city, amount, moment.replace(tzinfo=None))

    return sell


def shopify(client: httpx.AsyncClient) -> Sell:
    """Orders that the webhook receiver has acknowledged."""
    settings = load(WebhooksSettings)
    secret = settings.secrets("shopify")[0]
    example = json.loads(catalogue()["shopify.orders"].examples()["created"]["body"].encode("latin-1"))
    ids = count(time.time_ns() // 1000)

    async def sell(city: str, amount: Decimal, moment: datetime) -> None:
        order = {
            **example,
            "id": next(ids),
            "current_total_price": str(amount),
            "created_at": moment.isoformat(),
            "shipping_address": {"city": city, "country_code": "BR"},
        }
        body = json.dumps(order).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-Event-Id": f"bench-{order['id']}",
            "X-Shopify-Triggered-At": datetime.now(UTC).isoformat(),
            "X-Shopify-Hmac-Sha256": sign_shopify(secret, body),
        }
        answer = await client.post(f"{settings.url}/webhooks/shopify/orders", content=body, headers=headers)
        answer.raise_for_status()

    return sell


async def keep_selling(sell: Sell, rate: float) -> None:
    """Sell `rate` times a second at the current time until cancelled."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        await sell("Recife", Decimal("10.00"), datetime.now(UTC))
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))


async def total(client: httpx.AsyncClient, window: datetime, city: str) -> Decimal:
    """What REST says of the city in the window; 0 where it has no rank."""
    answer = await client.get("/api/v1/sales/top-by-city", params={"window": window.strftime("%Y-%m-%dT%H:%M:%SZ")})
    if answer.status_code == httpx.codes.NOT_FOUND:
        return Decimal(0)
    rankings = answer.raise_for_status().json(parse_float=Decimal)["rankings"]
    return next((Decimal(entry["totalSales"]) for entry in rankings if entry["city"] == city), Decimal(0))


class Socket:
    """The totals of one city in one window as a WebSocket tells them: when each was first there."""

    def __init__(self, city: str) -> None:
        self._city = city
        self._seen: dict[Decimal, float] = {}
        self._news = asyncio.Event()

    def take(self, text: str) -> None:
        """Note what a frame says of the city; cents are exact, as no total here needs more than 53 bits."""
        frame = orjson.loads(text)
        for one in [frame["set"]] if frame["type"] == "ranking" else frame.get("sets", ()):
            for entry in one["rankings"]:
                if entry["city"] == self._city:
                    total = Decimal(str(entry["totalSales"])).quantize(Decimal("0.01"))
                    self._seen.setdefault(total, time.monotonic())
        self._news.set()

    async def when(self, total: Decimal) -> float:
        """The moment at which the total was on the socket.

        Raises:
            TimeoutError: it is not within a minute.
        """
        async with asyncio.timeout(60):
            while total not in self._seen:
                self._news.clear()
                await self._news.wait()
        return self._seen[total]


@asynccontextmanager
async def socket(api_port: int, window: datetime, city: str) -> AsyncIterator[Socket]:
    """A socket that subscribes to cities in the window, read while the context lasts."""
    opened = Socket(city)
    token = os.environ.get("API_LIVE_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    parameters = {"rankings": "city", "windows": window.strftime("%Y-%m-%dT%H:%M:%SZ")}
    address = f"http://127.0.0.1:{api_port}/api/v1/sales/live"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(address, params=parameters) as connection,
    ):

        async def read() -> None:
            async for message in connection:
                opened.take(message.data)

        reading = asyncio.create_task(read())
        try:
            yield opened
        finally:
            reading.cancel()


async def probe(
    sell: Sell, client: httpx.AsyncClient, live: Socket, window: datetime, city: str
) -> tuple[float, float]:
    """Seconds from when the source has one sale until REST shows it, and until the socket told it."""
    before = await total(client, window, city)
    await sell(city, Decimal("1.00"), window + timedelta(minutes=1))
    committed = time.monotonic()
    async for attempt in tenacity.AsyncRetrying(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.05)):
        with attempt:
            if await total(client, window, city) != before + 1:
                raise TimeoutError(f"{city} in {window} has not grown by the probe")
    served = time.monotonic()
    return served - committed, await live.when(before + 1) - committed


def connections(postgres: PostgresSettings) -> asyncpg.Pool:
    """A few connections to the retailer's database, to be entered."""
    return asyncpg.create_pool(
        host=postgres.host,
        port=postgres.port,
        user=postgres.user,
        password=postgres.password.get_secret_value(),
        database=postgres.db,
        min_size=1,
        max_size=4,
    )


async def measure(source: str, rate: float, probes: int, api_port: int) -> list[tuple[float, float]]:
    """Probe one after another under load; seconds to REST and to the socket of each."""
    window = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=20)
    city = "Fortaleza"
    async with (
        connections(load(PostgresSettings)) as pool,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api_port}", timeout=10) as client,
        socket(api_port, window, city) as live,
    ):
        sell = postgres(pool) if source == "postgres" else shopify(client)
        load_task = asyncio.create_task(keep_selling(sell, rate))
        try:
            await asyncio.sleep(5)
            seconds = []
            for number in range(probes):
                seconds.append(await probe(sell, client, live, window, city))
                rest, live_s = seconds[-1]
                print(  # noqa: T201 - a command's output
                    f"probe {number + 1}/{probes}: REST {rest:.2f} s, socket {live_s:.2f} s", flush=True
                )
        finally:
            load_task.cancel()
    return seconds


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=("postgres", "shopify"), default="postgres")
    parser.add_argument("--rate", type=float, default=20.0, help="sales a second beside the probes")
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--api-port", type=int, default=8080)
    arguments = parser.parse_args()
    measured = asyncio.run(measure(arguments.source, arguments.rate, arguments.probes, arguments.api_port))
    for target, seconds in zip(("REST", "socket"), zip(*measured, strict=True), strict=True):
        p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        print(  # noqa: T201 - a command's output
            f"{arguments.source} to {target} at {arguments.rate:g} sales/s, {len(seconds)} probes:"
            f" p50 {statistics.median(seconds):.2f} s, p95 {p95:.2f} s, max {max(seconds):.2f} s"
        )


if __name__ == "__main__":
    main()
