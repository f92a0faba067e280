"""Pure: parameters in, rows of a ranking set or of its sales out as an answer."""

import base64
import json
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import pycountry
from pydantic import Field, TypeAdapter

from contracts import time
from contracts.rankings import BY_NAME, RankingDefinition
from contracts.time import at_ms
from services.api.models import ENTRIES, SETS, Explanation, KnownWindow, RankingSet, Sale, Window, Windows

LAST_SECOND = 2**32 - 1  # ClickHouse's DateTime ends there; a later window cannot exist

Row = Sequence[Any]
Newest = Literal["latest", "latest-final"]
WindowChoice = Newest | datetime
"""Which window: the newest, the newest that is final or corrected, or the one that starts then."""


@dataclass(frozen=True)
class Rank:
    """Whose sales: of `name` in the window from `start` to `end`; `country` is '' where the ranking has none.

    `length` is the label of the window's length.
    """

    ranking: RankingDefinition
    length: str
    start: datetime
    end: datetime
    name: str
    country: str


Second = Annotated[int, Field(ge=0, le=LAST_SECOND)]


class SalePosition(NamedTuple):
    """Where a sale stands in the order of an explanation."""

    event_ms: Annotated[int, Field(ge=0, le=LAST_SECOND * 1000 + 999)]
    source: str
    sale_id: str


BEFORE_ALL = SalePosition(-1, "", "")


class Cursor(NamedTuple):
    """Where a page begins: the window it belongs to (length and epoch seconds), and the last sale before it."""

    length: str
    window: Second
    after: SalePosition


class WindowsCursor(NamedTuple):
    """Where a page of windows begins: the list it belongs to, and the start of the last window before it."""

    ranking: str
    length: str
    country: str
    start: Second


C = TypeVar("C", Cursor, WindowsCursor)


def write_cursor(cursor: Cursor | WindowsCursor) -> str:
    """The cursor as text that is safe in an address; its content is private."""
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")


def parse_cursor(kind: type[C], text: str) -> C:
    """The cursor that was written.

    Raises:
        ValueError: not such a text.
    """
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return TypeAdapter(kind).validate_json(content, strict=True)
    except ValueError:
        raise ValueError("must be the nextCursor of an earlier answer, unchanged") from None


def wrong_names(items: Iterable[tuple[str, str]], known: Iterable[str]) -> list[tuple[str, str, str]]:
    """Name, value and remedy of each parameter that there is not, or that is there twice: it would be ignored."""
    names, earlier = sorted(known), set[str]()
    wrong = []
    for name, value in items:
        if name not in names:
            wrong.append((name, value, f"there is no such parameter; there are: {', '.join(names) or 'none'}"))
        elif name in earlier:
            wrong.append((name, value, "must be given once"))
        earlier.add(name)
    return wrong


def parse_instant(value: object) -> datetime:
    """The instant in UTC.

    Raises:
        ValueError: not an RFC 3339 instant with a zone.
    """
    try:
        return time.parse_instant(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"must be an instant with a zone such as {time.EXAMPLE} (write + as %2B)") from None


def parse_window(value: object) -> WindowChoice:
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


def one_of(choices: Collection[str], remedy: str) -> Callable[[str | None], str | None]:
    """A check that gives the text itself, None for none, and raises ValueError where it is not one of the choices."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in choices:
            raise ValueError(remedy)
        return value

    return check


COUNTRIES = sorted(country.alpha_2 for country in pycountry.countries)
parse_ranking = one_of(BY_NAME, f"must be one of {', '.join(BY_NAME)}")
parse_country = one_of(frozenset(COUNTRIES), "must be an ISO 3166 alpha-2 code in capitals such as BR")


def parse_length(labels: Collection[str]) -> Callable[[str | None], str | None]:
    """The check of a label among those of the configured lengths."""
    return one_of(labels, f"must be a window length that is configured (RANKING_WINDOWS): {', '.join(labels)}")


def parse_whole_number(value: object) -> object:
    """The text of a whole number as a number; anything else that is no text as it is.

    Raises:
        ValueError: it has other characters than the digits 0 to 9.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError("must be a whole number in the digits 0 to 9")
    return int(value)


def composed(value: object) -> object:
    """A text in Unicode's composed form (NFC), in which names are stored; anything else as it is."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def epoch_second(moment: datetime) -> int | None:
    """The instant as the store keeps window starts; None where no window can start (fractions, outside 1970..2106)."""
    seconds = int(moment.timestamp())
    return seconds if moment.microsecond == 0 and 0 <= seconds <= LAST_SECOND else None


def first_second(moment: datetime) -> int:
    """The first whole second at or after the instant, within what the store can hold."""
    return min(max(math.ceil(moment.timestamp()), 0), LAST_SECOND)


def ranking_set(ranking: RankingDefinition, rows: Sequence[Row], limit: int) -> RankingSet:
    """The answer for the ten rows of one set: blank ones (count 0) left out, at most `limit` entries.

    Rows as the queries of store.py give them.

    Raises:
        ValueError: the rows are of more than one revision.
    """
    start, end, revision, status, watermark, as_of = rows[0][:6]
    if any(row[2] != revision for row in rows):
        raise ValueError(f"window {start}: rows of revisions {sorted({row[2] for row in rows})} in one answer")
    entry, column = ENTRIES[ranking.name], ranking.column
    return SETS[ranking.name](
        window=Window(start=start, end=end),
        status=status,
        revision=revision,
        as_of=at_ms(as_of),
        watermark=at_ms(watermark),
        rankings=[
            # the competitor last: a ranking may be of countries
            entry(**{"rank": rank, "country": country, "total_sales": total, "transaction_count": count, column: name})
            for rank, name, country, total, count in (row[6:11] for row in rows)
            if count > 0 and rank <= limit
        ],
    )


def windows_page(ranking: str, length: str, country: str, rows: Sequence[Row], limit: int) -> Windows:
    """The answer for the first `limit` of `rows`; one row more says that there is a next page."""
    known = [
        KnownWindow(start=start, end=end, revision=revision, status=status, as_of=at_ms(as_of))
        for start, end, revision, status, as_of in rows[:limit]
    ]
    cursor = None
    if len(rows) > limit:
        after = WindowsCursor(ranking, length, country, int(known[-1].start.timestamp()))
        cursor = write_cursor(after)
    return Windows(ranking=ranking, length=length, country=country or None, windows=known, next_cursor=cursor)


def sale(row: Row) -> Sale:
    """The row's sale; rows as the query of store.py gives them."""
    source, sale_id, version, amount, event_ms, salesman, city, country, product = row
    return Sale(
        source=source,
        sale_id=sale_id,
        version=str(version),
        amount=amount,
        event_time=at_ms(event_ms),
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
        cursor = write_cursor(Cursor(rank.length, int(rank.start.timestamp()), SalePosition(event_ms, source, sale_id)))
    return Explanation(
        ranking=rank.ranking.name,
        window=Window(start=rank.start, end=rank.end),
        name=rank.name,
        country=rank.country or None,
        total_sales=total,
        transaction_count=count,
        sales=[sale(row) for row in rows[:limit]],
        next_cursor=cursor,
    )
