"""Structured logs."""

import logging

from chassis.logs import Sparing


def line(
    created: float, name: str = "aiokafka", message: str = "Unable connect to %s", value: str = "a"
) -> logging.LogRecord:
    """A log record made at `created` seconds."""
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, (value,), None)
    record.created = created
    return record


def test_a_library_that_repeats_itself_is_heard_once_in_ten_seconds() -> None:
    """Repeats of one kind are left out for ten seconds, and then counted."""
    sparing = Sparing(10.0)
    assert sparing.filter(line(0.0))
    assert not sparing.filter(line(1.0, value="b"))
    assert sparing.filter(line(1.0, message="something else %s"))
    later = line(10.5)
    assert sparing.filter(later)
    assert later.getMessage() == "Unable connect to a (1 more like it)"


def test_our_own_lines_always_pass() -> None:
    """Placar's own events are never left out."""
    sparing = Sparing(10.0)
    assert all(sparing.filter(line(0.1 * number, name="placar")) for number in range(5))
