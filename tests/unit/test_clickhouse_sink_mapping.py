"""The sink's mapping: what ships fits contracts and tables, and everything that does not fit is rejected by name."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.catalogue import catalogue
from contracts.windows import window_lengths
from services.clickhouse_sink.ddl import further_tables, scripts, statements
from services.clickhouse_sink.mapping import (
    Column,
    MappingError,
    TableMapping,
    check,
    for_lengths,
    load_mappings,
    unknown_topics,
)
from services.clickhouse_sink.settings import MAPPINGS_FILE

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\n\(\n(.*)\n\)\nENGINE = (.*)\nORDER BY (.*)", re.DOTALL)
_COLUMN = re.compile(r"(\w+) ((?:Nullable\()?\w+(?:\([^)]*\))?\)?)( ALIAS .*)?")


def shipped_tables() -> dict[str, tuple[dict[str, Column], str]]:
    """Columns and engine of each table, read from the DDL files."""
    tables = {}
    for text in scripts().values():
        for statement in statements(text):
            found = _TABLE.fullmatch(statement)
            assert found, statement
            columns = {}
            for line in found[2].split(",\n"):
                column = _COLUMN.fullmatch(line.strip())
                assert column, line
                columns[column[1]] = Column(column[2], default=bool(column[3]))
            tables[found[1]] = (columns, f"{found[3]} ORDER BY {found[4]}")
    return tables


TABLES = shipped_tables()
MAPPINGS = load_mappings(MAPPINGS_FILE)


@pytest.mark.parametrize("topic", list(MAPPINGS))
def test_shipped_mapping_fits(topic: str) -> None:
    """Every shipped mapping fits its topic's schema and its table's DDL, and fills every column."""
    mapping = MAPPINGS[topic]
    columns, engine = TABLES[mapping.table]
    plan = check(catalogue()[topic], mapping, columns, engine)
    assert set(plan.columns) == {name for name, column in columns.items() if not column.default}


def test_every_consumer_is_mapped() -> None:
    """The topics that name the sink as a consumer in the catalogue are exactly the mapped ones."""
    assert set(MAPPINGS) == {name for name, topic in catalogue().items() if "clickhouse_sink" in topic.consumers}


LENGTHS = window_lengths("1h,1d@America/Sao_Paulo,15m")


def test_further_lengths_have_the_same_mapping() -> None:
    """Each ranking's further lengths are carried like the first, from topics of the catalogue to tables of the DDL."""
    everything = for_lengths(MAPPINGS, LENGTHS)
    expected = {
        "rankings.city.1d": "top_sales_city_1d",
        "rankings.city.15m": "top_sales_city_15m",
        "rankings.salesman.1d": "top_salesman_country_1d",
        "rankings.salesman.15m": "top_salesman_country_15m",
    }
    assert {topic: everything[topic].table for topic in expected} == expected
    assert not [topic for topic in everything if topic.startswith("sales.") and topic not in MAPPINGS]
    assert everything.items() >= MAPPINGS.items()
    assert everything["rankings.city.1d"] == changed(MAPPINGS["rankings.city"], table="top_sales_city_1d")
    assert not unknown_topics(everything, catalogue(LENGTHS))
    assert further_tables(MAPPINGS, LENGTHS) == {
        mapping.table: f"CREATE TABLE IF NOT EXISTS {mapping.table} AS {mapping.table.rpartition('_')[0]}"
        for topic, mapping in everything.items()
        if topic not in MAPPINGS
    }


def test_one_length_adds_nothing() -> None:
    """With one length there are the shipped topics and tables and no others."""
    assert for_lengths(MAPPINGS, LENGTHS[:1]) == MAPPINGS
    assert not further_tables(MAPPINGS, LENGTHS[:1])


def changed(mapping: TableMapping, **changes: Any) -> TableMapping:
    """The mapping with some fields replaced, validated again."""
    return TableMapping.model_validate(mapping.model_dump() | changes)


CITY = MAPPINGS["rankings.city"]
CITY_COLUMNS, CITY_ENGINE = TABLES["top_sales_city"]


@pytest.mark.parametrize(
    ("mapping", "columns", "engine", "said"),
    [
        (CITY, {}, CITY_ENGINE, "there is no table top_sales_city: run `python -m services.clickhouse_sink.ddl`"),
        (CITY, CITY_COLUMNS, "MergeTree ORDER BY rank", "the table's engine is MergeTree"),
        (CITY, CITY_COLUMNS, "ReplacingMergeTree ORDER BY rank", "not ReplacingMergeTree(revision)"),
        (CITY, CITY_COLUMNS | {"city": Column("UInt8", default=False)}, CITY_ENGINE, "UInt8 cannot hold string"),
        (
            CITY,
            CITY_COLUMNS | {"total_sales": Column("Decimal(18, 1)", default=False)},
            CITY_ENGINE,
            "column total_sales, field entries.total_sales: Decimal(18, 1) cannot hold decimal of scale 2",
        ),
        (
            CITY,
            CITY_COLUMNS | {"total_sales": Column("Float64", default=False)},
            CITY_ENGINE,
            "Float64 cannot hold decimal",
        ),
        (
            CITY,
            CITY_COLUMNS | {"extra": Column("String", default=False)},
            CITY_ENGINE,
            "column extra of the table has neither a field nor a default",
        ),
        (
            CITY,
            {name: column for name, column in CITY_COLUMNS.items() if name != "city"},
            CITY_ENGINE,
            "column city is not in the table",
        ),
        (
            changed(CITY, columns={**CITY.columns, "city": "entries.town"}),
            CITY_COLUMNS,
            CITY_ENGINE,
            "field entries.town (for column city) is not in the topic",
        ),
        (changed(CITY, identity=["window"]), CITY_COLUMNS, CITY_ENGINE, "field window is not in the topic"),
        (changed(CITY, each={"array": "status", "rows": 10, "position": "rank"}), CITY_COLUMNS, CITY_ENGINE, "array"),
        (
            changed(CITY, each={"array": "entries", "rows": 10, "position": "place"}),
            CITY_COLUMNS,
            CITY_ENGINE,
            "entries has no field place",
        ),
    ],
)
def test_misfit_is_rejected(mapping: TableMapping, columns: Mapping[str, Column], engine: str, said: str) -> None:
    """A mapping that does not fit the schema or the table is rejected with topic, column, field and reason."""
    with pytest.raises(MappingError, match=r"rankings\.city") as rejected:
        check(catalogue()["rankings.city"], mapping, columns, engine)
    assert said in str(rejected.value)


def test_nullable_field_needs_nullable_column() -> None:
    """A field that may be null is rejected by a column that cannot hold null."""
    columns, engine = TABLES["dead_letters"]
    strict = columns | {"key": replace(columns["key"], type="String")}
    with pytest.raises(MappingError, match="column key, field key: String cannot hold null"):
        check(catalogue()["sales.dlq"], MAPPINGS["sales.dlq"], strict, engine)


def test_every_misfit_is_listed() -> None:
    """All that is wrong with a mapping is said at once."""
    columns = CITY_COLUMNS | {"city": Column("UInt8", default=False), "rank": Column("String", default=False)}
    with pytest.raises(MappingError, match=r"column city.*column rank|column rank.*column city"):
        check(catalogue()["rankings.city"], CITY, columns, CITY_ENGINE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sales.unified: {table: sales}", "identity"),
        ("sales.unified: {table: 'a; drop table b', identity: [x], flush: {records: 1, seconds: 0}}", "table"),
        ("- nothing", "dictionary"),
        (": :", "mapping"),
    ],
)
def test_malformed_file_is_rejected(text: str, said: str, tmp_path: Path) -> None:
    """A malformed mapping file is rejected with its path and the wrong field."""
    path = tmp_path / "mappings.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(MappingError, match=said) as rejected:
        load_mappings(path)
    assert str(path) in str(rejected.value)


def test_unknown_topic_is_found() -> None:
    """A mapped topic that the catalogue does not have is found."""
    assert unknown_topics({"sales.nowhere": CITY, "rankings.city": CITY}, catalogue()) == ["sales.nowhere"]
