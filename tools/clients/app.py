"""The clients of the databases: program, address and account from the settings."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from xml.sax.saxutils import escape

from chassis.errors import NotDoneError
from chassis.settings import ClickHouseSettings, PostgresSettings, load

ACCOUNT = Path(__file__).parents[2] / "deploy" / "clickhouse" / "client.xml"
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")

Client = tuple[list[str], dict[str, str]]


def psql() -> Client:
    """The command and the environment of psql; the password is in the environment.

    Raises:
        NotDoneError: it is not installed.
    """
    debian = sorted(DEBIAN_POSTGRES.glob("*/bin/psql"), key=lambda path: int(path.parts[-3]))
    program = shutil.which("psql") or (debian and str(debian[-1]))
    if not program:
        raise NotDoneError("psql is missing: apt-get install postgresql-client")
    settings = load(PostgresSettings)
    return [program], {
        "PGHOST": settings.host,
        "PGPORT": str(settings.port),
        "PGDATABASE": settings.db,
        "PGUSER": settings.user,
        "PGPASSWORD": settings.password.get_secret_value(),
    }


def clickhouse() -> Client:
    """The command and the environment of ClickHouse's client, which takes the account from there, read as XML.

    Raises:
        NotDoneError: it is not installed.
    """
    debian, single = shutil.which("clickhouse-client"), shutil.which("clickhouse")
    if debian is None and single is None:
        raise NotDoneError("clickhouse-client is missing: apt-get install clickhouse-client")
    program = [debian] if debian else [str(single), "client"]
    settings = load(ClickHouseSettings)
    address = [f"--host={settings.host}", f"--port={settings.native_port}", f"--database={settings.db}"]
    return [*program, f"--config-file={ACCOUNT}", *address], {
        "PLACAR_CLICKHOUSE_USER": escape(settings.user),
        "PLACAR_CLICKHOUSE_PASSWORD": escape(settings.password.get_secret_value()),
    }


def become(client: Client, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the client."""
    program, account = client
    os.execvpe(program[0], [*program, *arguments], {**os.environ, **account})  # noqa: S606 - it is what this is for
