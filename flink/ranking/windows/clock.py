"""The watermark of a ranking, from the newest event times that the sources have shown."""

LAG_MS = 5_000
"""How far the watermark stays behind the newest event."""


def watermark(newest_ms: int, *, now_ms: int, silent_ms: int, idle_ms: int) -> int:
    """The instant (epoch ms) before which a window counts as over.

    `newest_ms` is the newest min(event time, ingestion time) of any source. A timestamp ahead of the clock moves
    nothing past now. After `idle_ms` without input (`silent_ms` counts it) the clock takes over, so that a
    quiet hour ends.
    """
    reached = now_ms if silent_ms >= idle_ms else min(newest_ms, now_ms)
    return max(0, reached - LAG_MS)
