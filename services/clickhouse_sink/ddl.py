"""`python -m services.clickhouse_sink.ddl`: create the database and apply deploy/clickhouse/ddl/*.sql; idempotent."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from asynch.errors import ServerException

from chassis.clickhouse import SETTING, ClickHouse, StoreAway, clickhouse, refusal
from chassis.settings import ClickHouseSettings, load

DDL_FOLDER = Path(__file__).parents[2] / "deploy" / "clickhouse" / "ddl"
TIMEOUT_S = 30.0


def statements(text: str) -> Iterator[str]:
    """The statements of a file: `--` comment lines dropped, split at a semicolon that ends a line."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    for part in f"{code}\n".split(";\n"):
        if part.strip():
            yield part.strip()


def scripts(folder: Path = DDL_FOLDER) -> dict[str, str]:
    """The text of each file by its name, in the order in which they are applied."""
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.sql"))}


async def apply(settings: ClickHouseSettings, texts: Mapping[str, str]) -> None:
    """Create the database and run every statement of `texts` in it.

    Raises:
        StoreAway: ClickHouse is unreachable.
        ServerException: it refuses a statement.
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
    settings, texts = load(ClickHouseSettings), scripts()
    try:
        asyncio.run(apply(settings, texts))
    except StoreAway as error:
        sys.stderr.write(f"tables not created: clickhouse at {settings.address} (setting {SETTING}): {error}\n")
        return 1
    except ServerException as error:
        sys.stderr.write(f"tables not created: clickhouse at {settings.address} refuses: {refusal(error)}\n")
        return 1
    sys.stdout.write(f"database {settings.db}: {', '.join(texts)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
