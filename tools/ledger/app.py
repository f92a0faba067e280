"""The ledger: reads step after step, compares, and reads again what is missing until it has come or time is up."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from obstore.store import S3Store
from schema_registry.client import AsyncSchemaRegistryClient

from chassis.clickhouse import ClickHouse
from chassis.settings import KafkaSettings, LegacySoapSettings, PostgresSettings
from tools.ledger import sources, store
from tools.ledger.store import Topics
from tools.ledger.transform import Account, Steps, account, within

READ_AGAIN_S = 2.0
# A sale reaches the topics at most 5 minutes before it happened (later ones are rejected), and a date without a zone is
# at most 14 hours off.
SLACK_MS = 15 * 3_600_000


@dataclass(frozen=True)
class Servers:
    """Everything that holds sales."""

    postgres: PostgresSettings
    bucket: S3Store
    legacy: LegacySoapSettings
    kafka: KafkaSettings
    registry: AsyncSchemaRegistryClient
    clickhouse: ClickHouse


@dataclass(frozen=True)
class Period:
    """From `start` up to but not `end`, in milliseconds since 1970."""

    start: int
    end: int


async def _read(servers: Servers, names: Sequence[str], period: Period) -> dict[str, Account]:
    """One reading, in the direction in which sales travel: what a step has, the next ones can only have got since."""
    steps = {source: Steps() for source in names}
    start, end = period.start, period.end
    if "postgres" in steps:
        async with sources.database(servers.postgres) as connection:
            steps["postgres"].sales["source"] = await sources.rows(connection, start, end)
    if "files" in steps:
        steps["files"].sales["source"] = (await sources.files(servers.bucket, start, end, SLACK_MS)).sales
    if "legacy" in steps:
        steps["legacy"].sales["source"] = await sources.legacy(servers.legacy, start, end, SLACK_MS)
    topics = Topics(servers.kafka, servers.registry, start - SLACK_MS)
    for source, of_source in steps.items():
        await topics.raw(source, of_source)
    await topics.unified(steps)
    await topics.dead(steps)
    await store.stored(servers.clickhouse, start, end, steps)
    meant = {source: within(of_source, start, end) for source, of_source in steps.items()}
    if "postgres" in steps:  # a row that now happened at another time is not a row that was deleted
        async with sources.database(servers.postgres) as connection:
            known = steps["postgres"].sales["source"]
            known |= await sources.rows_of(connection, meant["postgres"] - known.keys())
    for source, of_source in steps.items():
        found = of_source.sales["clickhouse"]
        found |= await store.stored_of(servers.clickhouse, source, meant[source] - found.keys())
    return {source: account(source, of_source, meant[source]) for source, of_source in steps.items()}


def still_missing(before: Mapping[str, Account], now: Mapping[str, Account]) -> dict[str, Account]:
    """The newer reading, of what is missing only what was missing before too: sales go on arriving meanwhile."""
    kept = {}
    for source, read in now.items():
        suspects = {name for names in before[source].missing.values() for name in names}
        missing = {step: [name for name in names if name in suspects] for step, names in read.missing.items()}
        kept[source] = replace(read, missing=missing)
    return kept


def lacking(accounts: Mapping[str, Account]) -> int:
    """How many sales are missing."""
    return sum(len(names) for one in accounts.values() for names in one.missing.values())


async def ledger(
    servers: Servers, names: Sequence[str], period: Period, *, settle_s: float, say: Callable[[str], None]
) -> dict[str, Account]:
    """The accounts of these sources for a period.

    Sales take time on their way: pollers look each minute. So what is missing is read again for up to `settle_s`
    seconds, until it has come; `say` gets a line about that.

    Raises:
        the errors of the servers: one is unavailable; see tools.ledger.sources and tools.ledger.store.
    """
    deadline = time.monotonic() + settle_s
    found = await _read(servers, names, period)
    if lacking(found) and settle_s:
        say(f"{lacking(found)} sales are not everywhere yet; reading them again for up to {settle_s:g} s")
    while lacking(found) and time.monotonic() < deadline:
        await asyncio.sleep(min(READ_AGAIN_S, settle_s))
        found = still_missing(found, await _read(servers, names, period))
    return found
