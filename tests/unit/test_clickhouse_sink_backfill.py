"""How the sales of an older state are divided for copying."""

from services.clickhouse_sink.backfill import HOUR_MS, slices

HOURS = [(10, 3), (11, 1), (15, 4), (16, 2)]


def test_slices_are_whole_hours_of_enough_sales() -> None:
    """A slice ends with the hour that makes it large enough, the last one with the last hour."""
    assert list(slices(HOURS, 4)) == [(12 * HOUR_MS, 4), (16 * HOUR_MS, 4), (17 * HOUR_MS, 2)]
    assert list(slices(HOURS, 100)) == [(17 * HOUR_MS, 10)]
    assert list(slices(HOURS, 1)) == [((hour + 1) * HOUR_MS, count) for hour, count in HOURS]
    assert list(slices([], 4)) == []
