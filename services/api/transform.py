"""Pure: parameters in, rows of a ranking set or of its sales out as an answer."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import orjson
import pycountry

from services.api.models import CityRank, Explanation, R, Ranking, Sale, SalesmanRank, Window

LAST_SECOND = 2**32 - 1  # ClickHouse's DateTime ends there; a later window cannot exist

Row = Sequence[Any]


RankingName = Literal["city", "salesman"]


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


class Cursor(NamedTuple):
    """Where a page begins: the window it belongs to (length and epoch seconds), and the last sale before it."""

    length: str
    window: int
    after: Place


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


def write_cursor(cursor: Cursor) -> str:
    """The cursor as text that is safe in an address; what is in it is nobody's business but ours."""
    return base64.urlsafe_b64encode(orjson.dumps([cursor.length, cursor.window, *cursor.after])).decode().rstrip("=")


def parse_cursor(text: str) -> Cursor:
    """The cursor that was written.

    Raises:
        ValueError: not such a text.
    """
    try:
        parts = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except ValueError:
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, int, int, str, str]:
        raise ValueError("must be the nextCursor of an earlier answer, unchanged")
    length, window, *after = parts
    if not 0 <= window <= LAST_SECOND or not 0 <= after[0] <= LAST_SECOND * 1000 + 999:
        raise ValueError("must be the nextCursor of an earlier answer, unchanged")
    return Cursor(length, window, Place(*after))


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


def sale(row: Row) -> Sale:
    """The row's sale; rows as the query of store.py gives them."""
    source, sale_id, version, amount, event_ms, salesman, city, country, product = row
    return Sale(
        source=source,
        sale_id=sale_id,
        version=str(version),
        amount=amount,
        event_time=_milliseconds(event_ms),
        salesman_name=salesman,
        city=city,
        country=country,
        product=product,
    )


def summed(rows: Sequence[Row]) -> tuple[Decimal, int]:
    """Total and count of all these rows."""
    return sum((row[3] for row in rows), Decimal(0)), len(rows)


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
