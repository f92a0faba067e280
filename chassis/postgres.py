"""The server of the retailer's database, as every unit that asks it connects."""

import asyncpg

from chassis.settings import PostgresSettings

CONNECT_S = 10.0
SETTING = "POSTGRES_HOST, POSTGRES_PORT"


async def open_connection(settings: PostgresSettings, command_timeout_s: float) -> asyncpg.Connection:
    """A connection whose statements end after `command_timeout_s` seconds; the caller closes it.

    Raises:
        OSError | asyncpg.PostgresError | asyncpg.InterfaceError: the server is unavailable or rejects us.
    """
    return await asyncpg.connect(
        host=settings.host,
        port=settings.port,
        database=settings.db,
        user=settings.user,
        password=settings.password.get_secret_value(),
        timeout=CONNECT_S,
        command_timeout=command_timeout_s,
        ssl=False,
    )
