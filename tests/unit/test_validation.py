"""The rules of validation, one by one."""

import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.results import Rejected
from contracts.reasons import REASONS
from contracts.reference import CITIES
from contracts.sale import normalized
from contracts.time import EPOCH
from streams import validation
from streams.validation import InvalidError
from tools import raw_sales

NOW = datetime(2026, 2, 19, 12, 0, tzinfo=UTC)


def tried(rule: Callable[..., Any], *values: Any) -> Any:
    """What the rule gives, or its rejection."""
    try:
        return rule("a_field", *values)
    except InvalidError as invalid:
        return invalid.rejected


def reason(error: pytest.ExceptionInfo[InvalidError]) -> str:
    """The reason code of a rejection."""
    return error.value.rejected.reason


@given(st.text(max_size=300))
def test_text_is_clean_or_rejected(value: str) -> None:
    """The result is in NFC, trimmed, without control characters and 1 to 255 long, or it is rejected."""
    clean = tried(validation.text, value)
    if isinstance(clean, Rejected):
        assert clean.reason in REASONS
        assert "a_field" in clean.detail
        assert len(clean.detail) < 100
    else:
        assert clean == unicodedata.normalize("NFC", clean)
        assert clean == clean.strip(" ")
        assert "  " not in clean
        assert not any(unicodedata.category(character) == "Cc" for character in clean)
        assert 1 <= len(clean) <= 255
        assert validation.text("product", clean) == clean


def test_only_texts_of_usual_length_are_remembered() -> None:
    """A text that can only be rejected takes no memory after it was, however long; one that can be stored does."""
    validation.shared("product", "remembered once")
    before = validation._clean_shared.cache_info()
    assert tried(validation.shared, "x" * 256).reason == "field_too_long"
    assert validation.shared("product", "remembered once") == "remembered once"
    after = validation._clean_shared.cache_info()
    assert (after.currsize, after.hits) == (before.currsize, before.hits + 1)
    assert after.maxsize == 4096


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("  Ana \t\n Souza ", "Ana Souza"),
        ("a\u00a0b", "a b"),
        ("Joa\u0303o", "João"),
        ("x" * 255, "x" * 255),
        ("李", "李"),
    ],
)
def test_text_is_cleaned(written: str, clean: str) -> None:
    """White space is collapsed, accents are composed, and what is right stays."""
    assert validation.text("name", written) == clean


@pytest.mark.parametrize(
    "invisible", ["\ufeff", "\u200b", "\u00ad", "\u2060", "\u202e", "\u034f", "\ufe0f", "\u3164", "\u200d"]
)
@pytest.mark.parametrize("where", ["{}F-1", "F-1{}", "F{}-1", "{0}F{0}-{0}1{0}"])
def test_invisible_characters_make_no_doubles(invisible: str, where: str) -> None:
    """An id or a name is the same with and without characters that nobody sees, also for the tools that look back."""
    assert validation.text("sale_id", where.format(invisible)) == "F-1"
    assert raw_sales.sale_id(where.format(invisible)) == "F-1"


def test_every_format_character_is_removed_but_those_that_are_seen() -> None:
    """Of the category Cf only the Arabic signs that enclose a number and the hieroglyphs' controls are left."""
    format_characters = {c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) == "Cf"}
    left = {c for c in format_characters if normalized(f"a{c}a") != "aa"}
    assert all(unicodedata.name(c).startswith(("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN")) for c in left)


@pytest.mark.parametrize("name", ["می\u200cخواهم", "क्\u200dष", "ක්\u200dෂ"])
def test_joiners_stay_where_a_script_is_spelled_with_them(name: str) -> None:
    """Persian, Hindi and Sinhala words keep their joiners; a Latin name has none."""
    assert validation.text("salesman_name", name) == unicodedata.normalize("NFC", name)
    assert validation.text("salesman_name", "An\u200ca") == "Ana"


def test_removed_characters_leave_composed_text() -> None:
    """What an invisible character kept apart is composed."""
    assert validation.text("salesman_name", "Joa\u034f\u0303o") == "João"


@pytest.mark.parametrize("city", CITIES)
def test_known_city_is_canonical(city: str) -> None:
    """A known city is recognised without its case and accents, and composed or not."""
    bare = "".join(c for c in unicodedata.normalize("NFD", city) if not unicodedata.combining(c))
    for written in (city, city.upper(), bare.lower(), unicodedata.normalize("NFD", city), f" {bare.upper()} "):
        assert validation.city("city", written) == city


def test_unknown_city_passes() -> None:
    """A city that is not known stays as written, cleaned."""
    assert validation.city("city", " Santo  André ") == "Santo André"


@pytest.mark.parametrize(("written", "code"), [("BR", "BR"), (" pt ", "PT"), ("Us", "US")])
def test_country(written: str, code: str) -> None:
    """Alpha-2 codes are taken in any case and written in upper case."""
    assert validation.country("country", written) == code


@pytest.mark.parametrize("written", ["ß", "\ufb01", "ıt", "\uff22\uff32", "ſe", "B\u0280"])
def test_country_is_ascii(written: str) -> None:
    """What becomes a code only by case folding or compatibility forms is no code."""
    with pytest.raises(InvalidError) as rejected:
        validation.country("country", written)
    assert reason(rejected) == "country_unknown"


@given(st.decimals(min_value="0.01", max_value="9999999999999999.99", places=2))
def test_amount_is_exact(value: Decimal) -> None:
    """An amount survives exactly, from text and from a Decimal."""
    assert validation.amount("amount", format(value, "f")) == value
    assert validation.amount("amount", value) == value


@given(st.text(max_size=40))
def test_amount_text_is_exact_or_rejected(value: str) -> None:
    """Whatever the text, an amount is positive with two decimal places, or a rejection."""
    exact = tried(validation.amount, value)
    if isinstance(exact, Rejected):
        assert exact.reason in {"field_missing", "amount_malformed", "amount_scale", "amount_range"}
    else:
        assert exact.as_tuple().exponent == -2
        assert 0 < exact < 10**16


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (Decimal("NaN"), "amount_malformed"),
        (Decimal("-Infinity"), "amount_malformed"),
        (Decimal("1E+20"), "amount_range"),
        (Decimal("0.001"), "amount_scale"),
        (Decimal("100.0050"), "amount_scale"),
        (Decimal("100.0000"), None),
        (Decimal("0.5000"), None),
        (Decimal("0.0000"), "amount_range"),
        ("100.0000", "amount_scale"),
        (Decimal("0"), "amount_range"),
        ("1e2", "amount_malformed"),
        ("10.00\n", None),
        ("5.", None),
    ],
)
def test_amount_notation(value: str | Decimal, code: str | None) -> None:
    """Exponents, NaN and infinity are malformed as text; a Decimal is judged by its value."""
    if code is None:
        assert validation.amount("amount", value) > 0
        return
    with pytest.raises(InvalidError) as rejected:
        validation.amount("amount", value)
    assert reason(rejected) == code


@given(st.integers(-(2**63), 2**63 - 1))
def test_epoch_ms_is_bounded(value: int) -> None:
    """Every long is an instant between 2000-01-01 and five minutes ahead, or a rejection; none overflows."""
    instant = tried(validation.epoch_ms, value, NOW)
    if isinstance(instant, Rejected):
        assert instant.reason in {"time_too_early", "time_in_future"}
    else:
        assert datetime(2000, 1, 1, tzinfo=UTC) <= instant <= NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("instant", "code"),
    [
        (datetime(2000, 1, 1, tzinfo=UTC), None),
        (datetime(2000, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1), "time_too_early"),
        (NOW + timedelta(minutes=5), None),
        (NOW + timedelta(minutes=5, milliseconds=1), "time_in_future"),
    ],
)
def test_time_limits(instant: datetime, code: str | None) -> None:
    """Both limits belong to what is allowed; a millisecond beyond does not."""
    value = (instant - EPOCH) // timedelta(milliseconds=1)
    if code is None:
        assert validation.epoch_ms("sale_date", value, NOW) == instant
        return
    with pytest.raises(InvalidError) as rejected:
        validation.epoch_ms("sale_date", value, NOW)
    assert reason(rejected) == code


@pytest.mark.parametrize(
    "written",
    [
        "2026-02-19T10:00:00Z",
        "2026-02-19t10:00:00z",
        "2026-02-19 10:00",
        "2026-02-19T07:00:00-03:00",
        "2026-02-19T10:00:00.000+00:00",
        " 2026-02-19T10:00:00.000000000Z ",
    ],
)
def test_iso_notations(written: str) -> None:
    """The notations of RFC 3339 mean the same instant, and seconds may be left out."""
    assert validation.iso_instant("sale_date", written, UTC, NOW) == datetime(2026, 2, 19, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "20260219T100000Z",
        "2026-W08-4T10:00:00Z",
        "2026-050T10:00:00Z",
        "2026-02-19T10:00:00,000+00:00",
        "2026-02-19T10Z",
        "2026-02-19T10.5Z",
        "2026-02-19T10:30.5Z",
        "2026-02-19T10:30:00-03",
        "2026-02-19T10:30:00-0300",
        "2026-02-19T10:30:00-03000000",
        "2026-02-19T10:30:00-03:00:30",
        "2026-02-19T10:30:00 Z",
        "2026-02-19T10:30:60Z",
        "2026-02-19T24:00:01Z",
        "2026-02-19T10:00:00\u0660Z",
    ],
)
def test_nothing_is_guessed(written: str) -> None:
    """A notation outside RFC 3339 is rejected, also where Python reads it."""
    with pytest.raises(InvalidError) as rejected:
        validation.iso_instant("sale_date", written, UTC, NOW)
    assert reason(rejected) == "time_malformed"


def test_iso_zone_of_the_setting() -> None:
    """Where the text names no zone, the given one counts; where it names one, that."""
    zone = ZoneInfo("America/Sao_Paulo")
    assert validation.iso_instant("d", "2026-02-19T07:00:00", zone, NOW) == datetime(2026, 2, 19, 10, tzinfo=UTC)
    assert validation.iso_instant("d", "2026-02-19T07:00:00Z", zone, NOW) == datetime(2026, 2, 19, 7, tzinfo=UTC)


@given(st.text(alphabet="0123456789-:.,TWZ+ ", max_size=35))
def test_iso_text_is_an_instant_or_rejected(value: str) -> None:
    """Whatever the text, a time is within its limits or rejected."""
    instant = tried(validation.iso_instant, value, ZoneInfo("America/Sao_Paulo"), NOW)
    if isinstance(instant, Rejected):
        assert instant.reason in REASONS
    else:
        assert instant <= NOW + timedelta(minutes=5)
        assert instant.microsecond % 1000 == 0


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_ingestion_time_is_never_ahead(seen: datetime, now: datetime) -> None:
    """The ingestion time is whole milliseconds and never after now, whatever the source's clock says."""
    held = validation.bounded(seen, now)
    assert held <= now
    assert held.microsecond % 1000 == 0
