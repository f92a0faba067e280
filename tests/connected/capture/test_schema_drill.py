"""The schema evolution drill: the table gets a nullable column while sales are made."""

import asyncio
from collections.abc import Iterator, Mapping

import pytest

from tests.connected.capture.debezium import DEADLINE_S, captured, connected, shop
from tests.connected.streams import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def _capture(servers: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The table is captured while these tests run."""
    with captured(servers, tmp_path_factory.mktemp("cdc") / "log"):
        yield


async def test_a_nullable_column_is_added_while_sales_are_made(servers: Mapping[str, str]) -> None:
    """Nothing stops and nothing is lost when the table gets a nullable column in the middle of sales."""
    async with shop(servers) as opened:
        ids, sold = opened.next_ids(100_000), 0
        stop = asyncio.Event()

        async def keep_selling() -> None:
            nonlocal sold
            while not stop.is_set():
                await opened.sell(ids[sold])
                await opened.sql.execute("UPDATE sales SET amount = 2.00 WHERE id = $1", ids[sold])
                sold += 1

        async def more(number: int) -> None:
            wanted = sold + number

            async def enough() -> bool:
                assert not selling.done(), selling.exception()
                state, trace = await opened.status()
                assert state == "RUNNING", trace
                return sold >= wanted

            await until(enough, f"{number} more sales are made", DEADLINE_S)

        selling = asyncio.create_task(keep_selling())
        other = await connected(servers)
        try:
            await more(50)
            await other.execute("ALTER TABLE sales ADD COLUMN channel varchar(20)")
            await more(50)
            await other.execute("UPDATE sales SET channel = 'shop' WHERE id = $1", ids[0])
            await more(50)
            stop.set()
            await selling
            made = ids[:sold]
            await opened.agree(made, "with the new column")
            assert not await opened.rejected(made)
            assert await opened.status() == ("RUNNING", "")
        finally:
            stop.set()
            await asyncio.wait({selling})
            await other.execute("ALTER TABLE sales DROP COLUMN IF EXISTS channel")
            await other.close()
        await opened.sell(ids[sold])
        await opened.agree(ids[: sold + 1], "with the column dropped again")
