"""The watermark."""

from datetime import datetime

from flink.ranking.windows.clock import LAG_MS, watermark


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


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
