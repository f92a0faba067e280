"""Datasets by the OpenLineage naming convention (openlineage.io/docs/spec/naming), and their facets.

The convention has no name for a SOAP operation; as for the others, the namespace is scheme and authority.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    documentation_dataset,
    ownership_dataset,
    schema_dataset,
    symlinks_dataset,
)

from chassis.settings import ClickHouseSettings, KafkaSettings, PostgresSettings, S3Settings
from contracts.catalogue import catalogue

Facets = Mapping[str, Any]
Fields = list[schema_dataset.SchemaDatasetFacetFields]


@dataclass(frozen=True)
class Dataset:
    """Where a dataset lives, its name there, and its OpenLineage facets."""

    namespace: str
    name: str
    facets: Facets = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Datasets:
    """What a job reads and what it writes.

    `counted` has for the name of an output the series (topic, outcome) of `placar_records_total` that are its rows.
    """

    inputs: Sequence[Dataset] = ()
    outputs: Sequence[Dataset] = ()
    counted: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


def _type(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    match kind.get("logicalType"):
        case "decimal":
            return f"decimal({kind['precision']},{kind['scale']})"
        case None:
            return str(kind["type"])
        case logical:
            return str(logical)


def _field(declared: Mapping[str, Any], named: dict[str, Any]) -> schema_dataset.SchemaDatasetFacetFields:
    kind = declared["type"]
    if isinstance(kind, list):  # a union of null and one other type
        kind = next(branch for branch in kind if branch != "null")
    kind = named.get(kind, kind) if isinstance(kind, str) else kind
    inner = kind["items"] if isinstance(kind, Mapping) and kind["type"] == "array" else kind
    nested = []
    if isinstance(inner, Mapping) and inner["type"] == "record":
        named[inner["name"]] = inner
        nested = [_field(each, named) for each in inner["fields"]]
    return schema_dataset.SchemaDatasetFacetFields(
        name=declared["name"], type=_type(kind), description=declared.get("doc"), fields=nested
    )


def avro_fields(schema: Mapping[str, Any]) -> Fields:
    """The fields of an Avro record for the schema facet, with those of nested records."""
    named: dict[str, Any] = {}
    return [_field(declared, named) for declared in schema["fields"]]


def named_fields(types: Iterable[tuple[str, str]]) -> Fields:
    """Fields by name and type."""
    return [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in types]


def described(
    dataset: Dataset, fields: Fields, owner: str, *, meaning: str | None = None, also: Sequence[Dataset] = ()
) -> Dataset:
    """The dataset with its schema, owning team, description, and its other names."""
    facets = {
        **dataset.facets,
        "schema": schema_dataset.SchemaDatasetFacet(fields=fields),
        "ownership": ownership_dataset.OwnershipDatasetFacet(
            owners=[ownership_dataset.Owner(name=f"team:{owner}", type="MAINTAINER")]
        ),
    }
    if meaning is not None:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=meaning)
    if also:
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(
            identifiers=[
                symlinks_dataset.Identifier(namespace=other.namespace, name=other.name, type="LOCATION")
                for other in also
            ]
        )
    return replace(dataset, facets=facets)


Subtype = Literal["IDENTITY", "TRANSFORMATION", "AGGREGATION"]


def derived(
    output: Dataset, source: Dataset, columns: Mapping[str, Sequence[str]], subtype: Subtype = "IDENTITY"
) -> Dataset:
    """The output with column lineage: for each of its fields the fields of `source` that it derives from."""

    def made_from(name: str) -> column_lineage_dataset.InputField:
        return column_lineage_dataset.InputField(
            namespace=source.namespace,
            name=source.name,
            field=name,
            transformations=[column_lineage_dataset.Transformation(type="DIRECT", subtype=subtype)],
        )

    fields = {
        name: column_lineage_dataset.Fields(inputFields=[made_from(each) for each in names])
        for name, names in columns.items()
    }
    facet = column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields)
    return replace(output, facets={**output.facets, "columnLineage": facet})


def topic_dataset(kafka: KafkaSettings, topic: str, contract: str | None = None) -> Dataset:
    """A Kafka topic with schema, owner and description of its contract; `contract` if that is another topic's."""
    described_by = catalogue()[contract or topic]
    dataset = Dataset(f"kafka://{kafka.bootstrap}", topic)
    return described(dataset, avro_fields(described_by.avro), described_by.owner, meaning=described_by.description)


def postgres_dataset(postgres: PostgresSettings, table: str) -> Dataset:
    """A table of the retailer's database."""
    return Dataset(f"postgres://{postgres.host}:{postgres.port}", f"{postgres.db}.public.{table}")


def bucket_dataset(s3: S3Settings) -> Dataset:
    """The whole bucket; the convention names its root `/`."""
    return Dataset(f"s3://{s3.bucket}", "/")


def soap_dataset(host: str, port: int, operation: str) -> Dataset:
    """An operation of a SOAP service."""
    return Dataset(f"soap://{host}:{port}", operation)


def clickhouse_dataset(clickhouse: ClickHouseSettings, table: str) -> Dataset:
    """A table in ClickHouse."""
    return Dataset(f"clickhouse://{clickhouse.address}", f"{clickhouse.db}.{table}")
