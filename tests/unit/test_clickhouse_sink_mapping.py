"""The sink's mapping: what ships fits contracts and tables, and everything that does not fit is rejected by name."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.catalogue import catalogue
from contracts.rankings import BY_NAME, RANKINGS
from contracts.windows import window_lengths
from services.clickhouse_sink import ddl
from services.clickhouse_sink import mapping as mapping_module
from services.clickhouse_sink.ddl import scripts, statements
from services.clickhouse_sink.mapping import (
    Column,
    MappingError,
    TableMapping,
    check,
    load_mappings,
    unknown_topics,
)
from services.clickhouse_sink.settings import MAPPINGS_FILE

LENGTHS = window_lengths("1h,1d@America/Sao_Paulo,15m")
_UPGRADE = re.compile(r"ALTER TABLE (\w+) MODIFY COLUMN (\w+) (.+)")
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\n\(\n(.*)\n\)\nENGINE = (.*)\nORDER BY (.*)", re.DOTALL)
_VIEW = re.compile(r"CREATE MATERIALIZED VIEW IF NOT EXISTS \w+ TO (\w+)\nAS SELECT (.*) FROM (\w+)")
_COLUMN = re.compile(r"(\w+) ((?:Nullable\()?\w+(?:\([^)]*\))?\)?)( ALIAS .*)?")


def shipped_tables() -> dict[str, tuple[dict[str, Column], str]]:
    """Columns and engine of each table, read from the DDL files."""
    tables: dict[str, tuple[dict[str, Column], str]] = {}
    for text in scripts(LENGTHS).values():
        for statement in statements(text):
            if upgrade := _UPGRADE.fullmatch(statement):
                assert tables[upgrade[1]][0][upgrade[2]].type == upgrade[3]
                continue
            if view := _VIEW.fullmatch(statement):
                target, source = tables[view[1]][0], tables[view[3]][0]
                assert view[2].split(", ") == list(target)
                assert {name: source[name] for name in target} == target
                continue
            parts = _TABLE.fullmatch(statement)
            assert parts, statement
            columns = {}
            for line in parts[2].split(",\n"):
                column = _COLUMN.fullmatch(line.strip())
                assert column, line
                columns[column[1]] = Column(column[2], default=bool(column[3]))
            tables[parts[1]] = (columns, f"{parts[3]} ORDER BY {parts[4]}")
    return tables


TABLES = shipped_tables()
MAPPINGS = load_mappings(MAPPINGS_FILE, LENGTHS[:1])


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


def test_every_ranking_has_its_mapping_and_its_table() -> None:
    """Each ranking over each window length goes from its topic into a table of its own, by its row alone."""
    everything = load_mappings(MAPPINGS_FILE, LENGTHS)
    expected = {
        "rankings.city": "top_sales_city",
        "rankings.city.1d": "top_sales_city_1d",
        "rankings.city.15m": "top_sales_city_15m",
        "rankings.salesman": "top_salesman_country",
        "rankings.salesman.1d": "top_salesman_country_1d",
        "rankings.salesman.15m": "top_salesman_country_15m",
        "rankings.product": "top_products",
        "rankings.product.1d": "top_products_1d",
        "rankings.product.15m": "top_products_15m",
    }
    assert {topic: everything[topic].table for topic in everything if topic.startswith("rankings.")} == expected
    assert everything.keys() - expected.keys() == {"sales.unified", "sales.dlq"}
    assert not unknown_topics(everything, catalogue(LENGTHS))
    for ranking in RANKINGS:
        assert everything[f"{ranking.topic}.1d"] == changed(everything[ranking.topic], table=f"{ranking.table}_1d")
        assert TABLES[f"{ranking.table}_1d"] == TABLES[ranking.table]


def test_one_length_has_no_further_table() -> None:
    """With one length there is one table for each ranking."""
    files = {"01_sales.sql", "02_dead_letters.sql", "03_sales_by_time.sql"}
    assert set(scripts(LENGTHS[:1])) == {*files, *(each.table for each in RANKINGS)}


def test_sales_are_found_by_time_for_every_ranking() -> None:
    """The table of sales by time has each column by which a ranking's sales are chosen."""
    assert {"country", *(ranking.column for ranking in RANKINGS)} <= TABLES["sales_by_time"][0].keys()


def test_a_further_ranking_needs_only_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row more in the table of rankings has a mapping and a table, which fit each other and the rankings' schema."""
    row = replace(BY_NAME["salesman"], name="x", column="product", topic="rankings.x", table="top_x")
    monkeypatch.setattr(mapping_module, "RANKINGS", (row,))
    monkeypatch.setattr(ddl, "RANKINGS", (row,))
    columns, engine = shipped_tables()["top_x"]
    plan = check(catalogue()["rankings.city"], load_mappings(MAPPINGS_FILE, LENGTHS)["rankings.x"], columns, engine)
    assert plan.mapping.identity == ("country", "window_start")
    assert (
        engine
        == "ReplacingMergeTree(revision) ORDER BY (country, window_start, rank)\nSETTINGS index_granularity = 256"
    )
    assert set(plan.columns) == {name for name, column in columns.items() if not column.default}


def test_an_entry_of_the_file_replaces_a_rankings_own(tmp_path: Path) -> None:
    """Who maps a ranking's topic in the file has that mapping."""
    path = tmp_path / "mappings.yaml"
    path.write_text(yaml.safe_dump({"rankings.city": changed(CITY, table="mine").model_dump(mode="json")}), "utf-8")
    assert load_mappings(path, LENGTHS)["rankings.city"].table == "mine"


def changed(mapping: TableMapping, **changes: Any) -> TableMapping:
    """The mapping with some fields replaced, validated again."""
    return TableMapping.model_validate(mapping.model_dump() | changes)


CITY = MAPPINGS["rankings.city"]
CITY_COLUMNS, CITY_ENGINE = TABLES["top_sales_city"]


@pytest.mark.parametrize(
    ("mapping", "columns", "engine", "message"),
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
            changed(CITY, each={"array": "entries", "rows": 10, "position": "number"}),
            CITY_COLUMNS,
            CITY_ENGINE,
            "entries has no field number",
        ),
    ],
)
def test_misfit_is_rejected(mapping: TableMapping, columns: Mapping[str, Column], engine: str, message: str) -> None:
    """A mapping that does not fit the schema or the table is rejected with topic, column, field and reason."""
    with pytest.raises(MappingError, match=r"rankings\.city") as rejected:
        check(catalogue()["rankings.city"], mapping, columns, engine)
    assert message in str(rejected.value)


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
    ("text", "message"),
    [
        ("sales.unified: {table: sales}", "identity"),
        ("sales.unified: {table: 'a; drop table b', identity: [x], flush: {records: 1, seconds: 0}}", "table"),
        ("- nothing", "dictionary"),
        (": :", "mapping"),
    ],
)
def test_malformed_file_is_rejected(text: str, message: str, tmp_path: Path) -> None:
    """A malformed mapping file is rejected with its path and the wrong field."""
    path = tmp_path / "mappings.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(MappingError, match=message) as rejected:
        load_mappings(path, LENGTHS)
    assert str(path) in str(rejected.value)


def test_unknown_topic_is_found() -> None:
    """A mapped topic that the catalogue does not have is found."""
    assert unknown_topics({"sales.nowhere": CITY, "rankings.city": CITY}, catalogue()) == ["sales.nowhere"]
