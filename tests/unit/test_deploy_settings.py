"""Settings of the runtime: documented, with the defaults that hold; ports; folders."""

import importlib
import inspect
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from chassis.settings import load
from deploy.native import ports
from deploy.native.processes import UNITS
from deploy.native.settings import PORTS, NativeSettings

ROOT = Path(__file__).parents[2]
DOCUMENTED = dict(
    re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*?)(?:\s+# .*)?$", (ROOT / ".env.example").read_text("utf-8"), re.M)
)
# handed over by the runtime itself, or shown as a path inside the checkout
DERIVED = {"FLINK_HOME", "PLACAR_HOME", "PLACAR_STATE"}


def defaults(settings: type[BaseSettings]) -> Iterator[tuple[str, object]]:
    """Each variable that a settings class reads, with its default."""
    prefix = settings.model_config.get("env_prefix", "")
    for field, info in settings.model_fields.items():
        kind = info.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseSettings):
            yield from defaults(kind)
        elif info.default is not PydanticUndefined:
            yield str(info.validation_alias or f"{prefix}{field}".upper()), info.default


def unit_settings() -> Iterator[type[BaseSettings]]:
    """The settings classes of every unit."""
    for module in (*(module for module, _ in UNITS.values()), "tools.traffic"):
        folder = importlib.import_module(f"{module}.settings")
        yield from (
            each
            for each in vars(folder).values()
            if inspect.isclass(each) and issubclass(each, BaseSettings) and each.__module__ == folder.__name__
        )


def test_every_setting_of_every_unit_is_documented_with_its_default() -> None:
    """What .env.example shows is what holds when nothing is set."""
    wrong = {}
    for settings in unit_settings():
        for name, default in defaults(settings):
            shown = DOCUMENTED.get(name)
            value = default.get_secret_value() if hasattr(default, "get_secret_value") else default
            same = shown is not None and (
                float(shown) == value
                if isinstance(value, int | float) and shown
                else shown.strip('"') == ("" if value is None else str(value).removeprefix(f"{ROOT}/"))
            )
            if name not in DERIVED and not same:
                wrong[name] = (shown, value)
    assert wrong == {}, "in .env.example: the value shown, and the default in the settings class"


def test_every_port_is_documented_with_its_default() -> None:
    """.env.example and the table of ports agree, and no default is given twice."""
    shown = {name: DOCUMENTED.get(name) for name in PORTS}
    assert shown == {name: str(port) for name, (port, _) in PORTS.items()}, ".env.example, deploy/native/processes.yaml"
    assert ports.doubled({name: port for name, (port, _) in PORTS.items()}) == []


def test_two_settings_with_the_same_port_are_named() -> None:
    """A port given twice is a mistake that names both settings."""
    assert ports.doubled({"API_PORT": 8080, "CONNECT_PORT": 8080}) == [
        "CONNECT_PORT and API_PORT are both 8080: change one in .env"
    ]


def test_a_port_in_use_is_named_with_setting_process_and_remedy() -> None:
    """Somebody else's port is reported with who has it; one of ours is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        (line,) = ports.taken({"API_PORT": port}, "127.0.0.1", ours=set())

        assert line.startswith(f"API_PORT {port}")
        assert f"pid {os.getpid()} (" in line
        assert line.endswith("set API_PORT in .env")
        assert ports.taken({"API_PORT": port}, "127.0.0.1", ours={os.getpid()}) == []


@pytest.mark.parametrize("holders", [["none", "ours"], ["unknown", "ours"], ["none", "unknown", "ours"]])
def test_a_port_that_one_of_ours_opens_meanwhile_is_ours(holders: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that boots may open a port after the list of listeners was read, or while it is read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        read: dict[str, dict[int, int | None]] = {"none": {}, "unknown": {port: None}, "ours": {port: os.getpid()}}
        lists = [read[holder] for holder in holders]
        monkeypatch.setattr(ports, "_listening", lambda: lists.pop(0))

        assert ports.taken({"API_PORT": port}, "127.0.0.1", ours={os.getpid()}) == []


def test_a_wrong_port_ends_with_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is no number is rejected with the setting's name and the value."""
    monkeypatch.setenv("S3_MASTER_PORT", "ninety")

    with pytest.raises(ValueError, match="S3_MASTER_PORT 'ninety'"):
        load(NativeSettings)


def test_free_ports_gives_every_port_a_free_one_of_its_own() -> None:
    """A second runtime gets a port for every setting, all different."""
    free = ports.free_ports()

    assert set(free) == set(PORTS)
    assert len(set(free.values())) == len(PORTS)
    assert ports.taken({name: int(port) for name, port in free.items()}, "127.0.0.1", ours=set()) == []


def test_the_socket_of_a_deep_state_folder_stays_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Unix socket's path has little room, so a deep folder's socket lies elsewhere, one per folder."""
    sockets = []
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("z" * 100)))
    for name in ("x" * 100, "y" * 100, "ç" * 50):
        monkeypatch.setenv("PLACAR_STATE", str(tmp_path / name))
        sockets.append(load(NativeSettings).socket)

    assert all(len(os.fsencode(path)) < 100 for path in sockets)
    assert len(set(sockets)) == 3
