"""Small random histories against the job's SQL on the real cluster; what fails is made as small as time allows."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.catalogue import catalogue
from contracts.rankings import RANKINGS
from tests import oracle
from tests.histories import EFFECTS, HOUR, Change, effects, plain_sale
from tests.rankings import SALES, Reader, Sales, assert_whole_and_growing, follower, publisher
from tests.runtime import Runtime

pytestmark = pytest.mark.timeout(900)

START = datetime(2024, 8, 1, tzinfo=UTC)
SENTINELS = datetime(2024, 7, 15, tzinfo=UTC)
NAMES = 12
HOURS = 2
EXAMPLES = 40
SHRINKING_S = 60


@dataclass(frozen=True)
class Step:
    """One change of an example, in small numbers."""

    sale: int
    version: int
    hour: int
    city: int
    person: int
    country: str
    amount: Decimal
    deleted: bool

    def change(self, example: int) -> Change:
        """The change, in the example's own hours and of its own sales; two sources use the same ids."""
        return plain_sale(
            0,
            START + (HOURS * example + self.hour) * HOUR + timedelta(minutes=self.sale),
            sale_id=f"random-{example}-{self.sale // 2}",
            source=("postgres", "files")[self.sale % 2],
            version=self.version,
            city=f"Cidade {self.city:02}",
            salesman_name=f"Vendedor {self.person:02}",
            product=f"Produto {self.city:02}",
            country=self.country,
            amount=self.amount,
            deleted=self.deleted,
        )


STEPS = st.lists(
    st.builds(
        Step,
        sale=st.integers(0, 3) | st.integers(0, NAMES - 1),
        version=st.integers(1, 5),
        hour=st.integers(0, HOURS - 1),
        city=st.integers(0, 2) | st.integers(0, NAMES - 1),
        person=st.integers(0, 2) | st.integers(0, NAMES - 1),
        country=st.sampled_from(["BR", "PT"]),
        amount=st.sampled_from([Decimal("10.00"), Decimal("20.00"), Decimal("0.01"), Decimal("9999999999999.99")]),
        deleted=st.booleans(),
    ),
    max_size=20,
)
CROWD = [Step(n, 1, 0, n, n, "BR", Decimal("10.00"), deleted=False) for n in range(NAMES)]
"""Twelve equal sales: two names wait beyond the tenth rank for the changes that follow."""

Burst = tuple[Step, ...]


def _example(crowd: Sequence[Step], first: Sequence[Step], then: Sequence[Step], end: Mapping[str, Any]) -> list[Burst]:
    """Two bursts of changes; the second ends with every sale deleted or moved to one hour, where `end` says so."""
    last = {step.sale: replace(step, version=9, **end) for step in (*crowd, *first, *then)} if end else {}
    return [(*crowd, *first), (*then, *last.values())]


EXAMPLE = st.builds(
    _example,
    st.sampled_from([[], CROWD]),
    STEPS,
    STEPS,
    st.sampled_from([{}, {}, {"deleted": True}, {"deleted": False, "hour": 0}, {"deleted": False, "hour": 1}]),
)

KINDS = {*EFFECTS, "version again with other values", "emptied window", "equal totals", "full ranking"}
"""What the examples must have among them, so that their being right says something."""


@dataclass
class Playground:
    """The runtime as the examples use it."""

    sales: Sales
    reader: Reader
    kinds: Counter[str]
    examples: int = 0
    rounds: int = 0

    async def differences(self, bursts: Sequence[Burst]) -> str:
        """How the hours of an example differ from the oracle's after one of its bursts is processed, or ''."""
        number, self.examples = self.examples, self.examples + 1
        hours = {START + (HOURS * number + hour) * HOUR for hour in range(HOURS)}
        changes: list[Change] = []
        for burst in bursts:
            new = [step.change(number) for step in burst]
            changes += new
            await self.sales.publish(new)
            for _ in range(2):
                await self._everything_processed()
            want, have = oracle.expected(change.record() for change in changes), self.reader.served(hours)
            if differences := oracle.differences(want, have):
                return "; ".join(differences)
            self.kinds.update(_kinds(changes, want, have))
        return ""

    async def _everything_processed(self) -> None:
        """Sell something for ten names in each partition, and wait until the sets of their own hours show all of it.

        Ten in each, so that they take every way through the job that a sale can take; what was published before is
        then ahead of them, or waits in the same batch, and is out at the next round.
        """
        self.rounds += 1
        hours = [SENTINELS + number * HOUR for number in range(catalogue()[SALES].partitions)]
        for partition, hour in enumerate(hours):
            names = [f"sentinel-{partition}-{number}-{self.rounds}" for number in range(10)]
            sold = [plain_sale(n, hour, sale_id=name, amount=Decimal("1.00")) for n, name in enumerate(names)]
            await self.sales.publish(sold, partition)

        def seen() -> bool:
            served = self.reader.served(hours)
            return all(
                [entry.count for entry in served.get(set_key, ())] == [self.rounds] * 10
                for hour in hours
                for ranking in RANKINGS
                for set_key in [oracle.SetKey(ranking.name, "BR" if ranking.per_country else "", hour)]
            )

        await self.reader.until(seen, "the sentinels are seen", deadline_s=120)


def _kinds(changes: Sequence[Change], want: oracle.Rankings, have: oracle.Rankings) -> set[str]:
    """What the example has of the cases that matter."""
    kinds = set(effects(changes))
    if any(not entries and set_key not in want for set_key, entries in have.items()):
        kinds.add("emptied window")
    if any(len({entry.total for entry in entries}) < len(entries) for entries in want.values()):
        kinds.add("equal totals")
    if any(len(entries) == 10 for entries in want.values()):
        kinds.add("full ranking")
    return kinds


def test_random_changes_end_in_the_rankings_of_the_oracle(
    runtime: Runtime, settled: dict[oracle.SetKey, tuple[oracle.Entry, ...]]
) -> None:
    """Whatever happens to a few sales: once it is processed, the hours hold the oracle's rankings, or nothing."""
    wrong: dict[str, str] = {}
    until_s = float("inf")
    kinds: Counter[str] = Counter()

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def enter() -> Playground:
            sales = await stack.enter_async_context(publisher(runtime, []))
            return Playground(sales, await stack.enter_async_context(follower(runtime)), kinds)

        playground = runner.run(enter())

        @settings(max_examples=EXAMPLES)
        @given(EXAMPLE)
        def check(bursts: list[Burst]) -> None:
            nonlocal until_s
            name = repr(bursts)
            if name not in wrong and time.monotonic() < until_s:
                try:
                    differences = runner.run(playground.differences(bursts))
                except AssertionError as error:
                    differences = str(error)
                if differences:
                    wrong[name] = differences
                    until_s = min(until_s, time.monotonic() + SHRINKING_S)
            assert name not in wrong, wrong[name]

        try:
            check()
            assert_whole_and_growing(playground.reader)
        finally:
            settled.update(oracle.expected(playground.sales.published))
            runner.run(stack.aclose())
    assert set(kinds) == KINDS, f"the examples lack {KINDS - set(kinds)}"
