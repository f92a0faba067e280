"""The dev loop without units: which of them a save concerns, and how lines of many processes are shown."""

import io
import json
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from watchfiles import Change

from chassis import logs
from chassis.settings import load
from deploy.native.dev import Log, Saved, affected, folders, server_logs
from deploy.native.processes import UNITS, processes
from deploy.native.settings import NativeSettings

ROOT = Path("/src")
SOURCES = {unit: folders(unit, ROOT) for unit in ("api", "cdc")}


@pytest.mark.parametrize(
    ("changed", "units"),
    [
        (["/src/services/api/routes.py"], ["api"]),
        (["/src/streams/cdc/transform.py", "/src/services/api/page/main.js"], ["api", "cdc"]),
        (["/src/chassis/kafka.py"], ["api", "cdc"]),
        (["/src/contracts/topics/sales.dlq/value.avsc"], ["api", "cdc"]),
        (["/src/services/api_more/app.py"], []),
        ([], []),
    ],
)
def test_a_save_concerns_the_units_that_are_made_of_the_file(changed: list[str], units: list[str]) -> None:
    """A unit's own folder concerns that unit, what all stand on concerns all."""
    assert affected(changed, SOURCES) == units


def test_every_unit_has_its_folder() -> None:
    """What is watched is there."""
    assert all(folder.is_dir() for unit in UNITS for folder in folders(unit))


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("app.py", True),
        ("value.avsc", True),
        ("page.css", True),
        (".app.py.swp", False),
        ("app.py~", False),
        ("4913", False),
        ("__pycache__/app.py", False),
        ("notes.md", False),
    ],
)
def test_only_sources_restart_a_unit(name: str, seen: bool) -> None:
    """An editor's own files and compiled ones are not seen."""
    assert Saved()(Change.modified, f"/src/services/api/{name}") is seen


def lines_of(name: str, *texts: str) -> list[str]:
    """What the log writes of these lines."""
    out = io.StringIO()
    log = Log(["dev", "file_poller", name], out)
    for text in texts:
        log.line(name, text)
    return out.getvalue().splitlines()


def test_a_line_has_its_name_in_front_and_is_readable() -> None:
    """Our JSON is shown as time, level, event and values; any other line as it is."""
    ours = {"unit": "cdc", "event": "starting", "level": "info", "timestamp": "2026-02-19T10:00:00.123456Z", "port": 7}
    assert lines_of("cdc", json.dumps(ours), "Traceback:", '{"no": "event"}', "[1]") == [
        "cdc         | 10:00:00.123 [info     ] starting port=7",
        "cdc         | Traceback:",
        'cdc         | {"no": "event"}',
        "cdc         | [1]",
    ]


def test_an_exception_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a logged exception the last frames and the error are shown, a line each."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    log: Any = logs.configure("cdc", "info")
    try:
        int("seven")
    except ValueError:
        log.exception("failed")
    shown = lines_of("cdc", written.getvalue().strip())
    assert shown[0].endswith("[error    ] failed")
    assert "test_dev.py:" in shown[1]
    assert shown[-1] == "cdc         |     ValueError: invalid literal for int() with base 10: 'seven'"


def test_what_the_servers_log_from_now_on_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier lines and units are left out, and a file that the supervisor begins again is read from its beginning."""
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path))
    settings = load(NativeSettings)
    (tmp_path / "logs").mkdir()
    kafka = tmp_path / "logs" / "kafka.log"
    kafka.write_text("old\n")
    lines: Queue[tuple[str, str]] = Queue()
    log = Log(["kafka", "clickhouse"], io.StringIO())
    monkeypatch.setattr(log, "line", lambda name, text: lines.put((name, text)))
    names = ("kafka", "clickhouse", "cdc")
    with server_logs(settings, [each for each in processes(settings) if each.name in names], log):
        shown: set[str] = set()
        while shown != {"kafka", "clickhouse"}:  # until tail has opened the one, and seen the other appear
            for name in names:
                with (tmp_path / "logs" / f"{name}.log").open("a") as file:
                    file.write("new\n")
            with suppress(Empty):
                name, line = lines.get(timeout=0.2)
                assert line == "new"
                shown.add(name)
        kafka.rename(tmp_path / "logs" / "kafka.log.1")
        kafka.write_text("over\n")
        while lines.get(timeout=30) != ("kafka", "over"):
            pass
