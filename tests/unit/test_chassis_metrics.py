"""The ledger of a unit: what was received, what became of it, what is in hand, and what is unaccounted for."""

import pytest

from chassis.dead_letters import is_attempt
from chassis.metrics import Metrics


def value(metrics: Metrics, name: str, topic: str = "t") -> int:
    """A gauge's value."""
    series = f'placar_records_{name}{{topic="{topic}",unit="u"}} '
    (line,) = (line for line in metrics.render(["text/plain"])[0].decode().splitlines() if line.startswith(series))
    return int(line.rpartition(" ")[2])


def test_what_is_in_hand_is_not_unaccounted_for() -> None:
    """While a batch is being worked on it is in hand; when it has its outcomes nothing is, and nothing is missing."""
    metrics = Metrics("u")
    metrics.record("t", "received", 10)
    metrics.in_hand("t", 10)
    assert (value(metrics, "in_hand"), value(metrics, "unaccounted")) == (10, 0)
    metrics.record("t", "published", 7)
    metrics.record("t", "dead_letter", 2)
    metrics.record("t", "ignored")
    metrics.in_hand("t", -10)
    assert (value(metrics, "in_hand"), value(metrics, "unaccounted")) == (0, 0)


def test_a_record_without_outcome_is_unaccounted_for() -> None:
    """A record that is no longer worked on and has no outcome stays in the gauge, whatever comes after it."""
    metrics = Metrics("u")
    for _ in range(2):
        metrics.record("t", "received", 5)
        metrics.in_hand("t", 5)
        metrics.record("t", "published", 4)
        metrics.in_hand("t", -5)
    metrics.record("other", "received", 3)
    metrics.record("other", "published", 3)
    assert (value(metrics, "unaccounted"), value(metrics, "unaccounted", "other")) == (2, 0)


def test_an_outcome_too_many_is_negative() -> None:
    """A record that was counted twice is as visible as one that was lost."""
    metrics = Metrics("u")
    metrics.record("t", "received")
    metrics.record("t", "published", 2)
    assert value(metrics, "unaccounted") == -1


@pytest.mark.parametrize(("header", "fits"), [(b"2", True), (b"999999999", True), (b"9999999999", False), (b"", False)])
def test_an_attempt_fits_a_dead_letter(header: bytes, fits: bool) -> None:
    """A header that anybody wrote is an attempt only where the dead letter's field can hold it."""
    assert is_attempt(header) == fits
