"""How the state looks: two tables side by side and a line about the connection."""

from datetime import UTC, datetime
from decimal import Decimal

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from tools.watch.transform import NAMES, Board, Change, Frame, State, instant

TITLES = {"city": "Top cities", "salesman": "Top salespeople"}
STATUS = {"provisional": "yellow", "final": "green", "corrected": "blue"}
MARK_S = 8.0  # how long a change stays marked
BAR = 12
SIDE_BY_SIDE = 150  # columns from which both tables fit beside each other


def ago(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def span(found: Frame) -> str:
    """A window on the clock of this machine."""
    start, end = (instant(found["window"][key]).astimezone() for key in ("start", "end"))
    return f"{start:%a %d %b %H:%M}–{end:%H:%M}"


def moved(change: Change) -> Text:
    """A mark for the ranks that it rose or fell."""
    if change.is_new:
        return Text("new", "green")
    if change.rose:
        return Text(f"{'▲' if change.rose > 0 else '▼'}{abs(change.rose)}", "green" if change.rose > 0 else "red")
    return Text("")


def gained(change: Change) -> Text:
    """By how much its total changed."""
    return Text(f"{change.gained:+,.2f}", "green" if change.gained > 0 else "red") if change.gained else Text("")


def board_table(ranking: str, board: Board | None, now: float, clock: datetime, *, stale: bool) -> RenderableType:
    """One ranking; `now` in the seconds of the state's clock, `clock` the time of day."""
    table = Table(
        Column("#", justify="right"),
        Column("", min_width=3),
        Column(TITLES[ranking].split()[1].capitalize(), min_width=14),
        Column("", width=BAR),
        Column("total, R$", justify="right", no_wrap=True),
        Column("change", justify="right", no_wrap=True, min_width=12),
        Column("sales", justify="right"),
        box=None,
        title_justify="left",
        style="dim" if stale else "",
    )
    title = Text(TITLES[ranking], "bold")
    if board is None:
        return Group(title, Text("no sales yet", "dim"))
    found = board.found
    if found.get("country"):
        title.append(f", {found['country']}")
    title.append(f"  {span(found)}  ", "not bold")
    title.append(found["status"], "dim" if stale else STATUS[found["status"]])
    title.append(f"  as of {ago((clock - instant(found['asOf'])).total_seconds())}", "dim")
    fresh = board.changes if now - board.at < MARK_S else {}
    most: Decimal = max((entry["totalSales"] for entry in found["rankings"]), default=Decimal(0))
    for entry in found["rankings"]:
        name = entry[NAMES[ranking]]
        change = fresh.get(name, Change())
        total = entry["totalSales"]
        bar = Bar(1, 0, float(total / most) if most else 0, width=BAR, color="bright_black" if stale else "cyan")
        table.add_row(
            str(entry["rank"]),
            moved(change),
            name,
            bar,
            f"{total:,.2f}",
            gained(change),
            str(entry["transactionCount"]),
        )
    return Group(title, table if found["rankings"] else Text("no sales in this window", "dim"))


def status_line(state: State, now: float, place: str) -> Text:
    """The connection, and how fresh the tables are."""
    colour = {"live": "green", "connecting": "yellow", "reconnecting": "yellow"}[state.phase]
    line = Text(f"● {state.phase}", colour)
    line.append(f"  {place}  last heard {ago(now - state.heard)}", "dim")
    if state.stale(now):
        line.append("  stale: what is shown may be old", "bold red")
    if state.why:
        line.append(f"  {state.why}", "dim")
    return line


def screen(state: State, now: float, place: str, width: int) -> RenderableType:
    """Everything; `width` in columns decides whether the tables stand beside each other."""
    clock, stale = datetime.now(UTC), state.stale(now)
    tables = [board_table(name, state.boards.get(name), now, clock, stale=stale) for name in NAMES]
    if width < SIDE_BY_SIDE:
        return Group(tables[0], Text(""), tables[1], Text(""), status_line(state, now, place))
    grid = Table.grid(Column(ratio=1), Column(ratio=1), padding=(0, 3), expand=True)
    grid.add_row(*tables)
    return Group(grid, Text(""), status_line(state, now, place))
