"""Instants: the epoch, milliseconds since it, and the one notation that Placar reads and writes."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY_MS = 86_400_000

EXAMPLE = "2026-02-19T10:00:00Z"
# RFC 3339, 5.6, with its two allowances (a space for the T, lower case); seconds may be left out
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware instant, what is finer cut off."""
    return (moment - EPOCH) // MILLISECOND


def at_ms(milliseconds: int) -> datetime:
    """The aware UTC instant so many milliseconds after 1970.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return EPOCH + milliseconds * MILLISECOND


def parse_instant(text: str, zone: tzinfo | None = None) -> datetime:
    """The aware instant that an RFC 3339 text names; `zone` is that of a text which names none.

    A space may stand for the T, z for Z, and seconds may be left out. Nothing else is guessed: no basic format, no week
    dates, no comma, no fractions of a minute, no offset without its minutes.

    Raises:
        ValueError: another form, no such date or time, or no zone where `zone` is None either.
    """
    written = text.strip()
    if _INSTANT.fullmatch(written) is None:
        raise ValueError(f"not an RFC 3339 instant such as {EXAMPLE}")
    parsed = datetime.fromisoformat(written.upper())
    if parsed.tzinfo is None:
        if zone is None:
            raise ValueError(f"names no time zone; write {EXAMPLE}")
        parsed = parsed.replace(tzinfo=zone)
    return parsed


def iso(milliseconds: int) -> str:
    """An instant in epoch milliseconds as the keys of `rankings.*` write it: 2026-02-19T10:00:00Z."""
    return f"{at_ms(milliseconds):%Y-%m-%dT%H:%M:%S}Z"


def iso_ms(milliseconds: int) -> str:
    """An instant in epoch milliseconds with its milliseconds: 2026-02-19T10:00:00.000Z."""
    return f"{iso(milliseconds)[:-1]}.{milliseconds % 1000:03d}Z"


def instant(moment: datetime) -> str:
    """A UTC instant as JSON answers write it: 2026-02-19T10:00:00Z, with milliseconds where there are any."""
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")
