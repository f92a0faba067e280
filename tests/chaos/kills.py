"""What is killed, in which order, and how long the job may be unavailable after it."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BOUNDS_S = {
    "taskmanager": 30,
    "jobmanager": 60,
    "taskmanager+jobmanager": 60,
    # the broker boots and recovers its logs in about 10 s; its clients ask again every second or so
    "kafka": 45,
}
"""Kind of kill -> seconds within which the job is back (Kafka: within which sets arrive), on 2 idle cores."""

PATIENCE = 6
"""A test fails only after so many times the bound: on a machine that others use the same boot was seen to take four
times as long, and then a tight limit would fail for their reasons. What was measured is in the table."""

NEVER = float("inf")


@dataclass(frozen=True)
class Kill:
    """One kill and what was measured after it, in seconds from the kill; NEVER: not within the deadline.

    `running_s`: every task of the job runs, by Flink's REST API; None where the job was not to stop. `data_s`: what was
    made after the job was back arrives where the kill had cut it off. `load` is the load average (1 minute) then.
    """

    victims: tuple[str, ...]
    bound_s: int | None
    running_s: float | None
    data_s: float
    load: float


def order(seed: int, count: int) -> Iterator[str]:
    """`count` kinds of kill: each once in an order that the seed decides, then each once in another, and so on."""
    chance = random.Random(seed)
    dealt: list[str] = []
    for _ in range(count):
        dealt = dealt or chance.sample(sorted(BOUNDS_S), len(BOUNDS_S))
        yield dealt.pop()


def table(kills: Sequence[Kill]) -> list[str]:
    """The kills as lines of text under a heading."""

    def seconds(value: float | None) -> str:
        return "" if value is None else "never" if value == NEVER else f"{value:.1f}"

    rows = [("", "killed", "job runs after s", "data after s", "bound s", "load")]
    for number, kill in enumerate(kills, start=1):
        times = (seconds(kill.running_s), seconds(kill.data_s), str(kill.bound_s or ""))
        rows.append((str(number), " ".join(kill.victims), *times, f"{kill.load:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
