"""The screen: a table for each ranking, side by side where they fit, and a line about the connection."""

from datetime import UTC, datetime
from decimal import Decimal

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from contracts.rankings import RANKINGS, RankingDefinition
from tools.watch.transform import NAMES, Change, ShownRanking, State

STATUS = {"provisional": "yellow", "final": "green", "corrected": "blue"}
MARK_S = 8.0  # how long a change stays marked
BAR = 12
WIDTH = 75  # characters that a ranking needs, to stand beside another


def ago(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def _rank_change(change: Change) -> Text:
    if change.is_new:
        return Text("new", "green")
    up = change.rose > 0
    return Text(f"{'▲' if up else '▼'}{abs(change.rose)}" if change.rose else "", "green" if up else "red")


def _total_change(change: Change) -> Text:
    return Text(f"{change.gained:+,.2f}" if change.gained else "", "green" if change.gained > 0 else "red")


def _ranking(ranking: RankingDefinition, shown: ShownRanking | None, now: float, *, stale: bool) -> RenderableType:
    """One ranking; `now` in the seconds of the state's clock."""
    title = Text(ranking.title["en"], "bold")
    if shown is None:
        return Group(title, Text("no sales yet", "dim"), "")
    window, entries, status = shown.set["window"], shown.set["rankings"], shown.set["status"]
    start, end = (datetime.fromisoformat(window[key]).astimezone() for key in ("start", "end"))
    if shown.set.get("country"):
        title.append(f", {shown.set['country']}")
    title.append(f"  {start:%a %d %b %H:%M}–{end:%H:%M}  ", "not bold")
    title.append(status, "dim" if stale else STATUS[status])
    age = datetime.now(UTC) - datetime.fromisoformat(shown.set["asOf"])
    title.append(f"  as of {ago(age.total_seconds())}", "dim")
    if not entries:
        return Group(title, Text("no sales in this window", "dim"), "")
    table = Table(
        Column("#", justify="right"),
        Column("", min_width=3),
        Column(ranking.competitor["en"], min_width=14),
        Column("", width=BAR),
        Column("total, R$", justify="right", no_wrap=True),
        Column("change", justify="right", no_wrap=True, min_width=12),
        Column("sales", justify="right"),
        box=None,
        style="dim" if stale else "",
    )
    most: Decimal = max(entry["totalSales"] for entry in entries)
    for entry in entries:
        name, total = entry[NAMES[ranking.name]], entry["totalSales"]
        change = shown.changes.get(name, Change()) if now - shown.at < MARK_S else Change()
        bar = Bar(1, 0, float(total / most) if most else 0, width=BAR, color="bright_black" if stale else "cyan")
        figures = bar, f"{total:,.2f}", _total_change(change), str(entry["transactionCount"])
        table.add_row(str(entry["rank"]), _rank_change(change), name, *figures)
    return Group(title, table, "")


def _connection(state: State, now: float, address: str) -> Text:
    line = Text(f"● {state.phase}", "green" if state.phase == "live" else "yellow")
    line.append(f"  {address}  last heard {ago(now - state.heard)}", "dim")
    if state.stale(now):
        line.append("  stale: what is shown may be old", "bold red")
    return line.append(f"  {state.why}", "dim")


def screen(state: State, now: float, address: str, width: int) -> RenderableType:
    """Everything, on a terminal of `width` characters; `address` is the API's."""
    tables = [_ranking(one, state.rankings.get(one.name), now, stale=state.stale(now)) for one in RANKINGS]
    count = max(1, min(len(tables), width // WIDTH))
    grid = Table.grid(*(Column(ratio=1) for _ in range(count)), padding=(0, 3), expand=True)
    for first in range(0, len(tables), count):
        grid.add_row(*tables[first : first + count])
    return Group(grid, _connection(state, now, address))
