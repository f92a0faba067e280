"""Loads of `task bench:pipeline`, each a sale source at a fixed rate: a database, CSV objects, the legacy service."""

import asyncio
import csv
import io
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import obstore

from chassis.s3 import bucket
from chassis.settings import S3Settings
from contracts.reference import CITIES, COUNTRY, PRODUCTS
from tools.traffic import retail
from tools.traffic.erp import open_erp, register

COLUMNS = ("salesman_id", "salesman", "city", "country", "amount", "product", "sale_date")
RECENT_IDS = 100_000  # updates and deletes choose among so many of the newest sales
CHOSEN = "id = ANY($1::bigint[]) AND sale_date > now() - interval '1 day'"  # no probe, which is older
Tick = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Mix:
    """Of a hundred changes, how many insert, update and delete."""

    inserts: int
    updates: int
    deletes: int

    def split(self, changes: int) -> tuple[int, int, int]:
        """So many changes by kind; what does not divide is inserted."""
        updates, deletes = changes * self.updates // 100, changes * self.deletes // 100
        return changes - updates - deletes, updates, deletes


@dataclass
class Sent:
    """What a load has sent so far: changes by source, and the records that Debezium makes of those in Postgres."""

    changes: dict[str, int] = field(default_factory=dict)
    captured: int = 0  # a delete is two records, the second of them its tombstone

    def add(self, source: str, changes: int) -> None:
        """Count changes of a source."""
        self.changes[source] = self.changes.get(source, 0) + changes

    @property
    def total(self) -> int:
        """All changes."""
        return sum(self.changes.values())


class Database:
    """Sales in Postgres: one COPY a tick, one UPDATE and one DELETE of sales chosen among the newest."""

    def __init__(self, connection: asyncpg.Connection, staff: Mapping[str, int], mix: Mix, sent: Sent) -> None:
        self._connection, self._mix, self._sent = connection, mix, sent
        self._staff = [(identity, name) for name, identity in staff.items()]
        self._rng = random.Random(7)

    async def tick(self, changes: int) -> None:
        """Commit so many changes in one transaction, with the time of now."""
        inserts, updates, deletes = self._mix.split(changes)
        now, rng = datetime.now(UTC).replace(tzinfo=None), self._rng
        cities, products = list(CITIES), list(PRODUCTS)
        rows = [
            (*rng.choice(self._staff), rng.choice(cities), COUNTRY, self._amount(), rng.choice(products), now)
            for _ in range(inserts)
        ]
        async with self._connection.transaction():
            await self._connection.copy_records_to_table("sales", records=rows, columns=COLUMNS)
            newest = await self._connection.fetchval("SELECT last_value FROM sales_id_seq")
            ids = rng.sample(range(max(1, newest - RECENT_IDS), newest), min(newest - 1, updates + deletes))
            changed = await self._connection.fetch(
                f"UPDATE sales SET amount = $2, city = $3 WHERE {CHOSEN} RETURNING id",  # noqa: S608 - our own condition
                ids[:updates],
                self._amount(),
                rng.choice(cities),
            )
            gone = await self._connection.fetch(
                f"DELETE FROM sales WHERE {CHOSEN} RETURNING id",  # noqa: S608 - our own condition
                ids[updates:],
            )
        self._sent.add("postgres", inserts + len(changed) + len(gone))
        self._sent.captured += inserts + len(changed) + 2 * len(gone)

    def _amount(self) -> Decimal:
        return Decimal(self._rng.randint(4_000, 1_200_000)).scaleb(-2)


def objects(settings: S3Settings, sent: Sent) -> Tick:
    """One CSV object a tick."""
    store, rng = bucket(settings), random.Random(8)
    begun = time.time_ns()

    async def tick(changes: int) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("sale_id", "salesman_name", "city", "country", "amount", "product", "sale_date"))
        number, now = sent.changes.get("files", 0), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        for row in range(changes):
            sold = retail.sell(rng)
            writer.writerow((f"F-{number + row}", sold.person.name, sold.city, COUNTRY, sold.amount, sold.product, now))
        await asyncio.to_thread(obstore.put, store, f"bench/{begun}-{number}.csv", text.getvalue().encode())
        sent.add("files", changes)

    return tick


async def legacy(url: str, sent: Sent) -> Tick:
    """Sales registered one by one at the legacy service."""
    client, rng = await open_erp(url), random.Random(9)

    async def tick(changes: int) -> None:
        number = sent.changes.get("legacy", 0)
        await register(client, url, [(f"bench-{number + one}", retail.sell(rng)) for one in range(changes)])
        sent.add("legacy", changes)

    return tick


async def drive(tick: Tick, rate: int, until: float) -> None:
    """Call `tick` once a second with `rate` changes until the moment `until` of the loop's clock.

    A tick that takes longer than a second is followed at once by the next, with the changes that became due.
    """
    loop = asyncio.get_running_loop()
    begun, done = loop.time(), 0
    while (now := loop.time()) < until:
        due = int((now - begun + 1) * rate) - done
        if due > 0:
            await tick(due)
            done += due
        await asyncio.sleep(max(0.0, begun + done / rate - loop.time()))
