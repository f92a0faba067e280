"""`python -m services.clickhouse_sink.ddl`: create the database and its tables, and fill what is new; idempotent.

The tables are those of deploy/clickhouse/ddl/*.sql, and for each ranking and window length one of its template.
"""

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from asynch.errors import ServerException

from chassis.clickhouse import SETTING, ClickHouse, StoreUnavailableError, clickhouse, rejection
from chassis.datasets import Fields, named_fields
from chassis.settings import ClickHouseSettings, RankingSettings, load
from contracts.rankings import RANKINGS
from contracts.windows import WindowLength, tables
from services.clickhouse_sink.backfill import fill
from services.clickhouse_sink.mapping import TableMapping

DDL_FOLDER = Path(__file__).parents[2] / "deploy" / "clickhouse" / "ddl"
TIMEOUT_S = 30.0
FILL_TIMEOUT_S = 1800.0
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\n\((.*?)\n\)", re.S)
_COLUMN = re.compile(r"^    (\w+) ([A-Z]\w+(?:\([^)]*\))?)", re.M)


def statements(text: str) -> Iterator[str]:
    """The statements of a script: `--` comment lines dropped, split at a semicolon that ends a line."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    for part in f"{code}\n".split(";\n"):
        if part.strip():
            yield part.strip()


def scripts(lengths: Sequence[WindowLength]) -> dict[str, str]:
    """What creates the tables, in the order of its use: each file by its name, each ranking by its table."""
    template = Template((DDL_FOLDER / "ranking.sql.template").read_text("utf-8"))
    return {path.name: path.read_text("utf-8") for path in sorted(DDL_FOLDER.glob("*.sql"))} | {
        table: template.substitute(
            table=table,
            column=ranking.column,
            country_column="\n    country String," if ranking.per_country else "",
            country_key="country, " if ranking.per_country else "",
        )
        for ranking in RANKINGS
        for table in tables(ranking.table, lengths).values()
    }


def table_fields(mapping: TableMapping, lengths: Sequence[WindowLength]) -> Fields:
    """The columns of the mapping's table with their types, for lineage; none where no script makes the table."""
    bodies = {table: body for text in scripts(lengths).values() for table, body in _TABLE.findall(text)}
    columns = _COLUMN.findall(bodies.get(mapping.table, ""))
    return named_fields((name, kind) for name, kind in columns if name in mapping.columns)


def _emit(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def apply(settings: ClickHouseSettings, texts: Mapping[str, str]) -> None:
    """Create the database, run every statement of `texts` in it, and fill the tables that an older state has not had.

    Prints its progress where that takes longer.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
        ServerException: it rejects a statement.
    """
    system = ClickHouse(settings, 1, TIMEOUT_S, database="default")
    try:
        await system.execute(f"CREATE DATABASE IF NOT EXISTS `{settings.db}`")
    finally:
        await system.close()
    async with clickhouse(settings, 1, TIMEOUT_S) as store:
        for text in texts.values():
            for statement in statements(text):
                await store.execute(statement)
    async with clickhouse(settings, 1, FILL_TIMEOUT_S) as store:
        await fill(store, _emit)


def main() -> int:
    """Apply, print what was applied, and return the exit status."""
    settings, texts = load(ClickHouseSettings), scripts(load(RankingSettings).lengths)
    try:
        asyncio.run(apply(settings, texts))
    except StoreUnavailableError as error:
        sys.stderr.write(f"tables not created: clickhouse at {settings.address} (setting {SETTING}): {error}\n")
        return 1
    except ServerException as error:
        sys.stderr.write(f"tables not created: clickhouse at {settings.address} rejects: {rejection(error)}\n")
        return 1
    _emit(f"database {settings.db}: {', '.join(texts)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
