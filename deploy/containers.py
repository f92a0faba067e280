"""`python -m deploy.containers`: writes the servers' configuration for containers, from the same templates as natively.

Each service has the host name of its process, listens on all addresses of its container, and keeps its data in the
folder of its image. Everything comes from the environment that compose.yaml gives the one-shot service `configuration`.
"""

import sys
from pathlib import Path

from chassis.settings import load
from deploy.native import processes, render
from deploy.native.settings import NativeSettings

DATA = Path("/var/lib")
"""Where the images of Kafka and ClickHouse keep their data, each in a folder of its name."""


def configuration(settings: NativeSettings) -> Path:
    """Write every server's files; returns the folder.

    Servers run under different accounts, so the files are readable by all. They hold no password in plain text.

    Raises:
        KeyError: a template names a value that does not exist.
    """
    filled = {
        **processes.values(settings),
        "DATA_DIR": str(DATA),
        "JOBMANAGER_HOST": "jobmanager",
        "FLINK_BIND_HOST": settings.bind_host,
    }
    render.servers(settings, filled, lambda process: process)
    folder = settings.state_dir / "conf"
    (folder / "postgres").mkdir(exist_ok=True)
    (folder / "postgres" / "postgresql.conf").write_text(render.template("postgres/postgresql.conf", filled), "utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def main() -> int:
    """Write the files and print their folder; returns the exit status."""
    sys.stdout.write(f"configuration of the servers is in {configuration(load(NativeSettings))}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
