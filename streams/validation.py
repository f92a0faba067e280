"""The rules that every sale must meet, whatever its source; each broken one has a code of contracts/reasons.py."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import pycountry

from chassis.results import Rejected
from contracts.reference import CITIES
from contracts.sale import SaleEvent, SourceName, normalized
from contracts.text import quoted
from contracts.time import EPOCH, at_ms, parse_instant, to_ms
from contracts.versions import MAX_VERSION

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(minutes=5)
EARLIEST_MS = to_ms(EARLIEST)
MAX_TEXT = 255
MAX_INTEGER_DIGITS = 16
MAX_SCALE = 2
CENT = Decimal("0.01")
AMOUNT_LIMIT = Decimal(10) ** MAX_INTEGER_DIGITS

# field of the unified sale -> the field of a fetched record that it is made from, for lineage
COLUMNS = {
    "sale_id": ("sale_id",),
    "salesman_name": ("salesman_name",),
    "city": ("city",),
    "country": ("country",),
    "amount": ("amount",),
    "product": ("product",),
    "event_time": ("sale_date",),
    "ingestion_time": ("fetched_at",),
}

NAMES: Mapping[str, str] = MappingProxyType({})
"""Fields that are called as in the unified sale."""

_DECIMAL = re.compile(r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))")
_PLAIN = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")


class InvalidError(Exception):
    """A value breaks a rule; `rejected` says which."""

    def __init__(self, reason: str, field: str, value: object = None) -> None:
        super().__init__(reason)
        self.reason, self.field, self.value = reason, field, value

    @property
    def rejected(self) -> Rejected:
        """The rejection that names the field."""
        return self.named({})

    def named(self, names: Mapping[str, str]) -> Rejected:
        """The rejection that names the field as `names` has it."""
        return Rejected(self.reason, f"{names.get(self.field, self.field)} is {quoted(self.value)}")


def _clean(value: str) -> tuple[str, str | None]:
    """The text as contracts/sale.py normalizes it, and the code of the rule that it breaks."""
    clean = normalized(value)
    if not clean:
        return value, "field_missing"
    if not clean.isprintable() and "Cc" in map(unicodedata.category, clean):
        return clean, "field_control_character"
    return clean, "field_too_long" if len(clean) > MAX_TEXT else None


_clean_shared = lru_cache(maxsize=4096)(_clean)


def text(field: str, value: str | None, clean: Callable[[str], tuple[str, str | None]] = _clean) -> str:
    """The text as contracts/sale.py normalizes it.

    Raises:
        InvalidError: absent or blank, longer than 255 characters, or with a control character (category Cc).
    """
    if value is None:
        raise InvalidError("field_missing", field, value)
    value, broken = clean(value)
    if broken:
        raise InvalidError(broken, field, value)
    return value


def shared(field: str, value: str | None) -> str:
    """As `text`, for what many sales have in common: those of usual length are remembered."""
    return text(field, value, _clean_shared if value is not None and len(value) <= MAX_TEXT else _clean)


def _fold(value: str) -> str:
    """Without case and accents, for comparison only."""
    decomposed = unicodedata.normalize("NFKD", value)
    return "".join(character for character in decomposed if not unicodedata.combining(character)).casefold()


@cache
def _known_cities() -> Mapping[str, str]:
    return MappingProxyType({_fold(city): city for city in CITIES})


@lru_cache(maxsize=4096)
def _canonical(written: str) -> str:
    return _known_cities().get(_fold(written), written)


def city(field: str, value: str | None) -> str:
    """The canonical spelling of a known city ("SAO PAULO" is "São Paulo"); an unknown one passes as written."""
    return _canonical(shared(field, value))


@cache
def _country_codes() -> frozenset[str]:
    return frozenset(country.alpha_2 for country in pycountry.countries)


def country(field: str, value: str | None) -> str:
    """An ISO 3166-1 alpha-2 code in upper case; lower-case ASCII is taken too, nothing else is."""
    written = shared(field, value)
    code = written.upper()
    if not written.isascii() or code not in _country_codes():
        raise InvalidError("country_unknown", field, written)
    return code


def amount(field: str, value: str | Decimal | None) -> Decimal:
    """An exact amount with two decimal places, from a Decimal or from plain decimal notation.

    Text is an optional sign, ASCII digits and a point: no exponent, no thousands separator, no comma, no NaN, no
    infinity. Its scale is that of the notation: "1.500" has three decimals and is rejected, because in Brazil it is
    1500. A Decimal has no notation, so its trailing zeros are exact: 100.0000 of a numeric(14,4) is 100.00.

    Raises:
        InvalidError: malformed, more than two decimals, or not within 0 < amount < 10^16.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidError("amount_malformed", field, value)
        if CENT <= value < AMOUNT_LIMIT and (exact := value.quantize(CENT)) == value:
            return exact
        written = format(value, "f")
        if "." in written:
            written = written.rstrip("0")
    elif value is None or not value.strip():
        raise InvalidError("field_missing", field, value)
    else:
        written = value.strip()
    parts = _DECIMAL.fullmatch(written)
    if parts is None:
        raise InvalidError("amount_malformed", field, value)
    sign, integer, fraction, only_fraction = parts.groups(default="")
    if len(fraction or only_fraction) > MAX_SCALE:
        raise InvalidError("amount_scale", field, value)
    if sign == "-" or len(integer.lstrip("0")) > MAX_INTEGER_DIGITS:
        raise InvalidError("amount_range", field, value)
    exact = Decimal(written).quantize(CENT)
    if exact <= 0:
        raise InvalidError("amount_range", field, value)
    return exact


def decimal(field: str, value: str) -> Decimal:
    """An exact number from the notation of an interface, where a point is a point: "1.500" is one and a half.

    Raises:
        InvalidError: malformed.
    """
    if _PLAIN.fullmatch(value) is None:
        raise InvalidError("amount_malformed", field, value)
    return Decimal(value)


def epoch_ms(field: str, value: int | None, now: datetime) -> datetime:
    """An instant from milliseconds since 1970, between 2000-01-01 and five minutes ahead of `now`.

    Compared as integers, so that no value is too large to be rejected properly.

    Raises:
        InvalidError: absent, too early or in the future.
    """
    if value is None:
        raise InvalidError("field_missing", field, value)
    if value < EARLIEST_MS:
        raise InvalidError("time_too_early", field, value)
    if value > to_ms(now + AHEAD):
        raise InvalidError("time_in_future", field, value)
    return at_ms(value)


def iso_instant(field: str, value: str | None, zone: tzinfo | None, now: datetime) -> datetime:
    """An instant from the text that contracts/time.py describes; `zone` decides where the text names none.

    Without a `zone` the text must name one. A date alone is rejected: without a time the sale belongs to no hour.

    Raises:
        InvalidError: absent, malformed, too early or in the future.
    """
    if value is None or not value.strip():
        raise InvalidError("field_missing", field, value)
    try:
        milliseconds = to_ms(parse_instant(value, zone))
    except (ValueError, OverflowError):
        raise InvalidError("time_malformed", field, value) from None
    return epoch_ms(field, milliseconds, now)


def whole_milliseconds(value: datetime) -> datetime:
    """The instant cut to milliseconds, as Avro's timestamp-millis holds it."""
    beyond = value.microsecond % 1000
    return value.replace(microsecond=value.microsecond - beyond) if beyond else value


def bounded(seen: datetime, now: datetime) -> datetime:
    """When Placar first held the record, never ahead of `now`: a clock that is wrong must not drag the watermark."""
    return whole_milliseconds(min(seen, now))


def version(field: str, value: int) -> int:
    """A version that fits a long.

    Raises:
        InvalidError: negative or too large.
    """
    if not 0 <= value <= MAX_VERSION:
        raise InvalidError("version_range", field, value)
    return value


class RawSale(NamedTuple):  # made for every record, three times as fast as a frozen dataclass
    """The values of one sale as its source gives them; `event_time` reads the source's own notation of time."""

    sale_id: str | None
    salesman_name: str | None
    city: str | None
    country: str | None
    amount: str | Decimal | None
    product: str | None
    event_time: Callable[[], datetime]


def sale(
    raw: RawSale, source: SourceName, received: datetime, version_now: int, names: Mapping[str, str] = NAMES
) -> SaleEvent | Rejected:
    """The sale as it is now, or why it is rejected: the first rule that it breaks, in the order of the fields.

    `names` says how the source calls a field, for the rejection.
    """
    try:
        return {
            "sale_id": text("sale_id", raw.sale_id),
            "source": source,
            "salesman_name": shared("salesman_name", raw.salesman_name),
            "city": city("city", raw.city),
            "country": country("country", raw.country),
            "amount": amount("amount", raw.amount),
            "product": shared("product", raw.product),
            "event_time": raw.event_time(),
            "ingestion_time": received,
            "version": version("version", version_now),
            "deleted": False,
        }
    except InvalidError as invalid:
        return invalid.named(names)


def deletion(raw: RawSale, source: SourceName, received: datetime, version_now: int) -> SaleEvent | Rejected:
    """That the sale is gone. Only identity and version must be right: a delete always deletes.

    Every other value is the last one where it is valid, else neutral.
    """

    def lenient(rule: Callable[[], Any], neutral: object) -> Any:
        try:
            return rule()
        except InvalidError:
            return neutral

    try:
        return {
            "sale_id": text("sale_id", raw.sale_id),
            "source": source,
            "salesman_name": lenient(lambda: shared("salesman_name", raw.salesman_name), ""),
            "city": lenient(lambda: city("city", raw.city), ""),
            "country": lenient(lambda: country("country", raw.country), ""),
            "amount": lenient(lambda: amount("amount", raw.amount), Decimal("0.00")),
            "product": lenient(lambda: shared("product", raw.product), ""),
            "event_time": lenient(raw.event_time, EPOCH),
            "ingestion_time": received,
            "version": version("version", version_now),
            "deleted": True,
        }
    except InvalidError as invalid:
        return invalid.rejected


def gone(sale_id: str, source: SourceName, received: datetime, version_now: int) -> SaleEvent:
    """That a sale is gone of which nothing is known but its id, a valid text."""
    return {
        "sale_id": sale_id,
        "source": source,
        "salesman_name": "",
        "city": "",
        "country": "",
        "amount": Decimal("0.00"),
        "product": "",
        "event_time": EPOCH,
        "ingestion_time": received,
        "version": version_now,
        "deleted": True,
    }
