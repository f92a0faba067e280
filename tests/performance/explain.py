"""`task bench:explain`: how fast the API explains a rank, with many sales stored, on servers of its own.

`--sales` sales lie evenly over `--hours` hours: seven in ten are Postgres' with ids in the order of time, the others
are those of files and the legacy system; every fiftieth has a second version, half of these in another hour. While
`--rate` sales a second are inserted, requests come one after the other, each for a window and a name at random, for
every ranking and each of `--windows`. Ends with 1 when the 95th percentile of any is above `--target-ms`.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import httpx

from contracts.rankings import RANKINGS, RankingDefinition
from contracts.time import iso
from contracts.windows import WindowLength, topics, window_lengths
from services.clickhouse_sink.transform import rows
from tests.connected.conftest import ENVIRONMENT
from tests.connected.serving import Database, database, ranking_set
from tests.connected.test_api import api
from tests.runtime import start_runtime

EXPLAIN = "/api/v1/sales/explain"
STEP = 1_000_000
NAMES = {"city": "Cidade", "salesman": "Vendedora", "product": "Produto"}
# Names are uneven: a few have many sales. The filter is of the numbers that become second versions.
INSERT = """
INSERT INTO sales (sale_id, source, salesman_name, city, country, amount, product, event_time_ms, ingestion_time_ms,
    version, deleted)
SELECT
    multiIf(k < 7, toString(1000000 + n), k < 8, concat('L-', toString(1000000 + n)),
        concat('F-', toString(10000 + intDiv(n, 10000)), '-', toString(k), '-', toString(100000 + n % 10000))),
    multiIf(k < 7, 'postgres', k < 8, 'legacy', 'files'),
    concat('Vendedora ', toString(toUInt8(30 * pow(h1 % 1000 / 1000, 2)))),
    concat('Cidade ', toString(toUInt8(15 * pow(h2 % 1000 / 1000, 2)))),
    if(h1 % 10 < 9, 'BR', 'PT'), toDecimal64(100 + h1 % 99999, 2), concat('Produto ', toString(h2 % 12)),
    toInt64({start}) + toInt64(intDiv(n * {span}, {sales})) + h1 % 1000 + if({version} = 2 AND n % 100 = 0, 3600000, 0),
    {start}, {version}, 0
FROM (
    SELECT number + {first} AS n, cityHash64(n) AS h1, cityHash64(n, 1) AS h2, h1 % 11 % 10 AS k FROM numbers({count})
) WHERE {condition}
"""


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


@dataclass(frozen=True)
class Scale:
    """How many sales there are, and the hours over which they lie."""

    sales: int
    start: datetime
    hours: int

    def windows(self, length: WindowLength) -> list[tuple[datetime, datetime]]:
        """Start and end of every window of this length that is wholly in the hours."""
        first, last = (length.index(int(at.timestamp())) for at in (self.start, self.end))
        bounds = [length.bounds(index) for index in range(first + 1, last)]
        return [(datetime.fromtimestamp(a / 1000, UTC), datetime.fromtimestamp(b / 1000, UTC)) for a, b in bounds]

    @property
    def end(self) -> datetime:
        """The end of the last hour."""
        return self.start + timedelta(hours=self.hours)


async def fill(db: Database, scale: Scale, lengths: Sequence[WindowLength]) -> None:
    """Insert the sales, their second versions, and a ranking set of each window."""
    values = {"start": int(scale.start.timestamp()) * 1000, "span": scale.hours * 3_600_000, "sales": scale.sales}
    for first in range(0, scale.sales, STEP):
        part = values | {"first": first, "count": min(STEP, scale.sales - first)}
        for version, condition in ((1, "1"), (2, "n % 50 = 0")):
            await db.store.execute(INSERT.format(version=version, condition=condition, **part))
        say(f"{first + part['count']:,} of {scale.sales:,} sales inserted")
    for ranking in RANKINGS:
        country = "BR" if ranking.per_country else ""
        names = [f"{NAMES[ranking.name]} {n}" for n in range(10)]
        for length in lengths:
            topic = topics(ranking.topic, lengths)[length.label]
            sets = [
                ranking_set(topic, start, 1, names, country=country) | {"window_end": end}
                for start, end in scale.windows(length)
            ]
            plan = db.plans[topic]
            await db.store.insert(plan.mapping.table, plan.columns, [row for one in sets for row in rows(plan, one)])


async def insert(db: Database, rate: float, now: datetime) -> None:
    """Insert new sales once a second until cancelled."""
    plan = db.plans["sales.unified"]
    names = {"salesman_name": "Vendedora 1", "city": "Cidade 1", "product": "Produto 1", "country": "BR"}
    for number in count():
        sales = [
            {
                **names,
                "sale_id": f"{90_000_000 + number * int(rate) + n}",
                "source": "postgres",
                "amount": Decimal("1.00"),
                "event_time": now,
                "ingestion_time": now,
                "version": 1,
                "deleted": False,
            }
            for n in range(int(rate))
        ]
        await db.store.insert(plan.mapping.table, plan.columns, [row for one in sales for row in rows(plan, one)])
        await asyncio.sleep(1)


async def explain(
    client: httpx.AsyncClient, ranking: RankingDefinition, length: WindowLength, scale: Scale, requests: int
) -> tuple[list[float], int]:
    """Seconds of each answer, and the mean count of sales of a rank."""
    rng, windows = random.Random(f"{ranking.name}{length.label}"), scale.windows(length)
    seconds, sales = [], 0
    for _ in range(requests):
        query = {
            "ranking": ranking.name,
            "name": f"{NAMES[ranking.name]} {rng.randrange(10)}",
            "window": iso(int(rng.choice(windows)[0].timestamp()) * 1000),
            "length": length.label,
        }
        began = time.monotonic()
        answer = await client.get(EXPLAIN, params=query)
        seconds.append(time.monotonic() - began)
        sales += answer.raise_for_status().json()["transactionCount"]
    return seconds, sales // requests


@asynccontextmanager
async def served(arguments: argparse.Namespace, scale: Scale) -> AsyncIterator[tuple[Database, httpx.AsyncClient]]:
    """An API over a database of its own, filled: the database and a client of the API."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runtime = stack.enter_context(start_runtime(folder / "state", ("tables",), ENVIRONMENT))
        db = await stack.enter_async_context(database(runtime.env, arguments.windows, timeout_s=120))
        await fill(db, scale, window_lengths(arguments.windows))
        started = api(runtime.env, db, folder, RANKING_WINDOWS=arguments.windows)
        client, _ = await stack.enter_async_context(started)
        yield db, client


async def measure(arguments: argparse.Namespace) -> bool:
    """Fill, ask, print; whether all met the target."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    scale = Scale(arguments.sales, hour - timedelta(hours=arguments.hours), arguments.hours)
    met = True
    async with served(arguments, scale) as (db, client):
        inserting = asyncio.create_task(insert(db, arguments.rate, hour))
        try:
            for length in window_lengths(arguments.windows):
                for ranking in RANKINGS:
                    await explain(client, ranking, length, scale, 5)
                    seconds, sales = await explain(client, ranking, length, scale, arguments.requests)
                    p50, p95 = (1000 * statistics.quantiles(seconds, n=100, method="inclusive")[n] for n in (49, 94))
                    met = met and p95 <= arguments.target_ms
                    say(
                        f"{length.label:>4} {ranking.name:<9} {sales:8,} sales a rank on average:"
                        f" p50 {p50:6.1f} ms, p95 {p95:6.1f} ms, max {1000 * max(seconds):6.1f} ms"
                    )
        finally:
            inserting.cancel()
    say(f"p95 of at most {arguments.target_ms:g} ms: {'met' if met else 'NOT MET'}")
    return met


def main() -> None:
    """Parse arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sales", type=int, default=10_000_000)
    parser.add_argument("--hours", type=int, default=1000)
    parser.add_argument("--windows", default="15m,1h,1d@America/Sao_Paulo", help="as RANKING_WINDOWS")
    parser.add_argument("--rate", type=float, default=100.0, help="sales inserted a second meanwhile")
    parser.add_argument("--requests", type=int, default=100, help="of each ranking and length")
    parser.add_argument("--target-ms", type=float, default=50.0)
    sys.exit(0 if asyncio.run(measure(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
