"""ClickHouse over the native protocol: a small pool that discards a connection after any error."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asynch.connection import Connection
from asynch.errors import ClickHouseException, ServerException
from asynch.pool import Pool

from chassis.settings import ClickHouseSettings

SETTING = "CLICKHOUSE_HOST, CLICKHOUSE_NATIVE_PORT"

# Codes by which a server says "not now": timeout, too many queries, socket timeout, network, memory limit, read-only
# table, too many parts, query cancelled. The same statement may succeed later.
_NOT_NOW = frozenset({159, 202, 209, 210, 241, 242, 252, 394})


class StoreUnavailableError(Exception):
    """ClickHouse is unreachable, did not answer in time, or cannot take the statement now; try again later."""


class ClickHouse:
    """Statements over at most `connections` connections, each bounded by `timeout_s` seconds.

    The server has at most `threads` threads for each query; 0: as many as it has cores.
    Every method raises StoreUnavailableError when the server is unavailable, and ServerException when it rejects the
    statement.
    """

    def __init__(
        self,
        settings: ClickHouseSettings,
        connections: int,
        timeout_s: float,
        database: str | None = None,
        *,
        threads: int = 0,
    ) -> None:
        self._timeout_s = timeout_s
        self._pool = Pool(
            minsize=0,
            maxsize=connections,
            host=settings.host,
            port=settings.native_port,
            database=settings.db if database is None else database,
            user=settings.user,
            password=settings.password.get_secret_value(),
            connect_timeout=min(timeout_s, 5.0),
            sync_request_timeout=min(timeout_s, 5.0),
            send_receive_timeout=None,  # a timer for each read; the whole statement is bounded below
            settings={"max_threads": threads} if threads else {},
        )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection that is closed, not reused, when anything goes wrong on it.

        After a server's rejection asynch may find the rest of the answer in front of its next one (ClickHouse 18.16).
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.connection() as connection:
                try:
                    yield connection
                except BaseException:
                    await connection.close()
                    raise
        except ServerException as error:
            if error.code in _NOT_NOW:
                raise StoreUnavailableError(f"code {error.code}: {_first_line(error)}") from error
            raise
        except TimeoutError as error:
            raise StoreUnavailableError(f"no answer in {self._timeout_s} s") from error
        except (OSError, EOFError, ClickHouseException) as error:
            raise StoreUnavailableError(f"{type(error).__name__}: {_first_line(error)}") from error

    async def select(self, query: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query; `%(name)s` is replaced by escaped `values` (str, int or sequences of them)."""
        async with self._connection() as connection, connection.cursor() as cursor:
            await cursor.execute(query, dict(values) if values is not None else None)
            return list(await cursor.fetchall())

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows as one block: all of them become visible at once, and only when this returns are they safe."""
        names = ", ".join(f"`{column}`" for column in columns)
        async with self._connection() as connection, connection.cursor() as cursor:
            await cursor.execute(f"INSERT INTO `{table}` ({names}) VALUES", list(rows))
            await connection.ping()  # answered after the insert, on the same connection: the insert is over

    async def execute(self, statement: str) -> None:
        """Run a statement that returns nothing."""
        async with self._connection() as connection, connection.cursor() as cursor:
            await cursor.execute(statement)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.shutdown()


def _first_line(error: BaseException) -> str:
    """The first line of a message without the server's stack trace, shortened."""
    text = getattr(error, "message", None) or str(error) or repr(error)
    return str(text).split("\n", 1)[0].split(" Stack trace:", 1)[0][:300]


def rejection(error: ServerException) -> str:
    """What the server rejected, in one line."""
    return f"code {error.code}: {_first_line(error)}"


@asynccontextmanager
async def clickhouse(
    settings: ClickHouseSettings, connections: int, timeout_s: float, *, threads: int = 0
) -> AsyncIterator[ClickHouse]:
    """A ClickHouse that is closed when the context ends. It connects at its first statement, not before."""
    store = ClickHouse(settings, connections, timeout_s, threads=threads)
    try:
        yield store
    finally:
        await store.close()
