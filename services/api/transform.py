"""Pure: parameters in, rows of a ranking set or of its sales out as an answer."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import orjson
import pycountry

from services.api.models import (
    CityRank,
    Explanation,
    KnownWindow,
    R,
    Ranking,
    RankingName,
    Sale,
    SalesmanRank,
    Window,
    Windows,
)

LAST_SECOND = 2**32 - 1  # ClickHouse's DateTime ends there; a later window cannot exist

Row = Sequence[Any]
Newest = Literal["latest", "latest-final"]
Asked = Newest | datetime
"""Which window: the newest, the newest that is final or corrected, or the one that starts then."""


@dataclass(frozen=True)
class Rank:
    """Whose sales: of `name` in the window from `start` to `end`; `country` is '' for a city.

    `length` is the label of the window's length.
    """

    ranking: RankingName
    length: str
    start: datetime
    end: datetime
    name: str
    country: str


class Place(NamedTuple):
    """Where a sale stands in the order of an explanation."""

    event_ms: int
    source: str
    sale_id: str


BEFORE_ALL = Place(-1, "", "")
NO_CURSOR = "must be the nextCursor of an earlier answer, unchanged"


class Cursor(NamedTuple):
    """Where a page begins: the window it belongs to (length and epoch seconds), and the last sale before it."""

    length: str
    window: int
    after: Place


class WindowsAfter(NamedTuple):
    """Where a page of windows begins: the list it belongs to, and the start of the last window before it."""

    ranking: str
    length: str
    country: str
    start: int


def parse_instant(value: object) -> datetime:
    """The instant in UTC.

    Raises:
        ValueError: not an ISO 8601 instant with a zone.
    """
    wrong = "must be an instant with a zone such as 2026-02-19T10:00:00Z (write + as %2B)"
    try:
        moment = datetime.fromisoformat(str(value))
        in_utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(wrong) from None
    if moment.tzinfo is None:  # a wall clock of nobody's is not an instant
        raise ValueError(wrong)
    return in_utc


def parse_window(value: object) -> Asked:
    """`latest` and `latest-final` as they are, otherwise the instant in UTC.

    Raises:
        ValueError: none of them.
    """
    if value == "latest" or value == "latest-final":  # noqa: PLR1714 - so that mypy knows which
        return value
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ValueError(f"must be `latest`, `latest-final` or a window's start: {error}") from None


def parse_length(labels: Sequence[str], value: str | None) -> str | None:
    """The label itself; None for none.

    Raises:
        ValueError: not one of the configured `labels`.
    """
    if value is not None and value not in labels:
        raise ValueError(f"must be a window length that is configured (RANKING_WINDOWS): {', '.join(labels)}")
    return value


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


def first_second(moment: datetime) -> int:
    """The first whole second at or after the instant, within what the store can hold."""
    return min(max(math.ceil(moment.timestamp()), 0), LAST_SECOND)


def _write(parts: Sequence[str | int]) -> str:
    """Text that is safe in an address; what is in it is nobody's business but ours."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def _read(text: str, kinds: Sequence[type]) -> list[Any]:
    try:
        parts = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except ValueError:
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise ValueError(NO_CURSOR)
    return parts


def write_cursor(cursor: Cursor) -> str:
    """The cursor as text."""
    return _write([cursor.length, cursor.window, *cursor.after])


def parse_cursor(text: str) -> Cursor:
    """The cursor that was written.

    Raises:
        ValueError: not such a text.
    """
    length, window, *after = _read(text, [str, int, int, str, str])
    if not 0 <= window <= LAST_SECOND or not 0 <= after[0] <= LAST_SECOND * 1000 + 999:
        raise ValueError(NO_CURSOR)
    return Cursor(length, window, Place(*after))


def write_windows_after(cursor: WindowsAfter) -> str:
    """The cursor as text."""
    return _write([*cursor])


def parse_windows_after(text: str) -> WindowsAfter:
    """The cursor that was written.

    Raises:
        ValueError: not such a text.
    """
    cursor = WindowsAfter(*_read(text, [str, str, str, int]))
    if not 0 <= cursor.start <= LAST_SECOND:
        raise ValueError(NO_CURSOR)
    return cursor


def milliseconds(value: int) -> datetime:
    """The instant so many milliseconds after 1970."""
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
        as_of=milliseconds(as_of),
        watermark=milliseconds(watermark),
        rankings=[entry(row) for row in rows if row[10] > 0 and row[6] <= limit],
    )


def windows_page(ranking: RankingName, length: str, country: str, rows: Sequence[Row], limit: int) -> Windows:
    """The answer for the first `limit` of `rows`; one row more says that there is a next page."""
    known = [
        KnownWindow(start=start, end=end, revision=revision, status=status, as_of=milliseconds(as_of))
        for start, end, revision, status, as_of in rows[:limit]
    ]
    cursor = None
    if len(rows) > limit:
        after = WindowsAfter(ranking, length, country, int(known[-1].start.timestamp()))
        cursor = write_windows_after(after)
    return Windows(ranking=ranking, length=length, country=country or None, windows=known, next_cursor=cursor)


def sale(row: Row) -> Sale:
    """The row's sale; rows as the query of store.py gives them."""
    source, sale_id, version, amount, event_ms, salesman, city, country, product = row
    return Sale(
        source=source,
        sale_id=sale_id,
        version=str(version),
        amount=amount,
        event_time=milliseconds(event_ms),
        salesman_name=salesman,
        city=city,
        country=country,
        product=product,
    )


def explanation(rank: Rank, total: Decimal, count: int, rows: Sequence[Row], limit: int) -> Explanation:
    """The answer for the first `limit` of `rows`; one row more says that there is a next page."""
    cursor = None
    if len(rows) > limit:
        source, sale_id, _, _, event_ms = rows[limit - 1][:5]
        cursor = write_cursor(Cursor(rank.length, int(rank.start.timestamp()), Place(event_ms, source, sale_id)))
    return Explanation(
        ranking=rank.ranking,
        window=Window(start=rank.start, end=rank.end),
        name=rank.name,
        country=rank.country or None,
        total_sales=total,
        transaction_count=count,
        sales=[sale(row) for row in rows[:limit]],
        next_cursor=cursor,
    )
