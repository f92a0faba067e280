"""`task bench:freshness`: how long a sale committed in Postgres takes to be in the REST answer.

Runs against the running pipeline. While `--rate` sales a second are being committed, one probe sale at a time goes
into a window of its own, 20 days back, and REST is asked every 50 ms until that window's total has grown by the probe.
Prints p50, p95 and the maximum in seconds.
"""

import argparse
import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import httpx
import tenacity

from chassis.settings import PostgresSettings, load

INSERT = (
    "INSERT INTO sales (salesman_id, salesman, city, country, amount, product, sale_date)"
    " SELECT id, name, $1, 'BR', $2, 'SSD', $3 FROM salesman ORDER BY id LIMIT 1"
)


async def sell(pool: asyncpg.Pool, rate: float) -> None:
    """Commit `rate` sales a second at the current time, each a transaction of its own, until cancelled."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        await pool.execute(INSERT, "Recife", Decimal("10.00"), datetime.now(UTC).replace(tzinfo=None))
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))


async def total(client: httpx.AsyncClient, window: datetime, city: str) -> Decimal:
    """What REST says of the city in the window; 0 where it has no rank."""
    answer = await client.get("/api/v1/sales/top-by-city", params={"window": window.strftime("%Y-%m-%dT%H:%M:%SZ")})
    if answer.status_code == httpx.codes.NOT_FOUND:
        return Decimal(0)
    rankings = answer.raise_for_status().json(parse_float=Decimal)["rankings"]
    return next((Decimal(entry["totalSales"]) for entry in rankings if entry["city"] == city), Decimal(0))


async def probe(pool: asyncpg.Pool, client: httpx.AsyncClient, window: datetime, city: str) -> float:
    """Seconds from the commit of one sale until REST shows it."""
    before = await total(client, window, city)
    await pool.execute(INSERT, city, Decimal("1.00"), (window + timedelta(minutes=1)).replace(tzinfo=None))
    committed = time.monotonic()
    async for attempt in tenacity.AsyncRetrying(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.05)):
        with attempt:
            if await total(client, window, city) != before + 1:
                raise TimeoutError(f"{city} in {window} has not grown by the probe")
    return time.monotonic() - committed


async def measure(rate: float, probes: int, api_port: int) -> list[float]:
    """Probe one after another under load; seconds each."""
    postgres = load(PostgresSettings)
    window = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=20)
    async with (
        asyncpg.create_pool(
            host=postgres.host,
            port=postgres.port,
            user=postgres.user,
            password=postgres.password.get_secret_value(),
            database=postgres.db,
            min_size=1,
            max_size=4,
        ) as pool,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api_port}", timeout=10) as client,
    ):
        load_task = asyncio.create_task(sell(pool, rate))
        try:
            await asyncio.sleep(5)
            seconds = []
            for number in range(probes):
                seconds.append(await probe(pool, client, window, "Fortaleza"))
                print(f"probe {number + 1}/{probes}: {seconds[-1]:.2f} s", flush=True)  # noqa: T201 - a command's output
        finally:
            load_task.cancel()
    return seconds


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="sales a second beside the probes")
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--api-port", type=int, default=8080)
    arguments = parser.parse_args()
    seconds = asyncio.run(measure(arguments.rate, arguments.probes, arguments.api_port))
    p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
    print(  # noqa: T201 - a command's output
        f"commit to REST at {arguments.rate:g} sales/s, {len(seconds)} probes:"
        f" p50 {statistics.median(seconds):.2f} s, p95 {p95:.2f} s, max {max(seconds):.2f} s"
    )


if __name__ == "__main__":
    main()
