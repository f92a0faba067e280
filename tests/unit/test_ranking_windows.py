"""Window lengths, their bounds, and the watermark."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink.ranking.windows.clock import LAG_MS, watermark
from flink.ranking.windows.length import WindowLength, iso, window_length

HOUR_MS = 3_600_000


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@given(st.integers(0, 4_102_444_800_000))
def test_an_hour_holds_the_instant_that_its_index_is_computed_from(instant_ms: int) -> None:
    """Every instant lies within the bounds of the window with index instant / length, as the job's SQL computes it."""
    start, end = window_length("1h").bounds(instant_ms // HOUR_MS)
    assert start <= instant_ms < end
    assert end - start == HOUR_MS


@given(st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)))
def test_a_local_day_holds_the_local_date_that_its_index_is_computed_from(local: datetime) -> None:
    """A day in a time zone begins and ends at its own midnights, also where the clock is changed."""
    index = int((local - datetime(1970, 1, 1)).total_seconds()) // 86_400
    start, end = window_length("1d@America/Sao_Paulo").bounds(index)
    assert (end - start) / HOUR_MS in (23, 24, 25)
    assert window_length("1d@America/Sao_Paulo").bounds(index + 1)[0] == end


def test_a_day_in_sao_paulo_begins_at_three_utc() -> None:
    """A day of another time zone is shifted by that zone's offset."""
    index = (datetime(2026, 2, 19) - datetime(1970, 1, 1)).days
    assert [iso(bound) for bound in window_length("1d@America/Sao_Paulo").bounds(index)] == [
        "2026-02-19T03:00:00Z",
        "2026-02-20T03:00:00Z",
    ]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1h", WindowLength("1h", 3600)),
        ("15m", WindowLength("15m", 900)),
        ("1d", WindowLength("1d", 86_400)),
        ("7d@America/Sao_Paulo", WindowLength("7d", 604_800, "America/Sao_Paulo")),
    ],
)
def test_lengths_are_read(text: str, length: WindowLength) -> None:
    """Minutes, hours and days, and days in a time zone."""
    assert window_length(text) == length


@pytest.mark.parametrize("text", ["", "h", "0h", "1w", "1h@America/Sao_Paulo", "1d@Atlantis/Capital", "-1h", "1h 2h"])
def test_other_lengths_are_refused_by_what_was_written(text: str) -> None:
    """A length that means nothing is refused with the text of it."""
    with pytest.raises(ValueError, match=r"window length|time zone"):
        window_length(text)


def test_keys_are_utc_instants() -> None:
    """The key of a window is its start as an ISO instant in UTC."""
    assert iso(int(datetime(2026, 2, 19, 10, tzinfo=UTC).timestamp() * 1000)) == "2026-02-19T10:00:00Z"


def test_the_watermark_stays_behind_the_newest_event() -> None:
    """With input, the watermark is five seconds behind the newest event."""
    assert watermark(100_000, now_ms=200_000, silent_ms=0, idle_ms=60_000) == 100_000 - LAG_MS


def test_a_future_timestamp_moves_nothing_past_now() -> None:
    """An event of tomorrow cannot end the current window."""
    assert watermark(_ms("2026-02-20T00:00+00:00"), now_ms=100_000, silent_ms=0, idle_ms=60_000) == 100_000 - LAG_MS


def test_silence_hands_over_to_the_clock() -> None:
    """After the idle time without input the watermark is five seconds behind the clock, so a quiet hour ends."""
    assert watermark(1, now_ms=100_000, silent_ms=59_999, idle_ms=60_000) == 0
    assert watermark(1, now_ms=100_000, silent_ms=60_000, idle_ms=60_000) == 100_000 - LAG_MS
