"""Composition root of the traffic generator: seed once, or sell at a rate."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import obstore
from obstore.store import S3Store

from chassis import logs, s3
from chassis.errors import NotDoneError
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.postgres import open_connection
from chassis.settings import ClickHouseSettings, load
from chassis.unit import Unit
from contracts.webhooks import TOPICS
from tools.traffic import bucket, database, erp
from tools.traffic.channels import PROVIDERS, Channel
from tools.traffic.retail import sell
from tools.traffic.settings import TrafficSettings
from tools.traffic.shop import check as checked
from tools.traffic.shop.webhooks import Webhooks, open_webhooks
from tools.traffic.transform import Action, actions, csv_file, due, missed, spread, summary

TICK_S = 0.1
REPORT_S = 5.0
INTERRUPTED = 130
# sales in Postgres, rows of each file, and how far they lie back
INITIAL = 60, 40, timedelta(hours=4)
MORE = 120, 60, timedelta(minutes=20)

T = TypeVar("T")


def report(line: str) -> None:
    """Progress, for the person who started the command."""
    print(line, flush=True)


class Shop:
    """The retailer's servers. Each use waits until its server answers, for `wait_s` seconds where that is given.

    Raises:
        NotDoneError: a server did not answer in time; the message has its address and setting.
    """

    def __init__(self, settings: TrafficSettings, wait_s: float | None = None) -> None:
        self._unit = Unit("traffic", logs.configure("traffic", settings.log_level), Metrics("traffic"), Readiness())
        self._settings, self._wait_s = settings, wait_s
        self._store = s3.bucket(settings.s3)
        self._connection: Any = None
        self._erp: Any = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            await self._connection.close(timeout=5)
        if self._erp is not None:
            await self._erp.transport.aclose()

    async def postgres(self, use: Callable[[Any], Awaitable[T]]) -> T:
        """Use a connection to the database, a new one where it was lost."""
        settings = self._settings.postgres

        async def attempt() -> T:
            if self._connection is None or self._connection.is_closed():
                self._connection = await open_connection(settings, database.COMMAND_S)
            return await use(self._connection)

        address = f"{settings.host}:{settings.port}/{settings.db}"
        return await self._answer("postgres", address, database.SETTING, attempt, database.Unreachable)

    async def bucket(self, use: Callable[[S3Store], T]) -> T:
        """Use the bucket, in a thread."""
        attempt = partial(asyncio.to_thread, use, self._store)
        return await self._answer("s3", self._settings.s3.endpoint, s3.SETTING, attempt, s3.Unreachable)

    async def register(self, sales: Sequence[tuple[str, Any]]) -> None:
        """Register sales in the legacy service."""
        url = self._settings.service.url

        async def attempt() -> None:
            if self._erp is None:
                self._erp = await erp.open_erp(url)
            try:
                await erp.register(self._erp, url, sales)
            except* erp.Unreachable as errors:
                raise OSError(repr(errors.exceptions[0])) from errors

        await self._answer("legacy service", url, erp.SETTING, attempt, erp.Unreachable)

    async def _answer(
        self, server: str, address: str, setting: str, attempt: Callable[[], Awaitable[T]], retry_on: Any
    ) -> T:
        connecting = self._unit.connect(server, address, setting, attempt, retry_on)
        try:
            return await asyncio.wait_for(connecting, self._wait_s)
        except TimeoutError:
            why = f"{server} at {address} (setting {setting}) did not answer in {self._wait_s:.0f} s"
            raise NotDoneError(why) from None


async def seed(settings: TrafficSettings, *, initial: bool) -> None:
    """Add sales to Postgres and CSV files to the bucket; with `initial` only where there are none.

    Raises:
        NotDoneError: a server did not answer in time.
    """
    rng = random.Random(1) if initial else random.Random()
    number, rows, back = INITIAL if initial else MORE
    run = "initial" if initial else f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    files: dict[str, bytes] = {}

    def upload(store: S3Store) -> int:
        if initial and bucket.has_csv(store):
            return 0
        return sum(bucket.upload_new(store, key, content) for key, content in files.items())

    async with aclosing(Shop(settings, settings.wait_s)) as shop:
        inserted = await shop.postgres(partial(database.seed, rng=rng, number=number, back=back, only_empty=initial))
        report(f"postgres: {inserted} sales added" if inserted else "postgres: has sales already, nothing added")
        for part in (1, 2):
            moments = spread(rng, rows, datetime.now(UTC), back)
            sales = [(f"F-{run}-{part}-{n:04}", sell(rng), moment) for n, moment in enumerate(moments, 1)]
            files[f"seed-{run}-{part}.csv"] = csv_file(sales)
        uploaded = await shop.bucket(upload)
    outcome = f"{uploaded} files of {rows} rows uploaded" if uploaded else "has CSV files already, nothing uploaded"
    report(f"bucket {settings.s3.bucket}: {outcome}")


class Seller:
    """Carries out actions in their source; what a source could not take yet is tried again when it answers."""

    def __init__(self, shop: Shop, run: str, file_interval_s: float, webhooks: Webhooks | None) -> None:
        self._shop, self._run, self._interval_s, self._webhooks = shop, run, file_interval_s, webhooks
        self._staff: tuple[Any, dict[str, int]] = None, {}
        self._sales: dict[int, int] = {}
        self._rows: list[Any] = []
        self._files = 0
        self._upload_at = time.monotonic() + file_interval_s

    async def sell(self, due_now: Sequence[Action]) -> Counter[str]:
        """Carry out what is due, in order within each source, and count what happened by source and kind."""
        by_source = {source: [action for action in due_now if action.source == source] for source in Channel}
        if todo := by_source[Channel.POSTGRES]:
            await self._shop.postgres(partial(self._apply, todo))
        if todo := by_source[Channel.LEGACY]:
            await self._shop.register([(f"L-{self._run}-{action.number}", action.sold) for action in todo])
        now = datetime.now(UTC)
        self._rows += [(f"F-{self._run}-{action.number}", action.sold, now) for action in by_source[Channel.FILES]]
        if time.monotonic() >= self._upload_at:
            await self.upload()
        done = Counter(f"{action.source} {action.kind}" for action in due_now if action.source not in PROVIDERS)
        if self._webhooks is not None:
            done += await self._webhooks.deliver(len(due_now) - done.total())
        return done

    async def _apply(self, todo: Sequence[Action], connection: Any) -> None:
        if self._staff[0] is not connection:
            self._staff = connection, await database.staff(connection)
        await database.apply(connection, self._staff[1], self._sales, todo)

    async def upload(self) -> None:
        """Upload the rows that wait for their file; an older file under its key is replaced."""
        if self._rows:
            key, content = f"traffic-{self._run}-{self._files + 1:05}.csv", csv_file(self._rows)
            await self._shop.bucket(lambda store: obstore.put(store, key, content))
            self._files += 1
            self._rows = []
            self._upload_at = time.monotonic() + self._interval_s


async def keep_selling(
    stop: asyncio.Event,
    rate: float,
    run_seed: int | None,
    limit: int | None,
    sources: Sequence[Channel],
    *,
    check_s: float | None,
) -> int:
    """Sell `rate` times a second until `stop` is set, or until `limit` actions have happened.

    Returns the exit status: 1 where, after `check_s` seconds, the webhooks' sales are not stored as they must be.

    Raises:
        NotDoneError: the webhook receiver does not take what is sent.
    """
    settings = load(TrafficSettings)
    chosen = random.SystemRandom().randrange(2**32) if run_seed is None else run_seed
    plan = islice(actions(random.Random(chosen), sources), limit)
    run = f"{chosen}" if run_seed is not None else f"{chosen:x}-{int(time.time()):x}"
    providers = [provider for provider in TOPICS if provider in sources]
    done: Counter[str] = Counter()
    begun = reported = time.monotonic()
    given_up = 0
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(aclosing(Shop(settings)))
        webhooks = None
        if providers:
            opening = open_webhooks(chosen, providers, report, remember=check_s is not None)
            webhooks = await stack.enter_async_context(opening)
        report(f"selling {rate:g}/s through {', '.join(sources)}, run {run}; Ctrl-C stops")
        seller = Seller(shop, run, settings.file_interval_s, webhooks)
        try:
            while not stop.is_set():
                now = time.monotonic()
                backlog = due(now - begun, rate, done.total() + given_up)
                if lost := missed(backlog, rate):
                    given_up += lost
                    report(f"{lost} sales given up: the sources were too slow for {rate:g}/s")
                batch = list(islice(plan, backlog - lost))
                if not batch and backlog - lost > 0:
                    break
                done += await seller.sell(batch)
                if now - reported >= REPORT_S:
                    reported = now
                    report(summary(done, now - begun))
                await asyncio.sleep(TICK_S)
        finally:
            await seller.upload()
    report(f"stopped; {summary(done, time.monotonic() - begun)}")
    if check_s is None or webhooks is None:
        return 0
    must = webhooks.outcome()
    left = await checked.check(load(ClickHouseSettings), must, check_s)
    for line in checked.report(must, left):
        report(line)
    return 1 if left else 0


def run_seed(*, initial: bool) -> int:
    """Seed, and return the exit status."""
    asyncio.run(seed(load(TrafficSettings), initial=initial))
    return 0


def run_traffic(
    rate: float, run_seed: int | None, limit: int | None, sources: Sequence[Channel], check_s: float | None
) -> int:
    """Sell until Ctrl-C or SIGTERM, and return the exit status; a second signal does not wait for a server."""

    async def selling() -> int:
        stop = asyncio.Event()
        work = asyncio.create_task(keep_selling(stop, rate, run_seed, limit, sources, check_s=check_s))

        def interrupt() -> None:
            if stop.is_set():
                work.cancel()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt)
        return await work

    try:
        return asyncio.run(selling())
    except asyncio.CancelledError:
        return INTERRUPTED
