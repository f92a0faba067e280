"""The ledger: reads step after step, compares, and reads again what is missing until it has come or time is up."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.settings import ClickHouseSettings, LegacySoapSettings, PostgresSettings, S3Settings, load
from contracts.text import shortened
from contracts.time import DAY_MS, iso
from tools import records
from tools.ledger import sources, store
from tools.ledger.transform import STEPS, Account, Period, Steps, account, count_missing, still_missing, within
from tools.raw_sales import RAW, TOLD_BY
from tools.table import Rows, print_json, warn

TIMEOUT_S = 300.0  # one query reads all sales of the period
READ_AGAIN_S = 2.0
# A sale reaches the topics at most 5 minutes before it happened (later ones are rejected), and a date without a zone is
# at most 14 hours off.
SLACK_MS = 15 * 3_600_000
SHOWN = 20  # ids of missing sales per step; --json shows all
SHORT = 43


async def _read(
    topics: records.Servers, clickhouse: ClickHouse, names: Sequence[str], period: Period
) -> dict[str, Account]:
    """One reading, in the direction in which sales travel: what a step has, the next ones can only have got since."""
    steps = {source: Steps() for source in names}
    if "postgres" in steps:
        async with sources.database(load(PostgresSettings)) as connection:
            steps["postgres"].sales["source"] = await sources.rows(connection, period)
    if "files" in steps:
        steps["files"].sales["source"] = await sources.files(load(S3Settings), period, SLACK_MS)
    if "legacy" in steps:
        steps["legacy"].sales["source"] = await sources.legacy(load(LegacySoapSettings), period, SLACK_MS)
    async with topics.reading() as client:
        held = store.Topics(topics, client, max(period.start - SLACK_MS, 0))
        for topic_of in dict.fromkeys(told for source in steps for told in TOLD_BY[source]):
            await held.raw(topic_of, steps)
        await held.unified(steps)
        await held.dead(steps)
    await store.stored(clickhouse, period, steps)
    meant = {source: within(of_source, period) for source, of_source in steps.items()}
    if "postgres" in steps:  # a row that now happened at another time is not a row that was deleted
        async with sources.database(load(PostgresSettings)) as connection:
            known = steps["postgres"].sales["source"]
            known |= await sources.rows_of(connection, meant["postgres"] - known.keys())
    for source, of_source in steps.items():
        in_store = of_source.sales["clickhouse"]
        in_store |= await store.stored_of(clickhouse, source, meant[source] - in_store.keys())
    return {source: account(source, of_source, meant[source]) for source, of_source in steps.items()}


async def compare(
    topics: records.Servers,
    stored: ClickHouseSettings,
    names: Sequence[str],
    period: Period,
    *,
    settle_s: float,
    inform: Callable[[str], None],
) -> dict[str, Account]:
    """The accounts of these sources for a period.

    Sales are in flight for a while: pollers run each minute. So what is missing is read again for up to `settle_s`
    seconds, until it has come; `inform` gets a line about that.

    Raises:
        NotDoneError: a source is unavailable, or answers something else than sales.
        KafkaError | RegistryUnavailableError | StoreUnavailableError | ServerException: a server is unavailable.
    """
    async with clickhouse(stored, 1, TIMEOUT_S) as store:
        deadline = time.monotonic() + settle_s
        accounts = await _read(topics, store, names, period)
        if settle_s and (missing := count_missing(accounts)):
            inform(f"{missing} sales are not everywhere yet; reading them again for up to {settle_s:g} s")
        while count_missing(accounts) and time.monotonic() < deadline:
            await asyncio.sleep(min(READ_AGAIN_S, settle_s))
            accounts = still_missing(accounts, await _read(topics, store, names, period))
    return accounts


def _findings(source: str, one: Account) -> Iterator[tuple[Sequence[str], Mapping[str, Any], str]]:
    """Ids of sales, and what is wrong with them: for programs, and for people."""
    names = {"source": source, "topic": RAW[source][0], "unified": "sales.unified", "clickhouse": "ClickHouse"}
    for step, missing in one.missing.items():
        yield missing, {"missing_in": names[step]}, f"missing in {names[step]}"
    yield one.outdated, {"outdated": True}, "outdated, their newest change is a dead letter"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more (--json shows all)" if len(names) > SHOWN else ""
    return ", ".join(shortened(name, SHORT) for name in names[:SHOWN]) + more


def show(accounts: Mapping[str, Account], period: Period, *, as_json: bool) -> None:
    """Print the numbers of each source and the first sales that lack something; as JSON, all of those first."""
    if as_json:
        for source, one in accounts.items():
            for names, finding, _ in _findings(source, one):
                for name in names:
                    print_json({"source": source, "sale_id": name, **finding})
    rows = Rows("sales_of", "at_source", *STEPS[1:], "dead_letters", "missing", "outdated", as_json=as_json)
    bounds = {"from": iso(period.start), "to": iso(period.end)}
    for source, one in accounts.items():
        counts = {step if step != "source" else "at_source": one.counts[step] for step in STEPS}
        missing = sum(map(len, one.missing.values()))
        numbers = {"dead_letters": one.dead, "missing": missing, "outdated": len(one.outdated)}
        rows.add({**bounds, "source": source, **counts, **numbers}, sales_of=source)
    if as_json:
        return
    rows.print()
    for source, one in accounts.items():
        for names, _, words in _findings(source, one):
            if names:
                print(f"{len(names)} of {source} {words}: {_listed(names)}")
    total = count_missing(accounts)
    print(f"{bounds['from']} to {bounds['to']}: {f'{total} sales are missing' if total else 'nothing is missing'}")


def run(start: int | None, end: int | None, names: Sequence[str], *, settle_s: float, as_json: bool) -> int:
    """Compare the steps of a period (ms since 1970; by default the last day), print, and return the exit status."""
    end = time.time_ns() // 1_000_000 if end is None else end
    period = Period(end - DAY_MS if start is None else start, end)
    if period.start >= period.end:
        raise typer.BadParameter(f"{iso(period.start)} is not before --to {iso(period.end)}", param_hint="'--from'")
    for each in (PostgresSettings, S3Settings, LegacySoapSettings):
        load(each)  # a wrong setting ends the command before anything is read
    topics, stored = records.servers("ledger"), load(ClickHouseSettings)
    accounts = asyncio.run(compare(topics, stored, names, period, settle_s=settle_s, inform=warn))
    show(accounts, period, as_json=as_json)
    return 1 if count_missing(accounts) else 0
