"""`task bench:api`: how fast the API answers, on a served database of its own or, with `--url`, on a running pipeline.

rest: `--rate` requests a second for `--seconds`, a mix of all endpoints. The load is open: each request has its moment
and is sent then, however the ones before it fare, and its latency counts from that moment. A slow answer thus delays
nobody else's measurement (no coordinated omission), which a closed loop of waiting users would. The generator is one
process on aiohttp; it shares the machine with the API and ClickHouse. Ends with 1 when a request fails or the 99th
percentile is above `--target-ms`.
"""

import argparse
import asyncio
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import aiohttp
import psutil

from services.clickhouse_sink.transform import rows
from tests.connected.serving import Database, database, ranking_set, service
from tests.connected.streams import free_port, until
from tests.runtime import start_runtime

PARTS = ("rest",)
WARM_UP_S = 5.0
HOURS, REVISIONS, SALES = 720, 3, 100_000
CITIES = [f"Cidade {n}" for n in range(10)]
PEOPLE = [f"Vendedora {n}" for n in range(10)]
TOP_CITY, TOP_SALESMAN = "/api/v1/sales/top-by-city", "/api/v1/sales/top-salesman"
EXPLAIN, WINDOWS = "/api/v1/sales/explain", "/api/v1/windows"


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


@dataclass(frozen=True)
class Ask:
    """One kind of request: how many of a hundred, its path, parameters and whether the client has the answer."""

    name: str
    share: int
    path: str
    params: tuple[Mapping[str, str], ...]
    has: bool = False


@dataclass
class Latencies:
    """What came of the requests of one kind: seconds from the moment when each was due, and what failed."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def fill(db: Database) -> None:
    """30 days of hours, each with some revisions of both rankings, and the sales of them."""
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    starts = [newest - timedelta(hours=n) for n in range(HOURS)]
    for revision in range(1, REVISIONS + 1):
        for topic, names, country in (("rankings.city", CITIES, ""), ("rankings.salesman", PEOPLE, "BR")):
            plan = db.plans[topic]
            sets = [
                ranking_set(
                    topic, start, revision, names, country=country, status="final" if start < newest else "provisional"
                )
                for start in starts
            ]
            batch = [row for one in sets for row in rows(plan, one)]
            await db.store.insert(plan.mapping.table, plan.columns, batch)
    plan, rng = db.plans["sales.unified"], random.Random(7)
    for first in range(0, SALES, 20_000):
        sales = [
            {
                "sale_id": f"s{number}",
                "source": "postgres",
                "salesman_name": rng.choice(PEOPLE),
                "city": rng.choice(CITIES),
                "country": "BR",
                "amount": Decimal(rng.randrange(100, 999_999)) / 100,
                "product": "GPU",
                "event_time": newest - timedelta(seconds=rng.randrange(-3600, (HOURS - 1) * 3600)),
                "ingestion_time": newest,
                "version": 1,
                "deleted": False,
            }
            for number in range(first, first + 20_000)
        ]
        await db.store.insert(plan.mapping.table, plan.columns, [row for sale in sales for row in rows(plan, sale)])


async def mix(session: aiohttp.ClientSession) -> list[Ask]:
    """What is asked, of the windows and names that the API itself gives."""
    async with session.get(WINDOWS, params={"limit": "100"}) as answer:
        starts = [{"window": window["start"]} for window in (await answer.json())["windows"]]
    async with session.get(TOP_CITY) as answer:
        names = [entry["city"] for entry in (await answer.json())["rankings"]]
    if not starts or not names:
        raise SystemExit("the API has no ranking to ask for; let sales come first (task seed-data)")
    explained = [{"ranking": "city", "name": name, "limit": "20"} for name in names]
    return [
        Ask("cities, latest", 30, TOP_CITY, ({},)),
        Ask("salespeople, latest", 20, TOP_SALESMAN, ({},)),
        Ask("cities, a window", 15, TOP_CITY, tuple(starts)),
        Ask("cities, latest-final", 5, TOP_CITY, ({"window": "latest-final"},)),
        Ask("cities, unchanged (304)", 15, TOP_CITY, tuple(starts[1:]), has=True),
        Ask("windows", 10, WINDOWS, ({}, {"ranking": "salesman"})),
        Ask("explain", 5, EXPLAIN, tuple(explained)),
    ]


async def load(
    session: aiohttp.ClientSession, asks: Sequence[Ask], rate: float, seconds: float
) -> dict[str, Latencies]:
    """Send the mix for so long; what came of each kind."""
    seen = {ask.name: Latencies() for ask in asks}
    tags: dict[str, str] = {}
    rng, loop = random.Random(7), asyncio.get_running_loop()

    async def one(ask: Ask, params: Mapping[str, str], due: float) -> None:
        key = f"{ask.path} {params}"
        headers = {"If-None-Match": tags[key]} if ask.has and key in tags else {}
        try:
            async with session.get(ask.path, params=params, headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    tags[key] = answer.headers["ETag"]
                elif answer.status != 304 or not headers:
                    seen[ask.name].failed.append(f"HTTP {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            seen[ask.name].failed.append(repr(error))
        seen[ask.name].seconds.append(loop.time() - due)

    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            (ask,) = rng.choices(asks, [ask.share for ask in asks])
            tasks.create_task(one(ask, rng.choice(ask.params), due))
    return seen


def milliseconds(seconds: Sequence[float]) -> str:
    """Count, p50, p95, p99 and maximum of a sample."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    shown = " ".join(f"{1000 * value:8.1f}" for value in (cuts[49], cuts[94], cuts[98], max(seconds)))
    return f"{len(seconds):7,} {shown}"


async def rest(url: str, arguments: argparse.Namespace, pid: int | None) -> bool:
    """The REST part; whether it met the target. `pid` is the API's, where it is ours."""
    timeout, connections = aiohttp.ClientTimeout(10), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connections) as session:
        asks = await mix(session)
        gc.freeze()  # a collection of the generator's would count as the API's latency
        await load(session, asks, arguments.rate, WARM_UP_S)
        process = psutil.Process(pid) if pid else None
        used = sum(process.cpu_times()[:2]) if process else 0.0
        began, before = time.monotonic(), os.getloadavg()[0]
        seen = await load(session, asks, arguments.rate, arguments.seconds)
        took = time.monotonic() - began
        cpu = f", the API used {(sum(process.cpu_times()[:2]) - used) / took:.0%} of a core" if process else ""
    every = [value for one in seen.values() for value in one.seconds]
    failed = [why for one in seen.values() for why in one.failed]
    say(f"rest: {len(every) / took:.0f} requests/s for {took:.0f} s, {len(failed)} failed{cpu}")
    say(f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")
    say(f"{'ms from when it was due':<26} {'count':>7} {'p50':>8} {'p95':>8} {'p99':>8} {'max':>8}")
    for name, one in (*seen.items(), ("all", Latencies(every))):
        say(f"{name:<26} {milliseconds(one.seconds)}")
    for why in sorted(set(failed)):
        say(f"failed {failed.count(why)} times: {why}")
    p99_ms = 1000 * statistics.quantiles(every, n=100, method="inclusive")[98]
    met = p99_ms <= arguments.target_ms and not failed
    say(f"p99 {p99_ms:.1f} ms, target {arguments.target_ms:g} ms: {'met' if met else 'NOT MET'}")
    return met


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, int]]:
    """An API over a runtime and a database of its own: its address and process id."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runtime = stack.enter_context(start_runtime(folder / "state", ("contracts", "tables")))
        accounts = {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_USER": "placar", "CLICKHOUSE_PASSWORD": "placar"}
        env = {**accounts, **runtime.env}
        db = await stack.enter_async_context(database(env))
        say(f"filling {HOURS} windows of two rankings, {REVISIONS} revisions each, and {SALES:,} sales ...")
        await fill(db)
        port = free_port()
        more = {"CLICKHOUSE_DB": db.settings.db, "API_PORT": str(port)}
        api = await stack.enter_async_context(service("api", env, folder, **more))
        await until(api.ready, "the API is ready")
        yield f"http://127.0.0.1:{port}", api.pid


async def measure(arguments: argparse.Namespace) -> bool:
    """The chosen parts; whether all met their target."""
    if arguments.url:
        return await rest(arguments.url, arguments, None)
    async with served() as (url, pid):
        return await rest(url, arguments, pid)


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part; all without it")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--target-ms", type=float, default=50.0, help="of the 99th percentile")
    parser.add_argument("--url", default="", help="of a running API, such as http://127.0.0.1:8080")
    sys.exit(0 if asyncio.run(measure(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
