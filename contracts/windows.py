"""Window lengths as configuration: what RANKING_WINDOWS means, and the topics and tables of each length.

Only this module reads the setting's text; the ranking job, in an environment of its own, uses it too, so it is plain
Python. A window is named by its index: the number of whole lengths between 1970-01-01T00:00 and its start, on the clock
of its time zone. A day in a time zone may therefore last 23 or 25 hours.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

DEFAULT = "1h"
RANKING_TOPICS = "rankings."
"""How the names of those topics begin that there are once per window length."""

_DAY_S = 86_400
_UNITS_S = {"m": 60, "h": 3600, "d": _DAY_S}
# Names such as `localtime`, which Flink's Java would take for UTC, are not of this form.
_FORM = re.compile(r"(?P<count>[1-9][0-9]{0,3})(?P<unit>[mhd])(?:@(?P<zone>UTC|[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+\-]+)+))?")
_LOCAL_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class WindowLength:
    """A tumbling window: `label` names it in topics and tables (`1h`), `zone` is the time zone whose clock it follows.

    `seconds` is its length on that clock.
    """

    label: str
    seconds: int
    zone: str = "UTC"

    def index(self, second: int) -> int:
        """The window that an instant in epoch seconds falls into."""
        local = datetime.fromtimestamp(second, ZoneInfo(self.zone)).replace(tzinfo=None)
        return (local - _LOCAL_EPOCH) // timedelta(seconds=self.seconds)

    def bounds(self, index: int) -> tuple[int, int]:
        """Start (inclusive) and end (exclusive) of a window in epoch milliseconds."""
        return self._instant(index), self._instant(index + 1)

    def _instant(self, index: int) -> int:
        local = _LOCAL_EPOCH + timedelta(seconds=index * self.seconds)
        return int(local.replace(tzinfo=ZoneInfo(self.zone)).timestamp()) * 1000


def window_length(text: str) -> WindowLength:
    """Parse one length: `<count><m|h|d>[@<time zone>]`.

    Raises:
        ValueError: another form, a length that does not divide a day, an unknown time zone, or one on less than a day.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a window length such as 15m, 1h or 1d@America/Sao_Paulo")
    label = match["count"] + match["unit"]
    seconds = int(match["count"]) * _UNITS_S[match["unit"]]
    if _DAY_S % seconds:
        # Then windows would begin at another hour each day, and weeks on a Thursday, as 1970-01-01 was one.
        raise ValueError(f"{text[:40]!r}: a window must divide a day, such as 15m, 1h, 6h or 1d")
    zone = match["zone"] or "UTC"
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{text[:40]!r}: {zone[:40]!r} is not a time zone such as America/Sao_Paulo") from error
    if zone != "UTC" and match["unit"] != "d":
        # Hours repeat when a clock is put back, so only days have one meaning in a zone.
        raise ValueError(f"{text[:40]!r}: only 1d can follow a time zone")
    return WindowLength(label, seconds, zone)


def window_lengths(text: str) -> tuple[WindowLength, ...]:
    """Parse the setting: lengths, separated by commas, the first of them the main one.

    Raises:
        ValueError: one is no window length (see window_length), or two have the same name or the same windows.
    """
    lengths = tuple(window_length(part.strip()) for part in text.split(","))
    for number, length in enumerate(lengths):
        for other in lengths[:number]:
            if other.label == length.label:
                raise ValueError(f"{length.label} occurs twice: its topics and tables would have one name")
            if (other.seconds, other.zone) == (length.seconds, length.zone):
                raise ValueError(f"{other.label} and {length.label} are the same windows")
    return lengths


def topics(base: str, lengths: Sequence[WindowLength]) -> dict[str, str]:
    """The topic of a ranking by the label of each length: `base` for the first, `<base>.<label>` for the others."""
    return _names(base, ".", lengths)


def tables(base: str, lengths: Sequence[WindowLength]) -> dict[str, str]:
    """The table of a ranking by the label of each length: `base` for the first, `<base>_<label>` for the others."""
    return _names(base, "_", lengths)


def _names(base: str, mark: str, lengths: Sequence[WindowLength]) -> dict[str, str]:
    return {
        length.label: base if number == 0 else f"{base}{mark}{length.label}" for number, length in enumerate(lengths)
    }
