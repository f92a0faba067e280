"""Window lengths as configuration: `1h`, `15m`, or whole days in a time zone such as `1d@America/Sao_Paulo`.

A window is named by its index: the number of whole lengths between 1970-01-01T00:00 and its start, on the clock of its
time zone. A day in a time zone may therefore last 23 or 25 hours.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(?P<count>[1-9][0-9]{0,3})(?P<unit>[mhd])(?:@(?P<zone>[A-Za-z0-9_+\-/]+))?")
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class WindowLength:
    """A tumbling window: `label` names it in topics (`1h`), `seconds` is its length, `zone` whose clock it follows."""

    label: str
    seconds: int
    zone: str = "UTC"

    def bounds(self, index: int) -> tuple[int, int]:
        """Start (inclusive) and end (exclusive) of a window in epoch milliseconds."""
        return self._instant(index), self._instant(index + 1)

    def _instant(self, index: int) -> int:
        local = _EPOCH + timedelta(seconds=index * self.seconds)
        return int(local.replace(tzinfo=ZoneInfo(self.zone)).timestamp()) * 1000


def window_length(text: str) -> WindowLength:
    """Parse `<count><m|h|d>[@<time zone>]`.

    Raises:
        ValueError: another form, an unknown time zone, or a zone on a length that is not whole days.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a window length such as 1h, 15m or 1d@America/Sao_Paulo")
    label = found["count"] + found["unit"]
    seconds = int(found["count"]) * _UNITS_S[found["unit"]]
    zone = found["zone"] or "UTC"
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{zone[:40]!r} is not a time zone") from error
    if zone != "UTC" and found["unit"] != "d":
        # Hours repeat when a clock is put back, so only whole days have one meaning in a zone.
        raise ValueError(f"{text[:40]!r}: only whole days can follow a time zone")
    return WindowLength(label, seconds, zone)


def iso(instant_ms: int) -> str:
    """An instant as the keys of `rankings.*` write it, for example 2026-02-19T10:00:00Z."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
