"""Postgres natively: which binaries, whose account, which folder; and the databases and schema (`python -m`)."""

import asyncio
import hashlib
import os
import pwd
import shutil
import sys
from pathlib import Path

import asyncpg

from chassis.settings import LINEAGE_DATABASE, REGISTRY_DATABASE, PostgresSettings, load
from deploy.native import packages
from deploy.native.settings import ROOT, NativeSettings

ACCOUNT = "postgres"


def bin_dir() -> Path:
    """The folder of a supported Postgres: the newest of Debian's, else what is on PATH.

    A folder that does not hold `initdb` is returned where there is none, so that a message can name it.
    """
    debian = packages.debian_postgres()
    if debian:
        return debian[-1][1]
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else Path("/usr/lib/postgresql/15/bin")


def account() -> tuple[str, ...]:
    """What goes before the command: Postgres does not run as root, so root hands it to the account `postgres`."""
    if os.geteuid() != 0:
        return ()
    # setpriv becomes the server; runuser would stay as its parent and turn a fast shutdown into a kill
    return ("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups", "--")


def data_dir(settings: NativeSettings) -> Path:
    """The cluster's folder: in the state, or in the account's own home where it may not enter the state's parents."""
    near = settings.state_dir / "postgres" / "data"  # in a separate folder, because its account owns it
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in near.parents if parent.exists()):
        return near
    digest = hashlib.sha256(str(settings.state_dir).encode()).hexdigest()[:12]
    return Path(pwd.getpwnam(ACCOUNT).pw_dir) / f"placar-{digest}" / "data"


def own(path: Path) -> None:
    """Give a folder to the account that runs Postgres."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(path, ACCOUNT, ACCOUNT)


async def _connect(settings: PostgresSettings, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value(),
        database=database,
    )


async def prepare(settings: PostgresSettings) -> None:
    """Create the databases and the schema; a second run changes nothing.

    Raises:
        OSError | asyncpg.PostgresError: the server is unavailable or rejects.
    """
    server = await _connect(settings, "postgres")
    try:
        present = {row["datname"] for row in await server.fetch("SELECT datname FROM pg_database")}
        for database in (settings.db, REGISTRY_DATABASE, LINEAGE_DATABASE):
            if database not in present:
                quoted = database.replace('"', '""')
                await server.execute(f'CREATE DATABASE "{quoted}"')
    finally:
        await server.close()
    shop = await _connect(settings, settings.db)
    try:
        await shop.execute((ROOT / "deploy" / "postgres" / "schema.sql").read_text("utf-8"))
    finally:
        await shop.close()


def main() -> int:
    """Prepare the databases; returns the exit status."""
    settings = load(PostgresSettings)
    try:
        asyncio.run(prepare(settings))
    except (OSError, asyncpg.PostgresError) as error:
        sys.stderr.write(f"POSTGRES_HOST:POSTGRES_PORT {settings.host}:{settings.port}: {error}\n")
        return 1
    sys.stdout.write(f"databases {settings.db}, {REGISTRY_DATABASE} and {LINEAGE_DATABASE} exist\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
