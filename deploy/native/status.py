"""`status`: every process with state, health, memory and uptime, and the URLs."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import psutil
from rich.console import Console
from rich.table import Table

from contracts.rankings import RANKINGS
from deploy.native import rankings, supervise
from deploy.native.probes import NotReady
from deploy.native.processes import Process, values
from deploy.native.settings import PORTS, NativeSettings
from deploy.native.table import TABLE, fill

SHOWN = 300


def urls(settings: NativeSettings) -> dict[str, str]:
    """The addresses to open, by name."""
    filled, absent = values(settings), TABLE.without(settings.profiles)
    closed = [f"${{{port}}}" for port, (_, process) in PORTS.items() if process in absent]
    return {
        "page": fill("http://${BIND_HOST}:${API_PORT}/", filled),
        **{ranking.title["en"].lower(): rankings.address(settings, ranking) for ranking in RANKINGS},
        **{name: fill(url, filled) for name, url in TABLE.urls.items() if not any(port in url for port in closed)},
    }


def print_urls(addresses: Mapping[str, str]) -> None:
    """Print a line for each address."""
    for name, url in addresses.items():
        print(f"{name:<16} {url}")


async def _health(process: Process) -> str:
    try:
        await asyncio.wait_for(process.probe(), 8)
    except (NotReady, TimeoutError) as error:
        return f"not ready: {error}"[:SHOWN]
    return "ready"


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _rss(pid: int) -> int:
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


async def show(settings: NativeSettings, processes: Sequence[Process]) -> int:
    """Print the table and the URLs; returns 1 where something is not healthy."""
    known = supervise.info(settings)
    running = [process for process in processes if known.get(process.name, {}).get("statename") == "RUNNING"]
    health = dict(zip([p.name for p in running], await asyncio.gather(*map(_health, running)), strict=True))
    table = Table("process", "state", "health", "memory MiB", "uptime", "pid")
    total, healthy = 0, True
    for process in processes:
        state = known.get(process.name, {"statename": "STOPPED", "pid": 0})
        memory = _rss(state["pid"]) if state["pid"] else 0
        total += memory
        text = health.get(process.name, "")
        healthy = healthy and text == "ready"
        up = str(int(time.time() - state["start"])) + " s" if state["pid"] else ""
        table.add_row(
            process.name, state["statename"].lower(), text, f"{memory / 2**20:.0f}", up, str(state["pid"] or "")
        )
    table.add_section()
    table.add_row("all", "", "", f"{total / 2**20:.0f}", "", "")
    Console().print(table)
    print_urls(urls(settings))
    return 0 if healthy else 1
