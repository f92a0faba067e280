"""The tables of the rankings on a real server: what a table of an earlier version becomes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from contracts.windows import DEFAULT, window_lengths
from services.clickhouse_sink import ddl
from tests.connected.serving import database

TABLE = "top_sales_city"
COLUMNS = ["window_start", "rank", "city", "total_sales", "revision"]
START = datetime(2026, 2, 19, 10, tzinfo=UTC)


async def test_the_totals_of_an_earlier_table_are_widened(servers: Mapping[str, str]) -> None:
    """A table with totals below 10^16 keeps its rows and takes larger ones; doing it again changes nothing."""
    scripts = ddl.scripts(window_lengths(DEFAULT))
    large = Decimal("123456789012345678901234567890.12")
    async with database(servers) as db:
        await db.store.execute(f"DROP TABLE {TABLE}")
        created = next(iter(ddl.statements(scripts[TABLE])))
        await db.store.execute(created.replace("Decimal(38, 2)", "Decimal(18, 2)"))
        await db.store.insert(TABLE, COLUMNS, [(START, 1, "Natal", Decimal("9999999999999999.99"), 1)])
        for _ in range(2):
            await ddl.apply(db.settings, scripts)
            kind = await db.store.select("SELECT toTypeName(total_sales) FROM top_sales_city LIMIT 1")
            assert kind == [("Decimal(38, 2)",)]
        await db.store.insert(TABLE, COLUMNS, [(START, 2, "Recife", large, 1)])
        totals = await db.store.select("SELECT rank, total_sales FROM top_sales_city FINAL ORDER BY rank")
        assert totals == [(1, Decimal("9999999999999999.99")), (2, large)]
