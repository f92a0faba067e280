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


# a change of columns that the contract does not read: what makes it, what takes it back
UNUSED = {
    "default that the registry cannot read": (
        "ALTER TABLE sales ADD COLUMN extra jsonb NOT NULL DEFAULT '{}'",
        "ALTER TABLE sales DROP COLUMN extra",
    ),
    "array with a default": (
        "ALTER TABLE sales ADD COLUMN tags text[] NOT NULL DEFAULT '{}'",
        "ALTER TABLE sales DROP COLUMN tags",
    ),
    "names that are one in Avro": (
        'ALTER TABLE sales ADD COLUMN "sales-channel" text, ADD COLUMN "sales channel" text',
        'ALTER TABLE sales DROP COLUMN "sales-channel", DROP COLUMN "sales channel"',
    ),
    "renamed": (
        "ALTER TABLE sales RENAME COLUMN created_at TO made_at",
        "ALTER TABLE sales RENAME COLUMN made_at TO created_at",
    ),
    "another type": (
        "ALTER TABLE sales ALTER COLUMN created_at TYPE text USING created_at::text",
        "ALTER TABLE sales ALTER COLUMN created_at TYPE timestamp USING created_at::timestamp",
    ),
}


@pytest.mark.parametrize("change", list(UNUSED))
async def test_columns_that_are_not_used(servers: Mapping[str, str], change: str) -> None:
    """A change of columns that the contract does not read touches neither capture nor the registered schemas."""
    there, back = UNUSED[change]
    async with shop(servers) as opened:
        before, during, after = ids = opened.next_ids(3)
        await opened.sell(before)
        await opened.agree([before], "before")
        schemas = await opened.schemas()
        default = "SELECT column_default FROM information_schema.columns WHERE table_name = $1 AND column_name = $2"
        made = await opened.sql.fetchval(default, "sales", "created_at")
        try:
            await opened.sql.execute("ALTER TABLE sales ALTER created_at DROP DEFAULT")
            await opened.sql.execute("ALTER TABLE sales ALTER created_at DROP NOT NULL")
            await opened.sql.execute(there)
            await opened.sell(during)
            await opened.sql.execute("UPDATE sales SET amount = 2.00 WHERE id = $1", before)
            await opened.agree(ids, "while it is changed")
        finally:
            await opened.sql.execute(back)
            await opened.sql.execute(f"ALTER TABLE sales ALTER created_at SET DEFAULT {made}")
        await opened.sell(after)
        await opened.agree(ids, "changed back")
        assert not await opened.rejected(ids)
        assert await opened.schemas() == schemas
        assert await opened.status() == ("RUNNING", "")


async def test_a_used_column_renamed_and_back(servers: Mapping[str, str]) -> None:
    """While a used column has another name changes are dead letters; once it is back, `resnapshot` makes all count.

    The schema that was registered meanwhile does not stop a later change of the table.
    """
    async with shop(servers) as opened:
        before, during, after, wide = ids = opened.next_ids(4)
        await opened.sell(before)
        await opened.agree([before], "before")
        await opened.sql.execute("ALTER TABLE sales RENAME COLUMN city TO town")
        try:
            await opened.sql.execute(
                "INSERT INTO sales (id, salesman_id, salesman, town, amount, product)"
                " VALUES ($1, $2, 'Ana', 'Recife', 1, 'SSD')",
                during,
                opened.seller,
            )

            async def judged() -> bool:
                return await opened.rejected([during]) == {str(during): "schema_incompatible"}

            await until(judged, "the change is a dead letter", DEADLINE_S)
        finally:
            await opened.sql.execute("ALTER TABLE sales RENAME COLUMN town TO city")
        await opened.sell(after)
        await opened.resnapshot()
        await opened.agree([before, during, after], "back, and read again")
        await opened.sql.execute("ALTER TABLE sales ADD COLUMN channel varchar(20)")
        await opened.sql.execute("ALTER TABLE sales ALTER COLUMN amount TYPE decimal(14, 2)")
        try:
            await opened.sell(wide)
            await opened.agree(ids, "and changed once more")
            assert await opened.status() == ("RUNNING", "")
        finally:
            await opened.sql.execute("ALTER TABLE sales DROP COLUMN channel")
            await opened.sql.execute("ALTER TABLE sales ALTER COLUMN amount TYPE decimal(12, 2)")
