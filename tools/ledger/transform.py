"""Pure rules of the ledger: what a sale is called at each step, and where one is missing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from contracts.versions import MAX_VERSION
from tools.raw_sales import SaleVersion

Step = Literal["source", "topic", "unified", "clickhouse"]
STEPS: tuple[Step, ...] = ("source", "topic", "unified", "clickhouse")

DELIVERING = ("shopify", "stripe")
"""The sources that deliver by webhooks, and are not asked what they have."""

Sales = dict[str, SaleVersion]
"""The sales of one source by id, each as its newest version is."""


class Period(NamedTuple):
    """From `start` up to but not `end`, in milliseconds since 1970."""

    start: int
    end: int

    def has(self, at: int | None) -> bool:
        """Whether the instant is one, and in the period."""
        return at is not None and self.start <= at < self.end


@dataclass
class Steps:
    """The sales of one source at every step; `dead` are those that became dead letters on the way to a step.

    `newest` is the partition and offset of each sale's newest record in the source's topic, and `dead_records` are
    those of its dead letters. `cut` are the steps whose topic has lost its beginning to retention.
    """

    sales: dict[Step, Sales] = field(default_factory=lambda: {step: {} for step in STEPS})
    dead: dict[Step, set[str]] = field(default_factory=lambda: {step: set() for step in STEPS})
    newest: dict[str, tuple[int, int]] = field(default_factory=dict)
    dead_records: set[tuple[int, int]] = field(default_factory=set)
    cut: set[Step] = field(default_factory=set)


@dataclass(frozen=True)
class Account:
    """How many sales of one source are at each step, became dead letters, and are missing: by step, their ids.

    At a source that is not asked, because it delivers by itself, the number is None.
    `outdated` are the ids of those that are ranked by an older version, because their newest change is a dead letter.
    """

    counts: Mapping[Step, int | None]
    dead: int
    missing: Mapping[Step, list[str]]
    outdated: list[str] = field(default_factory=list)


def enter_newest(sales: Sales, name: str | None, version: SaleVersion) -> bool:
    """Enter a sale's version, unless a newer one was entered before; whether it was entered."""
    entered = name is not None and (name not in sales or version.version >= sales[name].version)
    if entered:
        sales[str(name)] = version
    return entered


def within(steps: Steps, period: Period) -> set[str]:
    """The sales that happened in the period at any step."""
    return {name for sales in steps.sales.values() for name, version in sales.items() if period.has(version.at)}


def _states(source: str, steps: Steps, name: str) -> Iterator[tuple[Step, bool | None]]:
    """Whether the sale is there (True), deleted (False) or unknown (None), step by step.

    What the database does not have (any more) was deleted; a file that vanished or a book that forgot says nothing.
    """
    for step in STEPS:
        version = steps.sales[step].get(name)
        if version is not None:
            yield step, not version.deleted
        else:
            yield step, False if step == "source" and source == "postgres" else None


def missing_at(source: str, steps: Steps, name: str) -> Step | None:
    """The first step that does not have the sale as the step before it does; None where none lacks it.

    A sale that is deleted need not be known. One that a later step has was not lost where retention removed it.
    """
    states = dict(_states(source, steps, name))
    expected: bool | None = None
    for number, step in enumerate(STEPS):
        state = states[step]
        if expected is None or state == expected or (expected is False and state is None):
            expected = state if expected is None else expected
        elif step == "topic" and expected is False and states["unified"] is False:
            continue  # a resnapshot publishes what is gone as deleted, past the raw topic
        elif step == "unified" and state is False and steps.sales[step][name].version == MAX_VERSION:
            expected = False  # an order names it as its payment; that order may be older than what was read
        elif not (step in steps.cut and any(states[later] == expected for later in STEPS[number + 1 :])):
            return step
    unified, stored = (steps.sales[step].get(name) for step in ("unified", "clickhouse"))
    return "clickhouse" if unified and stored and stored.version < unified.version else None


def account(source: str, steps: Steps, names: set[str]) -> Account:
    """Count the sales of these names at each step, and find what is missing."""

    def counted(step: Step, name: str) -> bool:
        return name in steps.sales[step] and not steps.sales[step][name].deleted

    counts: dict[Step, int | None] = {step: sum(counted(step, name) for name in names) for step in STEPS}
    if source in DELIVERING:
        counts["source"] = None
    dead = 0
    missing: dict[Step, list[str]] = {step: [] for step in STEPS}
    outdated = []
    for name in sorted(names):
        step = missing_at(source, steps, name)
        if step is not None and name in steps.dead[step]:
            dead += 1
        elif step is not None:
            missing[step].append(name)
        elif steps.newest.get(name) in steps.dead_records and counted("clickhouse", name):
            outdated.append(name)
    return Account(counts, dead, missing, outdated)


def still_missing(before: Mapping[str, Account], now: Mapping[str, Account]) -> dict[str, Account]:
    """The newer reading, of what is missing only what was missing before too: sales go on arriving meanwhile."""
    kept = {}
    for source, read in now.items():
        suspects = {name for names in before[source].missing.values() for name in names}
        missing = {step: [name for name in names if name in suspects] for step, names in read.missing.items()}
        kept[source] = replace(read, missing=missing)
    return kept


def count_missing(accounts: Mapping[str, Account]) -> int:
    """How many sales are missing."""
    return sum(len(names) for one in accounts.values() for names in one.missing.values())
