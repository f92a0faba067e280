"""Pure rules of the ledger: what a sale is called at each step, and where one is missing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tools.raw_sales import SaleVersion

Step = Literal["source", "topic", "unified", "clickhouse"]
STEPS: tuple[Step, ...] = ("source", "topic", "unified", "clickhouse")
SOURCES = ("postgres", "files", "legacy")


Sales = dict[str, SaleVersion]
"""The sales of one source by id, each as its newest version says."""


@dataclass
class Steps:
    """The sales of one source at every step; `dead` are those that became dead letters on the way to a step.

    `cut` are the steps whose topic has lost its beginning to retention.
    """

    sales: dict[Step, Sales] = field(default_factory=lambda: {step: {} for step in STEPS})
    dead: dict[Step, set[str]] = field(default_factory=lambda: {step: set() for step in STEPS})
    cut: set[Step] = field(default_factory=set)


@dataclass(frozen=True)
class Account:
    """How many sales of one source are at each step, became dead letters, and are missing: by step, their ids."""

    counts: Mapping[Step, int]
    dead: int
    missing: Mapping[Step, list[str]]


def newest(sales: Sales, name: str | None, seen: SaleVersion) -> None:
    """Enter what a record says of a sale, unless a newer version was entered before."""
    if name is not None and (name not in sales or seen.version >= sales[name].version):
        sales[name] = seen


def within(steps: Steps, start: int, end: int) -> set[str]:
    """The sales that happened in the period (ms since 1970, `end` excluded) as any step says."""
    return {
        name
        for sales in steps.sales.values()
        for name, seen in sales.items()
        if seen.at is not None and start <= seen.at < end
    }


def _states(source: str, steps: Steps, name: str) -> Iterator[tuple[Step, bool | None]]:
    """Whether the sale is there (True), deleted (False) or unknown (None), step by step.

    What the database does not have (any more) was deleted; a file that vanished or a book that forgot says nothing.
    """
    for step in STEPS:
        seen = steps.sales[step].get(name)
        if seen is not None:
            yield step, not seen.gone
        else:
            yield step, False if step == "source" and source == "postgres" else None


def missing_at(source: str, steps: Steps, name: str) -> Step | None:
    """The first step that does not have the sale as the step before it does; None where none lacks it.

    A sale that is deleted need not be known. One that a later step has was not lost where retention took it away.
    """
    states = dict(_states(source, steps, name))
    expected: bool | None = None
    for number, step in enumerate(STEPS):
        state = states[step]
        if expected is None or state == expected or (expected is False and state is None):
            expected = state if expected is None else expected
        elif step == "topic" and expected is False and states["unified"] is False:
            continue  # task resnapshot publishes what is gone as deleted, past the raw topic
        elif not (step in steps.cut and any(states[later] == expected for later in STEPS[number + 1 :])):
            return step
    unified, stored = (steps.sales[step].get(name) for step in ("unified", "clickhouse"))
    return "clickhouse" if unified and stored and stored.version < unified.version else None


def account(source: str, steps: Steps, names: set[str]) -> Account:
    """Count the sales of these names at each step, and find what is missing."""
    counts = {
        step: sum(1 for name in names if (seen := steps.sales[step].get(name)) is not None and not seen.gone)
        for step in STEPS
    }
    dead = 0
    missing: dict[Step, list[str]] = {step: [] for step in STEPS}
    for name in sorted(names):
        step = missing_at(source, steps, name)
        if step is not None and name in steps.dead[step]:
            dead += 1
        elif step is not None:
            missing[step].append(name)
    return Account(counts, dead, missing)
