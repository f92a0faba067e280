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
BOARDS = (SetKey("city", "", HOUR), SetKey("salesman", "BR", HOUR))
CYCLES = 8
READS = 500
"""Of each ranking, from the tables and over REST each: 1,000 reads of either."""

REVISIONS = 2 * CYCLES
"""So many different ones each reader must have seen at least: fewer would prove little."""


async def test_every_read_is_one_published_set(sales: Sales, reader: Reader, store: Tables, rest: Answers) -> None:
    """While a ranking goes from 10 to 7 to 0 entries and back, 2,000 reads each give one published set, in order."""
    seen: dict[str, list[Served | None]] = {}
    done = asyncio.Event()

    async def table(board: SetKey) -> Served | None:
        return (await store.read(board.ranking, [HOUR])).get(board)

    async def watch(name: str, board: SetKey, read: Callable[[SetKey], Awaitable[Served | None]]) -> None:
        answers = seen[f"{name} {board.ranking}"] = []
        while not done.is_set() or len(answers) < READS:
            answers.append(await read(board))

    def everybody_has(entries: int) -> bool:
        last = [answers[-1] if answers else None for answers in seen.values()]
        return all(one is not None and len(one.places) == entries for one in last)

    async with asyncio.TaskGroup() as tasks:
        for board in BOARDS:
            tasks.create_task(watch("table", board, table))
            tasks.create_task(watch("REST", board, rest.one))
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

    published: dict[SetKey, dict[int, Served]] = {board: {} for board in BOARDS}
    for every in reader.sets.values():
        for board, one in map(from_record, every):
            if board in published:
                published[board][one.revision] = one
    for (name, answers), board in zip(seen.items(), [BOARDS[0], BOARDS[0], BOARDS[1], BOARDS[1]], strict=True):
        first = next(place for place, one in enumerate(answers) if one is not None)
        got = [one for one in answers[first:] if one is not None]
        assert len(got) == len(answers) - first, f"{name}: a ranking that was served is absent later"
        wrong = [one for one in got if published[board].get(one.revision) != one]
        assert not wrong, f"{name}: {len(wrong)} answers are no published set, for example {wrong[0]}"
        assert all(a.revision <= b.revision for a, b in pairwise(got)), f"{name}: a revision goes back"
        assert len({one.revision for one in got}) >= REVISIONS, name
        assert {0, 7, 10} <= {len(one.places) for one in got}, name
    assert_whole_and_growing(reader)
