"""Pure: parameters in, rows of a ranking set out as an answer."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pycountry

from services.api.models import CityRank, R, Ranking, SalesmanRank, Window

LAST_SECOND = 2**32 - 1  # ClickHouse's DateTime ends there; a later window cannot exist

Row = Sequence[Any]


def parse_window(value: object) -> datetime | None:
    """None for `latest`, otherwise the instant in UTC.

    Raises:
        ValueError: neither of them.
    """
    wrong = "must be `latest` or a window's start instant such as 2026-02-19T10:00:00Z (write + as %2B)"
    if value is None or value == "latest":
        return None
    try:
        moment = datetime.fromisoformat(str(value))
        in_utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(wrong) from None
    if moment.tzinfo is None:  # a wall clock of nobody's is not an instant
        raise ValueError(wrong)
    return in_utc


def parse_country(value: str) -> str:
    """The code itself.

    Raises:
        ValueError: not an ISO 3166 alpha-2 code in capital letters.
    """
    if len(value) != 2 or not value.isupper() or pycountry.countries.get(alpha_2=value) is None:
        raise ValueError("must be an ISO 3166 alpha-2 code in capital letters such as BR")
    return value


def epoch_second(moment: datetime) -> int | None:
    """The instant as the store keeps window starts; None where no window can start (fractions, outside 1970..2106)."""
    seconds = int(moment.timestamp())
    return seconds if moment.microsecond == 0 and 0 <= seconds <= LAST_SECOND else None


def _milliseconds(value: int) -> datetime:
    seconds, rest = divmod(value, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def city_rank(row: Row) -> CityRank:
    """The row's entry; rows as the queries of store.py give them."""
    rank, name, _, total, count = row[6:11]
    return CityRank(rank=rank, city=name, total_sales=total, transaction_count=count)


def salesman_rank(row: Row) -> SalesmanRank:
    """The row's entry; rows as the queries of store.py give them."""
    rank, name, country, total, count = row[6:11]
    return SalesmanRank(rank=rank, salesman_name=name, country=country, total_sales=total, transaction_count=count)


def ranking(rows: Sequence[Row], limit: int, entry: Callable[[Row], R]) -> Ranking[R]:
    """The answer for the ten rows of one set: blank ones (count 0) left out, at most `limit` entries.

    Raises:
        ValueError: the rows are of more than one revision.
    """
    start, end, revision, status, watermark, as_of = rows[0][:6]
    if any(row[2] != revision for row in rows):
        raise ValueError(f"window {start}: rows of revisions {sorted({row[2] for row in rows})} in one answer")
    return Ranking(
        window=Window(start=start, end=end),
        status=status,
        revision=revision,
        as_of=_milliseconds(as_of),
        watermark=_milliseconds(watermark),
        rankings=[entry(row) for row in rows if row[10] > 0 and row[6] <= limit],
    )
