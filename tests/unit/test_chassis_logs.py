"""Structured logs."""

import json
import logging
import subprocess
import sys

import pytest

from chassis.logs import RateLimitFilter

TALK = """
import logging, threading, warnings
from chassis import logs
log = logs.configure("talker", {level!r})
log.debug("detail", amount=1)
log.info("said", text="two\\nlines", name="Conceição")
logging.getLogger("library").info("not worth reading")
logging.getLogger("library").error("first\\nsecond %s", "x")
warnings.warn("old\\nway")

def broken():
    password = "hidden-word"
    raise ValueError("out\\nside")

class Dying:
    def __del__(self):
        broken()

try:
    broken()
except ValueError:
    log.exception("failed")
thread = threading.Thread(target=broken, name="worker")
thread.start()
thread.join()
dying = Dying()
del dying
"""
LOGGED = ["said", "first\nsecond x", "old", "failed", "uncaught", "uncaught"]


@pytest.mark.parametrize(("level", "events"), [("debug", ["detail", *LOGGED]), ("info", LOGGED), ("error", LOGGED[1:])])
def test_whatever_a_process_logs_is_one_object_per_line(level: str, events: list[str]) -> None:
    """Events, warnings, errors that nobody caught: each a JSON object with the same keys, without a frame's values."""
    run = subprocess.run(
        [sys.executable, "-c", TALK.format(level=level)], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["event"] if "old" not in line["event"] else "old" for line in lines] == events
    assert all({"event", "level", "timestamp", "unit"} <= set(line) for line in lines)
    assert {line["unit"] for line in lines} == {"talker"}
    assert [line["logger"] for line in lines if "logger" in line] == ["library", "py.warnings"]
    assert [bool(line.get("exception")) for line in lines] == [event in ("failed", "uncaught") for event in events]
    assert "hidden-word" not in run.stderr


def line(
    created: float, name: str = "aiokafka", message: str = "Unable connect to %s", value: str = "a"
) -> logging.LogRecord:
    """A log record made at `created` seconds."""
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, (value,), None)
    record.created = created
    return record


def test_a_library_that_repeats_itself_is_heard_once_in_ten_seconds() -> None:
    """Repeats of one kind are left out for ten seconds, and then counted."""
    sparing = RateLimitFilter(10.0)
    assert sparing.filter(line(0.0))
    assert not sparing.filter(line(1.0, value="b"))
    assert sparing.filter(line(1.0, message="something else %s"))
    later = line(10.5)
    assert sparing.filter(later)
    assert later.getMessage() == "Unable connect to a (1 more like it)"


def test_our_own_lines_always_pass() -> None:
    """Placar's own events are never left out."""
    sparing = RateLimitFilter(10.0)
    assert all(sparing.filter(line(0.1 * number, name="placar")) for number in range(5))
