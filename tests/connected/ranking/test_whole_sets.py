"""What readers see of a ranking while it changes: always one of the sets that were published, never an older one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import pairwise

import pytest

from tests.histories import plain_sale
from tests.oracle import SetKey
from tests.rankings import Reader, Sales, assert_whole_and_growing, until_own_right
from tests.served import Answers, Served, Tables, from_record

pytestmark = pytest.mark.timeout(900)

HOUR = datetime(2024, 7, 1, tzinfo=UTC)
SET_KEYS = (SetKey("city", "", HOUR), SetKey("salesman", "BR", HOUR))
CYCLES = 8
READS = 500
"""Of each ranking, from the tables and over REST each: 1,000 reads of either."""

REVISIONS = 2 * CYCLES
"""So many different ones each reader must have seen at least: fewer would prove little."""


async def test_every_read_is_one_published_set(sales: Sales, reader: Reader, store: Tables, rest: Answers) -> None:
    """While a ranking goes from 10 to 7 to 0 entries and back, 2,000 reads each give one published set, in order."""
    seen: dict[str, list[Served | None]] = {}
    done = asyncio.Event()

    async def table(set_key: SetKey) -> Served | None:
        return (await store.read(set_key.ranking, [HOUR])).get(set_key)

    async def watch(name: str, set_key: SetKey, read: Callable[[SetKey], Awaitable[Served | None]]) -> None:
        answers = seen[f"{name} {set_key.ranking}"] = []
        while not done.is_set() or len(answers) < READS:
            answers.append(await read(set_key))

    def everybody_has(entries: int) -> bool:
        last = [answers[-1] if answers else None for answers in seen.values()]
        return all(one is not None and len(one.entries) == entries for one in last)

    async with asyncio.TaskGroup() as tasks:
        for set_key in SET_KEYS:
            tasks.create_task(watch("table", set_key, table))
            tasks.create_task(watch("REST", set_key, rest.one))
        for cycle in range(1, CYCLES + 1):
            twelve = [
                plain_sale(number, HOUR, sale_id=f"whole-{number}", amount=Decimal(cycle) + number, version=2 * cycle)
                for number in range(12)
            ]
            gone = [replace(sale, deleted=True, version=sale.version + 1) for sale in twelve]
            for changes, entries in ((twelve, 10), (gone[7:], 7), (gone[:7], 0)):
                await sales.publish(changes)
                await reader.until(partial(everybody_has, entries), f"all readers have {entries} entries")
        await sales.publish([replace(sale, version=2 * CYCLES + 2) for sale in twelve])
        await reader.until(lambda: everybody_has(10), "all readers have 10 entries again")
        done.set()
    await until_own_right(reader, sales, "the ranking at the end")

    published: dict[SetKey, dict[int, Served]] = {set_key: {} for set_key in SET_KEYS}
    for every in reader.sets.values():
        for set_key, one in map(from_record, every):
            if set_key in published:
                published[set_key][one.revision] = one
    for (name, answers), set_key in zip(
        seen.items(), [SET_KEYS[0], SET_KEYS[0], SET_KEYS[1], SET_KEYS[1]], strict=True
    ):
        first = next(number for number, one in enumerate(answers) if one is not None)
        got = [one for one in answers[first:] if one is not None]
        assert len(got) == len(answers) - first, f"{name}: a ranking that was served is absent later"
        wrong = [one for one in got if published[set_key].get(one.revision) != one]
        assert not wrong, f"{name}: {len(wrong)} answers are no published set, for example {wrong[0]}"
        assert all(a.revision <= b.revision for a, b in pairwise(got)), f"{name}: a revision goes back"
        assert len({one.revision for one in got}) >= REVISIONS, name
        assert {0, 7, 10} <= {len(one.entries) for one in got}, name
    assert_whole_and_growing(reader)
