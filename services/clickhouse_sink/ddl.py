"""`python -m services.clickhouse_sink.ddl`: create the database and its tables; idempotent.

The tables are those of deploy/clickhouse/ddl/*.sql, and for each further window length of RANKING_WINDOWS one like that
of the ranking itself.
"""

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asynch.errors import ServerException

from chassis.clickhouse import SETTING, ClickHouse, StoreUnavailableError, clickhouse, rejection
from chassis.datasets import Fields, named_fields
from chassis.settings import ClickHouseSettings, load
from contracts.windows import RANKING_TOPICS, WindowLength, tables
from services.clickhouse_sink.mapping import MappingError, TableMapping, load_mappings
from services.clickhouse_sink.settings import SinkSettings

DDL_FOLDER = Path(__file__).parents[2] / "deploy" / "clickhouse" / "ddl"
TIMEOUT_S = 30.0
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\n\((.*?)\n\)", re.S)
_COLUMN = re.compile(r"^    (\w+) ([A-Z]\w+(?:\([^)]*\))?)", re.M)


def statements(text: str) -> Iterator[str]:
    """The statements of a file: `--` comment lines dropped, split at a semicolon that ends a line."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    for part in f"{code}\n".split(";\n"):
        if part.strip():
            yield part.strip()


def scripts(folder: Path = DDL_FOLDER) -> dict[str, str]:
    """The text of each file by its name, in the order in which they are applied."""
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.sql"))}


def table_fields(mapping: TableMapping, folder: Path = DDL_FOLDER) -> Fields:
    """The columns of the mapping's table with their types, for lineage; those of its DDL, or of its ranking's."""
    written = {table: body for text in scripts(folder).values() for table, body in _TABLE.findall(text)}
    body = max((name for name in written if mapping.table.startswith(name)), key=len, default="")
    columns = _COLUMN.findall(written.get(body, ""))
    return named_fields((name, kind) for name, kind in columns if name in mapping.columns)


def further_tables(mappings: Mapping[str, TableMapping], lengths: Sequence[WindowLength]) -> dict[str, str]:
    """For each further window length of each ranking the statement that makes its table, by the table's name."""
    return {
        table: f"CREATE TABLE IF NOT EXISTS {table} AS {mapping.table}"
        for base, mapping in mappings.items()
        if base.startswith(RANKING_TOPICS)
        for table in tables(mapping.table, lengths).values()
        if table != mapping.table
    }


async def apply(settings: ClickHouseSettings, texts: Mapping[str, str]) -> None:
    """Create the database and run every statement of `texts` in it.

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


def main() -> int:
    """Apply, print what was applied, and return the exit status."""
    given = load(SinkSettings)
    settings = given.clickhouse
    try:
        texts = {**scripts(), **further_tables(load_mappings(given.mappings), given.ranking.lengths)}
        asyncio.run(apply(settings, texts))
    except MappingError as error:
        sys.stderr.write(f"tables not created: {error}\n")
        return 1
    except StoreUnavailableError as error:
        sys.stderr.write(f"tables not created: clickhouse at {settings.address} (setting {SETTING}): {error}\n")
        return 1
    except ServerException as error:
        sys.stderr.write(f"tables not created: clickhouse at {settings.address} rejects: {rejection(error)}\n")
        return 1
    sys.stdout.write(f"database {settings.db}: {', '.join(texts)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
