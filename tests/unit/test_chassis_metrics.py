"""Metrics of a unit: records received, their outcomes, those in flight and those unaccounted for; declarations."""

import time

import pytest

from chassis.dead_letters import is_attempt
from chassis.metrics import DEAD_LETTERS, LINEAGE_FAILURES, Metric, Metrics
from deploy import metrics as catalogue
from deploy.native.processes import UNITS


def value(metrics: Metrics, name: str, topic: str = "t") -> int:
    """A gauge's value."""
    series = f'placar_records_{name}{{topic="{topic}",unit="u"}} '
    (line,) = (line for line in metrics.render(["text/plain"])[0].decode().splitlines() if line.startswith(series))
    return int(line.rpartition(" ")[2])


def test_records_in_flight_are_accounted_for() -> None:
    """A batch is in flight while it is processed; with its outcomes nothing is in flight, and nothing missing."""
    metrics = Metrics("u")
    metrics.record("t", "received", 10)
    metrics.in_flight("t", 10)
    assert (value(metrics, "in_flight"), value(metrics, "unaccounted")) == (10, 0)
    metrics.record("t", "published", 7)
    metrics.record("t", "dead_letter", 2)
    metrics.record("t", "ignored")
    metrics.in_flight("t", -10)
    assert (value(metrics, "in_flight"), value(metrics, "unaccounted")) == (0, 0)


def test_a_record_without_outcome_is_unaccounted_for() -> None:
    """A record that is no longer processed and has no outcome stays in the gauge, whatever follows."""
    metrics = Metrics("u")
    for _ in range(2):
        metrics.record("t", "received", 5)
        metrics.in_flight("t", 5)
        metrics.record("t", "published", 4)
        metrics.in_flight("t", -5)
    metrics.record("other", "received", 3)
    metrics.record("other", "published", 3)
    assert (value(metrics, "unaccounted"), value(metrics, "unaccounted", "other")) == (2, 0)


def test_an_extra_outcome_is_negative() -> None:
    """A record that was counted twice is as visible as one that was lost."""
    metrics = Metrics("u")
    metrics.record("t", "received")
    metrics.record("t", "published", 2)
    assert value(metrics, "unaccounted") == -1


@pytest.mark.parametrize(("header", "fits"), [(b"2", True), (b"999999999", True), (b"9999999999", False), (b"", False)])
def test_an_attempt_fits_a_dead_letter(header: bytes, fits: bool) -> None:
    """A header is an attempt only if the dead letter's field can hold it."""
    assert is_attempt(header) == fits


SPREAD = Metric("placar_spread", "histogram", "seconds", "For the tests", ("topic",), (1.0, 2.0, 5.0))


def text(metrics: Metrics) -> str:
    """The text of a scrape."""
    return metrics.render(["text/plain"])[0].decode()


def test_observing_many_values_at_once_equals_observing_each() -> None:
    """A batch of values, some on a bucket's bound, gives the same scrape as single ones; an empty one gives nothing."""
    values = [0.5, 1.0, 1.5, 2.0, 4.9, 5.0, 5.1, 100.0]
    together, single = Metrics("u"), Metrics("u")
    together.observe(SPREAD, {"topic": "t"}, values[:5])
    together.observe(SPREAD, {"topic": "t"}, values[5:])
    together.observe(SPREAD, {"topic": "none"}, [])
    for value in values:
        single[SPREAD].observe({"topic": "t"}, value)
    assert text(together) == text(single)
    assert 'placar_spread_bucket{le="5.0",topic="t",unit="u"} 6.0' in text(together)


def test_declared_metrics_exist_from_the_start() -> None:
    """A declared counter without labels starts with 0; one with labels has its name and type."""
    scraped = text(Metrics("u", [LINEAGE_FAILURES, DEAD_LETTERS]))
    assert 'placar_lineage_failures_total{unit="u"} 0' in scraped
    assert "# TYPE placar_dead_letters_total counter" in scraped


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_declares_each_name_once_and_by_convention(unit: str) -> None:
    """Names follow Prometheus: counters end in _total, seconds and bytes in their unit, and none is declared twice."""
    declared = catalogue.declared(unit)
    assert len({metric.name for metric in declared}) == len(declared)
    for metric in declared:
        assert metric.name.startswith("placar_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        for measure in ("seconds", "bytes"):
            stem = metric.name.removesuffix("_total")
            assert stem.endswith(f"_{measure}") == metric.measure.startswith(measure), metric.name


def test_the_page_of_metrics_is_up_to_date() -> None:
    """docs/metrics.md follows from the declarations."""
    assert catalogue.PAGE.read_text("utf-8") == catalogue.page(), "run ./taskw docs:metrics"


def test_a_scrape_of_a_thousand_series_takes_less_than_20_ms() -> None:
    """More than any process has; CPU time of this process, the best of five."""
    metrics = Metrics("u", catalogue.declared("api"))
    for number in range(60):
        metrics.observe(SPREAD, {"topic": f"t{number}"}, [0.5, 3.0])
        metrics.record(f"t{number}", "received")
        metrics.record(f"t{number}", "published")
        for reason in range(8):
            metrics.dead_letter(f"t{number}", f"r{reason}")
    durations = []
    for _ in range(5):
        begun = time.process_time()
        lines = text(metrics).splitlines()
        durations.append(time.process_time() - begun)
    assert len(lines) > 1000
    assert min(durations) < 0.02
