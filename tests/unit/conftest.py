"""What several unit tests share."""

from pathlib import Path

import pytest

from chassis.settings import load
from deploy.native import postgres
from deploy.native.settings import PORTS, NativeSettings


@pytest.fixture(autouse=True)
def default_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """No port from the shell in which the tests run."""
    for name in PORTS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NativeSettings:
    """Settings of a native runtime whose folders are the test's own, the database's too; it has a folder for logs.

    Run by root, that one would be in the home of the account `postgres`, which may not enter a test's folder.
    """
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path / "state"))
    (tmp_path / "state" / "logs").mkdir(parents=True)
    monkeypatch.setattr(postgres, "data_dir", lambda _: tmp_path / "postgres" / "data")
    return load(NativeSettings)
