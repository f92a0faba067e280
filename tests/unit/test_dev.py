"""The dev loop's pure parts: whom a save concerns, and how lines of many processes are shown."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from watchfiles import Change

from chassis import logs
from deploy.native.dev import Log, Saved, Tail, affected, folders
from deploy.native.processes import UNITS

ROOT = Path("/src")
MADE_OF = {unit: folders(unit, ROOT) for unit in ("api", "cdc")}


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
    assert affected(changed, MADE_OF) == units


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
    """Of a logged exception the last places and the error are shown, a line each."""
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


def test_whole_new_lines_of_a_log_are_read(tmp_path: Path) -> None:
    """What was there before is left out, a half line waits for its end, and a new file is read from its beginning."""
    log = tmp_path / "kafka.log"
    log.write_text("old\n")
    tail = Tail({"kafka": log, "absent": tmp_path / "absent.log"})
    assert list(tail.lines()) == []
    log.write_text("old\nnew\nha")
    assert list(tail.lines()) == [("kafka", "new")]
    log.write_text("old\nnew\nhalf\n")
    assert list(tail.lines()) == [("kafka", "half")]
    log.write_text("over\n")
    assert list(tail.lines()) == [("kafka", "over")]
