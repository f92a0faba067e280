"""The end of `up`: waits for the first ranking that the API serves, and shows it."""

import asyncio
import time
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from deploy.native.graph import StartError
from deploy.native.settings import NativeSettings


async def show_first(settings: NativeSettings) -> None:
    """Print the newest ranking of cities and of Brazil's salespeople once there is one.

    Raises:
        StartError: no ranking was served in time; the message says where to look.
    """
    begun = time.monotonic()
    base = f"http://{settings.bind_host}:{settings.ports['API_PORT']}/api/v1/sales"
    async with httpx.AsyncClient(base_url=base, timeout=10) as client:
        cities = await _rankings(client, "/top-by-city", settings.ready_timeout_s)
        people = await _rankings(client, "/top-salesman", settings.ready_timeout_s)
    console = Console()
    for title, key, answer in (("top cities", "city", cities), ("top salespeople, BR", "salesmanName", people)):
        window = f"{settings.ranking.lengths[0].label} from {answer['window']['start']}"
        table = Table("rank", key, "total sales", "sales", title=f"{title}, {window}")
        for entry in answer["rankings"]:
            table.add_row(str(entry["rank"]), entry[key], f"{entry['totalSales']:,.2f}", str(entry["transactionCount"]))
        console.print(table)
    print(f"first rankings served {time.monotonic() - begun:.1f} s after the last process was ready")


async def _rankings(client: httpx.AsyncClient, path: str, timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    said = 0.0
    while time.monotonic() < deadline:
        try:
            answer = await client.get(path)
        except httpx.TransportError as error:
            why = repr(error)
        else:
            if answer.is_success and answer.json()["rankings"]:
                found: dict[str, Any] = answer.json()
                return found
            why = f"{answer.status_code} {answer.text[:120]}"
        if time.monotonic() - said > 5:
            said = time.monotonic()
            print(f"waiting for the first ranking at {path}: {why}", flush=True)
        await asyncio.sleep(0.3)
    raise StartError(
        f"no ranking at {path} after {timeout_s:.0f} s ({why}); see `task logs -- flink_watcher clickhouse_sink`"
    )
