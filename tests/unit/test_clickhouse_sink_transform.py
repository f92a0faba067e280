"""The sink's rows: every contract example becomes rows, sets are always whole, values are exact or rejected."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.catalogue import catalogue
from contracts.json_avro import typed
from services.clickhouse_sink.columns import Avro, RangeError, conversion
from services.clickhouse_sink.mapping import Plan, check
from services.clickhouse_sink.transform import RejectedError, identity, newer, rows, rows_of_each
from tests.unit.test_clickhouse_sink_mapping import MAPPINGS, TABLES

PLANS = {topic: check(catalogue()[topic], mapping, *TABLES[mapping.table]) for topic, mapping in MAPPINGS.items()}
EXAMPLES = [(topic, name) for topic in PLANS for name in catalogue()[topic].examples()]
POSITION = {"$partition": 0, "$offset": 7}
START = datetime(2026, 2, 19, 10, tzinfo=UTC)


def example(topic: str, name: str) -> dict[str, Any]:
    """A contract example as the decoder gives it."""
    record: dict[str, Any] = typed(catalogue()[topic].avro, catalogue()[topic].examples()[name])
    return record | POSITION


def city_set(entries: int, revision: int = 1) -> dict[str, Any]:
    """A ranking set of cities with so many entries."""
    return {
        "ranking": "city",
        "country": "",
        "window_start": START,
        "window_end": START + timedelta(hours=1),
        "revision": revision,
        "status": "provisional",
        "watermark": START + timedelta(milliseconds=1001),
        "as_of": START + timedelta(milliseconds=1002),
        "entries": [
            {"rank": n, "name": f"city {n}", "total_sales": Decimal(n) / 100, "transaction_count": n}
            for n in range(1, entries + 1)
        ],
    } | POSITION


def columns_of(plan: Plan, row: tuple[Any, ...]) -> dict[str, Any]:
    """A row by column."""
    return dict(zip(plan.columns, row, strict=True))


@pytest.mark.parametrize(("topic", "name"), EXAMPLES)
def test_example_becomes_rows(topic: str, name: str) -> None:
    """Every contract example of a mapped topic becomes its table's number of rows, with a value for every column."""
    plan = PLANS[topic]
    made = rows(plan, example(topic, name))
    assert len(made) == (plan.mapping.each.rows if plan.mapping.each else 1)
    assert {len(row) for row in made} == {len(plan.columns)}


@pytest.mark.parametrize("length", range(11))
def test_set_is_ten_rows(length: int) -> None:
    """A set of any length is ten rows of one revision with ranks 1 to 10, blank beyond its length."""
    plan = PLANS["rankings.city"]
    made = [columns_of(plan, row) for row in rows(plan, city_set(length, revision=5))]
    assert [row["rank"] for row in made] == list(range(1, 11))
    assert {(row["revision"], row["status"], row["window_start"]) for row in made} == {
        (5, "provisional", int(START.timestamp()))
    }
    assert [row["city"] for row in made] == [f"city {n}" for n in range(1, length + 1)] + [""] * (10 - length)
    assert [row["transaction_count"] for row in made] == [*range(1, length + 1)] + [0] * (10 - length)
    assert sum(row["total_sales"] for row in made) == sum(Decimal(n) / 100 for n in range(1, length + 1))
    assert {row["as_of_ms"] - row["watermark_ms"] for row in made} == {1}


def test_eleven_entries_are_rejected() -> None:
    """A set longer than its ten rows is rejected, not cut."""
    with pytest.raises(RejectedError, match="entries: rank must count from 1 to at most 10"):
        rows(PLANS["rankings.city"], city_set(11))


def test_gap_in_ranks_is_rejected() -> None:
    """A set whose ranks do not count 1, 2, 3 is rejected."""
    record = city_set(3)
    record["entries"][1]["rank"] = 4
    with pytest.raises(RejectedError, match=r"\[1, 4, 3\]"):
        rows(PLANS["rankings.city"], record)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"transaction_count": 2**32}, "transaction_count"),
        ({"total_sales": Decimal(10) ** 36}, "total_sales"),
        ({"total_sales": -(Decimal(10) ** 36)}, "total_sales"),
    ],
)
def test_value_beyond_its_column_is_rejected(change: dict[str, Any], field: str) -> None:
    """A value that its column cannot hold is rejected with the field's name, never wrapped around or rounded."""
    record = city_set(1)
    record["entries"][0] |= change
    with pytest.raises(RejectedError, match=f"field {field}"):
        rows(PLANS["rankings.city"], record)


@pytest.mark.parametrize(
    "start", [START + timedelta(milliseconds=1), datetime(1969, 12, 31, tzinfo=UTC), datetime(2107, 1, 1, tzinfo=UTC)]
)
def test_window_start_beyond_datetime_is_rejected(start: datetime) -> None:
    """A window that does not start at a whole second from 1970 to 2106 is rejected: DateTime cannot hold it."""
    with pytest.raises(RejectedError, match="field window_start"):
        rows(PLANS["rankings.city"], city_set(1) | {"window_start": start})


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
def test_milliseconds_are_exact(moment: datetime) -> None:
    """A timestamp kept as milliseconds is exact to the millisecond."""
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    kept = conversion(Avro("timestamp-millis"), "Int64")(moment)
    assert datetime.fromtimestamp(kept // 1000, UTC) + timedelta(milliseconds=kept % 1000) == moment


@given(st.integers(-(2**70), 2**70), st.sampled_from(["UInt8", "Int16", "UInt32", "Int64", "UInt64"]))
def test_integer_is_kept_or_rejected(value: int, column: str) -> None:
    """An integer is either kept as it is or rejected, exactly at its column's limits."""
    bits = int("".join(filter(str.isdigit, column)))
    low, high = (0, 2**bits - 1) if column.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    convert = conversion(Avro("long"), column)
    if low <= value <= high:
        assert convert(value) == value
    else:
        with pytest.raises(RangeError):
            convert(value)


@pytest.mark.parametrize("topic", list(PLANS))
def test_many_records_become_the_rows_of_each(topic: str) -> None:
    """A batch gives each record the rows, with the types, that it has alone."""
    records = [example(topic, name) for name in catalogue()[topic].examples()] * 2
    alone = [rows(PLANS[topic], record) for record in records]
    assert repr(rows_of_each(PLANS[topic], records)) == repr(alone)
    assert rows_of_each(PLANS[topic], []) == []


def test_only_the_records_that_do_not_fit_are_rejected() -> None:
    """In a batch the others keep their rows, and the rejection names the field."""
    plan = PLANS["sales.unified"]
    good = example("sales.unified", "sale")
    first, wrong, last = rows_of_each(plan, [good, good | {"version": -1}, good])
    assert first == last == rows(plan, good)
    assert isinstance(wrong, RejectedError)
    assert "field version: -1 is outside" in str(wrong)


def test_highest_version_wins_and_a_tie_keeps_the_first() -> None:
    """Of two records of one sale the higher version is written; of equal versions the first."""
    plan = PLANS["sales.unified"]
    first = example("sales.unified", "sale")
    assert identity(plan, first) == (first["source"], first["sale_id"])
    assert newer(plan, first | {"version": first["version"] + 1}, first)
    assert not newer(plan, dict(first), first)
    assert not newer(plan, first | {"version": first["version"] - 1}, first)


def test_dead_letters_are_identified_by_partition_and_offset() -> None:
    """Two dead letters of the same content are two rows; the same record read twice is one."""
    plan = PLANS["sales.dlq"]
    record = example("sales.dlq", "never_in_a_topic")
    assert identity(plan, record) == identity(plan, dict(record))
    assert identity(plan, record) != identity(plan, record | {"$offset": 8})
