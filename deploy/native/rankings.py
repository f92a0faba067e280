"""The end of `up`: waits for the first ranking sets that the API serves, and prints them."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.table import Table

from contracts.rankings import RANKINGS, RankingDefinition
from deploy.native.graph import StartError
from deploy.native.settings import NativeSettings

COUNTRY = "BR"
REPORT_INTERVAL_S = 5.0
POLL_INTERVAL_S = 0.3


def address(settings: NativeSettings, ranking: RankingDefinition) -> str:
    """Where the API serves the newest set of a ranking, of one country where it is per country."""
    country = f"&country={COUNTRY}" if ranking.per_country else ""
    base = f"http://{settings.bind_host}:{settings.ports['API_PORT']}/api/v1/sales"
    return f"{base}/{ranking.path}?window=latest&limit=10{country}"


async def show_first(settings: NativeSettings) -> None:
    """Print the newest set of every ranking once each has one.

    Raises:
        StartError: a ranking was not served in time; the message says where to look.
    """
    begun = time.monotonic()
    async with httpx.AsyncClient(timeout=10) as client:
        answers = [await _first(client, address(settings, each), settings.ready_timeout_s) for each in RANKINGS]
    console = Console()
    for ranking, answer in zip(RANKINGS, answers, strict=True):
        console.print(table(ranking, answer, settings.ranking.lengths[0].label))
    print(f"first rankings served {time.monotonic() - begun:.1f} s after the last process was ready")


def table(ranking: RankingDefinition, answer: Mapping[str, Any], length: str) -> Table:
    """An answer of the API as a table."""
    country = f", {COUNTRY}" if ranking.per_country else ""
    title = f"{ranking.title['en']}{country}, {length} from {answer['window']['start']}"
    rows = Table("Rank", ranking.competitor["en"], "Total sales", "Sales", title=title)
    for entry in answer["rankings"]:
        name, total = entry[to_camel(ranking.column)], f"{entry['totalSales']:,.2f}"
        rows.add_row(str(entry["rank"]), name, total, str(entry["transactionCount"]))
    return rows


async def _first(client: httpx.AsyncClient, url: str, timeout_s: float) -> dict[str, Any]:
    """The first answer that has entries."""
    deadline, reported = time.monotonic() + timeout_s, 0.0
    while time.monotonic() < deadline:
        try:
            answer = await client.get(url)
        except httpx.TransportError as error:
            reason = repr(error)
        else:
            if answer.is_success and answer.json()["rankings"]:
                return dict(answer.json())
            reason = f"{answer.status_code} {answer.text[:120]}"
        if time.monotonic() - reported > REPORT_INTERVAL_S:
            reported = time.monotonic()
            print(f"waiting for the first ranking at {url}: {reason}", flush=True)
        await asyncio.sleep(POLL_INTERVAL_S)
    raise StartError(
        f"no ranking at {url} after {timeout_s:.0f} s ({reason}); see `task logs -- flink_watcher clickhouse_sink`"
    )
