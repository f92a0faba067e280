"""`python -m deploy.clients psql | clickhouse [ARGUMENTS]`: becomes the server's own client, at the right address."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from chassis.command import NotDoneError, command, run
from chassis.settings import ClickHouseSettings, PostgresSettings, load
from deploy.native.postgres import bin_dir

NAME = "client"
ACCOUNT = Path(__file__).parent / "clickhouse" / "client.xml"

Client = tuple[list[str], dict[str, str]]


def psql(settings: PostgresSettings) -> Client:
    """The command and the environment of psql; the password is in the environment."""
    program = shutil.which("psql") or shutil.which("psql", path=str(bin_dir()))
    if program is None:
        raise NotDoneError("psql is missing: apt-get install postgresql-client")
    return [program], {
        "PGHOST": settings.host,
        "PGPORT": str(settings.port),
        "PGDATABASE": settings.db,
        "PGUSER": settings.user,
        "PGPASSWORD": settings.password.get_secret_value(),
    }


def clickhouse(settings: ClickHouseSettings) -> Client:
    """The command and the environment of ClickHouse's client, which takes the account from there, read as XML."""
    debian, single = shutil.which("clickhouse-client"), shutil.which("clickhouse")
    if debian is None and single is None:
        raise NotDoneError("clickhouse-client is missing: apt-get install clickhouse-client")
    program = [debian] if debian else [str(single), "client"]
    place = [f"--host={settings.host}", f"--port={settings.native_port}", f"--database={settings.db}"]
    return [*program, f"--config-file={ACCOUNT}", *place], {
        "PLACAR_CLICKHOUSE_USER": escape(settings.user),
        "PLACAR_CLICKHOUSE_PASSWORD": escape(settings.password.get_secret_value()),
    }


def prepared(name: str) -> Client:
    """A client by its name.

    Raises:
        NotDoneError: it is not installed.
    """
    return psql(load(PostgresSettings)) if name == "psql" else clickhouse(load(ClickHouseSettings))


@command(NAME)
def main(given: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Become the client; returns only where that is impossible."""
    name, *more = sys.argv[1:] if given is None else given
    program, account = prepared(name)
    os.execvpe(program[0], [*program, *more], {**environment, **account})  # noqa: S606 - it is what this is for


if __name__ == "__main__":
    run(main)
