"""Composition root of the traffic generator: seed once, or sell at a rate."""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from chassis import s3
from chassis.postgres import open_connection
from chassis.unit import Unit
from tools.traffic import bucket, database, erp
from tools.traffic.retail import sell
from tools.traffic.settings import TrafficSettings
from tools.traffic.transform import Action, Source, actions, csv_file, due, missed, spread, summary

TICK_S = 0.1
REPORT_S = 5.0
INITIAL_SALES, INITIAL_ROWS, INITIAL_BACK = 60, 40, timedelta(hours=4)
MORE_SALES, MORE_ROWS, MORE_BACK = 120, 60, timedelta(minutes=20)

T = TypeVar("T")


class UnreachableError(Exception):
    """A server did not answer in time; the message has its address and setting."""


def say(line: str) -> None:
    """Progress, for the person who started the command."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _within(wait_s: float, server: str, address: str, setting: str, connecting: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(connecting, wait_s)
    except TimeoutError:
        raise UnreachableError(f"{server} at {address} (setting {setting}) did not answer in {wait_s:.0f} s") from None


async def seed(unit: Unit, settings: TrafficSettings, *, initial: bool) -> None:
    """Add sales to Postgres and CSV files to the bucket; with `initial` only where there are none.

    Raises:
        UnreachableError: a server did not answer in time.
    """
    rng = random.Random(1) if initial else random.Random()
    number, rows, back = (INITIAL_SALES, INITIAL_ROWS, INITIAL_BACK) if initial else (MORE_SALES, MORE_ROWS, MORE_BACK)

    async def into_postgres() -> int:
        connection = await open_connection(settings.postgres, database.COMMAND_S)
        try:
            return await database.seed(connection, rng, number=number, back=back, only_empty=initial)
        finally:
            await connection.close()

    place = database.address(settings.postgres)
    attempt = unit.connect("postgres", place, database.SETTING, into_postgres, database.Unreachable)
    inserted = await _within(settings.wait_s, "postgres", place, database.SETTING, attempt)
    say(f"postgres: {inserted} sales added" if inserted else "postgres: has sales already, nothing added")
    store = s3.bucket(settings.s3)
    run = "initial" if initial else f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    uploads: list[tuple[str, bytes]] = []
    for part in (1, 2):
        moments = spread(rng, rows, datetime.now(UTC), back)
        sales = [(f"F-{run}-{part}-{n:04}", sell(rng), moment) for n, moment in enumerate(moments, 1)]
        uploads.append((f"seed-{run}-{part}.csv", csv_file(sales)))

    async def into_bucket() -> int:
        if initial and await bucket.has_csv(store):
            return 0
        return sum([await bucket.upload_new(store, key, content) for key, content in uploads])

    attempt = unit.connect("s3", settings.s3.endpoint, s3.SETTING, into_bucket, s3.Unreachable)
    files = await _within(settings.wait_s, "s3", settings.s3.endpoint, s3.SETTING, attempt)
    said = f"{files} files of {rows} rows uploaded" if files else "has CSV files already, nothing uploaded"
    say(f"bucket {settings.s3.bucket}: {said}")


class Seller:
    """Carries out actions in their source; what a source could not take yet is tried again when it answers."""

    def __init__(self, unit: Unit, settings: TrafficSettings, run: str) -> None:
        self._unit, self._settings, self._run = unit, settings, run
        self._connection: Any = None
        self._staff: dict[str, int] = {}
        self._sales: dict[int, int] = {}
        self._store = s3.bucket(settings.s3)
        self._erp: Any = None
        self._rows: list[Any] = []
        self._files = 0
        self._upload_at = time.monotonic() + settings.file_interval_s

    async def close(self) -> None:
        """Upload the rows that wait for their file, and close the connections."""
        if self._rows:
            await self._upload()
        if self._connection is not None:
            await self._connection.close(timeout=5)
        if self._erp is not None:
            await self._erp.transport.aclose()

    async def sell(self, due_now: Sequence[Action]) -> None:
        """Carry out what is due, in order within each source."""
        by_source: dict[Source, list[Action]] = {}
        for action in due_now:
            by_source.setdefault(action.source, []).append(action)
        if todo := by_source.get("postgres"):
            await self._postgres(todo)
        if todo := by_source.get("legacy"):
            await self._legacy(todo)
        now = datetime.now(UTC)
        self._rows += [
            (f"F-{self._run}-{a.number}", a.sold, now) for a in by_source.get("files", ()) if a.sold is not None
        ]
        if self._rows and time.monotonic() >= self._upload_at:
            await self._upload()

    async def _postgres(self, todo: Sequence[Action]) -> None:
        async def attempt() -> None:
            if self._connection is None or self._connection.is_closed():
                self._connection = await open_connection(self._settings.postgres, database.COMMAND_S)
                self._staff = await database.staff(self._connection)
            await database.apply(self._connection, self._staff, self._sales, todo)

        place = database.address(self._settings.postgres)
        await self._unit.connect("postgres", place, database.SETTING, attempt, database.Unreachable)

    async def _legacy(self, todo: Sequence[Action]) -> None:
        url = self._settings.service.url

        async def attempt() -> None:
            if self._erp is None:
                self._erp = await erp.open_erp(url)
            try:
                await erp.register(self._erp, url, [(f"L-{self._run}-{a.number}", a.sold) for a in todo if a.sold])
            except* erp.Unreachable as errors:
                raise OSError(repr(errors.exceptions[0])) from errors

        await self._unit.connect("legacy service", url, erp.SETTING, attempt, erp.Unreachable)

    async def _upload(self) -> None:
        key, content = f"traffic-{self._run}-{self._files + 1:05}.csv", csv_file(self._rows)

        async def attempt() -> None:
            await bucket.upload(self._store, key, content)

        await self._unit.connect("s3", self._settings.s3.endpoint, s3.SETTING, attempt, s3.Unreachable)
        self._files += 1
        self._rows = []
        self._upload_at = time.monotonic() + self._settings.file_interval_s


async def keep_selling(
    unit: Unit,
    settings: TrafficSettings,
    *,
    rate: float,
    run_seed: int | None,
    limit: int | None,
    sources: Sequence[Source],
    stopped: Callable[[], bool],
) -> None:
    """Sell `rate` times a second until `stopped`, or until `limit` actions have happened."""
    chosen = random.SystemRandom().randrange(2**32) if run_seed is None else run_seed
    plan = islice(actions(random.Random(chosen), sources), limit)
    run = f"{chosen}" if run_seed is not None else f"{chosen:x}-{int(time.time()):x}"
    seller = Seller(unit, settings, run)
    done: Counter[str] = Counter()
    begun = reported = time.monotonic()
    given_up = 0
    say(f"selling {rate:g}/s through {', '.join(sources)}, run {run}; Ctrl-C stops")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(seller.close)
        while not stopped():
            now = time.monotonic()
            backlog = due(now - begun, rate, sum(done.values()) + given_up)
            if lost := missed(backlog, rate):
                given_up += lost
                say(f"{lost} sales given up: the sources were too slow for {rate:g}/s")
            batch = list(islice(plan, backlog - lost))
            if not batch and backlog - lost > 0:
                break
            await seller.sell(batch)
            done.update(f"{action.source} {action.kind}" for action in batch)
            if now - reported >= REPORT_S:
                reported = now
                say(summary(done, now - begun))
            await asyncio.sleep(TICK_S)
    say(f"stopped; {summary(done, time.monotonic() - begun)}")
