"""The mapping of topics to tables: loads mappings.yaml and checks it against the Avro schemas and the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chassis.errors import CannotRunError
from contracts.catalogue import Topic
from contracts.rankings import RANKINGS, RankingDefinition
from contracts.windows import WindowLength, tables, topics
from services.clickhouse_sink.columns import Avro, Convert, MismatchError, avro_type, blank, conversion

OF_RECORD = {"$partition": Avro("int"), "$offset": Avro("long")}  # what a mapping may take from the record itself


class MappingError(CannotRunError):
    """The mapping does not fit its topic or its table; the message names both and everything that is wrong."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flush(_Entry):
    """When waiting records are written: so many of them, or the oldest has waited so many seconds."""

    records: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(ge=0)]


class Each(_Entry):
    """One row per element of `array`, always `rows` rows; the element's field `position` counts 1, 2, 3 ..."""

    array: str
    rows: Annotated[int, Field(ge=1)]
    position: str


class TableMapping(_Entry):
    """One topic's table; see mappings.yaml for the meaning of each field."""

    table: Annotated[str, Field(pattern="^[a-z_][a-z0-9_]*$")]
    identity: Annotated[tuple[str, ...], Field(min_length=1)]
    version: str | None = None
    flush: Flush
    each: Each | None = None
    columns: Annotated[Mapping[str, str], Field(min_length=1)]


@dataclass(frozen=True)
class Column:
    """A column of a real table: its type, and whether the server can fill it when it is not given."""

    type: str
    default: bool


@dataclass(frozen=True)
class Source:
    """Where a column's value comes from: the record's field, or the array element's; blank in a filling row."""

    name: str
    of_element: bool
    convert: Convert
    blank: Any


@dataclass(frozen=True)
class Plan:
    """A checked mapping: everything that turning records into rows needs, in the order of `columns`.

    `contract` names the folder in contracts/topics whose schema the topic has.
    """

    topic: str
    contract: str
    mapping: TableMapping
    columns: tuple[str, ...]
    sources: tuple[Source, ...]

    @cached_property
    def of_record(self) -> bool:
        """Whether a row has something of the Kafka record itself besides its value."""
        return not OF_RECORD.keys().isdisjoint([*self.mapping.columns.values(), *self.mapping.identity])


def ranking_mapping(ranking: RankingDefinition, table: str) -> TableMapping:
    """The mapping of a ranking's topic: its whole set, ten rows, into `table` (deploy/clickhouse/ddl has its form)."""
    country = ["country"] if ranking.per_country else []
    return TableMapping(
        table=table,
        identity=(*country, "window_start"),
        version="revision",
        flush=Flush(records=1, seconds=0),
        each=Each(array="entries", rows=10, position="rank"),
        columns={
            **{name: name for name in ("window_start", "window_end", *country, "revision", "status")},
            "rank": "entries.rank",
            ranking.column: "entries.name",
            "total_sales": "entries.total_sales",
            "transaction_count": "entries.transaction_count",
            "watermark_ms": "watermark",
            "as_of_ms": "as_of",
        },
    )


def load_mappings(path: Path, lengths: Sequence[WindowLength]) -> Mapping[str, TableMapping]:
    """Every mapping by topic: that of each ranking over each window length, and what the mapping file has besides.

    Raises:
        MappingError: the file is unreadable or not of the form that mappings.yaml describes.
    """
    rankings = {
        topic: ranking_mapping(ranking, table)
        for ranking in RANKINGS
        for topic, table in zip(
            topics(ranking.topic, lengths).values(), tables(ranking.table, lengths).values(), strict=True
        )
    }
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return rankings | TypeAdapter(dict[str, TableMapping]).validate_python(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise MappingError(f"{path}: {wrong}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MappingError(f"{path}: {error}") from error


def _fields(record: Mapping[str, Any]) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in record["fields"]}


def _available(topic: Topic, mapping: TableMapping) -> dict[str, Any]:
    """Every name that a mapping of this topic may use, with its Avro declaration."""
    fields = _fields(topic.avro)
    if mapping.each is None:
        return fields
    array = fields.get(mapping.each.array)
    if not isinstance(array, Mapping) or array.get("type") != "array" or not isinstance(array.get("items"), Mapping):
        raise MappingError(f"{topic.name}: field {mapping.each.array} is not an array of records")
    elements = _fields(array["items"])
    if mapping.each.position not in elements:
        raise MappingError(f"{topic.name}: {mapping.each.array} has no field {mapping.each.position}")
    return fields | {f"{mapping.each.array}.{name}": declared for name, declared in elements.items()}


def _wrong_table(mapping: TableMapping, table: Mapping[str, Column], engine: str) -> list[str]:
    version = next((c for c, field in mapping.columns.items() if field == mapping.version), None)
    wanted = f"ReplacingMergeTree({version})" if version else "ReplacingMergeTree"
    wrong = []
    if engine.split(" ", 1)[0] != wanted:
        wrong.append(f"the table's engine is {engine.split(' ', 1)[0]}, not {wanted}")
    wrong += [f"column {name} is not in the table" for name in mapping.columns if name not in table]
    wrong += [
        f"column {name} of the table has neither a field nor a default"
        for name, column in table.items()
        if name not in mapping.columns and not column.default
    ]
    return wrong


def check(topic: Topic, mapping: TableMapping, table: Mapping[str, Column], engine: str) -> Plan:
    """A plan for a mapping that fits its topic and its table. `engine` is system.tables' engine_full.

    Raises:
        MappingError: it does not fit; the message lists every reason.
    """
    name = f"mapping {topic.name} → {mapping.table}"
    if not table:
        raise MappingError(f"{name}: there is no table {mapping.table}: run `python -m services.clickhouse_sink.ddl`")
    available = _available(topic, mapping)
    wrong = _wrong_table(mapping, table, engine)
    keys = [*mapping.identity, *([mapping.version] if mapping.version else [])]
    wrong += [f"field {key} is not in the topic" for key in keys if key not in available and key not in OF_RECORD]
    sources: list[Source] = []
    for column, field in mapping.columns.items():
        if field not in available and field not in OF_RECORD:
            wrong.append(f"field {field} (for column {column}) is not in the topic")
        elif column in table:
            try:
                avro = OF_RECORD[field] if field in OF_RECORD else avro_type(available[field])
                convert = conversion(avro, table[column].type)
            except MismatchError as error:
                wrong.append(f"column {column}, field {field}: {error}")
            else:
                of_element = "." in field
                sources.append(Source(field.rpartition(".")[2], of_element, convert, blank(table[column].type)))
    if wrong:
        raise MappingError(f"{name}: {'; '.join(wrong)}")
    return Plan(topic.name, topic.contract, mapping, tuple(mapping.columns), tuple(sources))


def unknown_topics(mappings: Mapping[str, TableMapping], topics: Mapping[str, Topic]) -> Sequence[str]:
    """Mapped topics that the catalogue does not have."""
    return sorted(set(mappings) - set(topics))
