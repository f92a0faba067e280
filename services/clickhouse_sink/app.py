"""Composition root of the sink: checks the mapping against schemas and tables, connects, runs the loop."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from chassis.batches import BatchConsumer
from chassis.clickhouse import SETTING, ClickHouse, StoreUnavailableError, clickhouse
from chassis.datasets import Dataset, Datasets, clickhouse_dataset, derived, described, topic_dataset
from chassis.dead_letters import TOPIC as DEAD_LETTERS
from chassis.kafka import consumer, producer
from chassis.registry import Registry
from chassis.unit import Unit, cancellable
from contracts.catalogue import Topic, catalogue
from services.clickhouse_sink.agents import Group, TableWriter, Waiting, sink
from services.clickhouse_sink.ddl import table_fields
from services.clickhouse_sink.mapping import (
    OF_RECORD,
    Column,
    MappingError,
    Plan,
    TableMapping,
    check,
    load_mappings,
    unknown_topics,
)
from services.clickhouse_sink.settings import SinkSettings

NAME = "clickhouse_sink"
INSERT_TIMEOUT_S = 30.0


def datasets(settings: SinkSettings) -> Datasets:
    """The topics that are read and the tables that are written, those as the mapping fills them."""
    lengths = settings.ranking.lengths
    mappings, known = load_mappings(settings.mappings, lengths), catalogue(lengths)
    inputs: list[Dataset] = []
    outputs: list[Dataset] = []
    counted: dict[str, list[tuple[str, str]]] = {DEAD_LETTERS: []}
    for topic, mapping in mappings.items():
        if topic not in known:
            continue  # `main` rejects it
        source = topic_dataset(settings.kafka, topic, known[topic].contract)
        fields = table_fields(mapping, lengths)
        table = described(clickhouse_dataset(settings.clickhouse, mapping.table), fields, known[topic].owner)
        columns = {column: (field,) for column, field in mapping.columns.items() if field not in OF_RECORD}
        inputs.append(source)
        outputs.append(derived(table, source, columns))
        counted[table.name] = [(topic, "published")]
        counted[DEAD_LETTERS].append((topic, "dead_letter"))
    return Datasets(inputs, [*outputs, topic_dataset(settings.kafka, DEAD_LETTERS)], counted)


async def table_columns(store: ClickHouse, table: str) -> tuple[dict[str, Column], str]:
    """The columns of a table by name, and its engine with parameters; nothing where there is no such table."""
    described_columns = await store.select(
        "SELECT name, type, default_kind FROM system.columns WHERE database = currentDatabase() AND table = %(table)s",
        {"table": table},
    )
    engines = await store.select(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = %(table)s",
        {"table": table},
    )
    columns = {name: Column(kind, default=bool(default)) for name, kind, default in described_columns}
    return columns, str(engines[0][0]) if engines else ""


async def checked_plans(
    store: ClickHouse, mappings: Mapping[str, TableMapping], known: Mapping[str, Topic]
) -> list[Plan]:
    """Every mapping checked against its topic, one of the `known`, and its real table.

    Raises:
        MappingError: one does not fit.
        StoreUnavailableError: ClickHouse is unreachable.
    """
    if unknown := unknown_topics(mappings, known):
        raise MappingError(f"mapped topics that contracts/topics does not have: {', '.join(unknown)}")
    return [
        check(known[topic], mapping, *await table_columns(store, mapping.table)) for topic, mapping in mappings.items()
    ]


async def main(unit: Unit, settings: SinkSettings) -> None:
    """Write the mapped topics into their tables until cancelled.

    Raises:
        MappingError: the mapping does not fit the schemas or the tables.
        ContractError: the registry does not hold the dead letters' schema.
        HaltedError: too much of a topic is rejected.
    """
    lengths = settings.ranking.lengths
    mappings, known = load_mappings(settings.mappings, lengths), catalogue(lengths)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(clickhouse(settings.clickhouse, 1, INSERT_TIMEOUT_S))
        plans = await unit.connect(
            "clickhouse",
            settings.clickhouse.address,
            SETTING,
            lambda: checked_plans(store, mappings, known),
            StoreUnavailableError,
        )
        registry = Registry(unit, settings.registry)
        encode_dead_letter = await registry.encoder(DEAD_LETTERS)
        sending = await stack.enter_async_context(producer(unit, settings.kafka))
        waiting = {}
        for plan in plans:
            writer = TableWriter(unit, settings, plan, registry.decoder(plan.contract), store, sending)
            batches = BatchConsumer(unit, plan.topic, writer, settings.rejections, encode_dead_letter)
            waiting[plan.topic] = Waiting(batches, plan.mapping.flush)
        group = Group(unit, settings)
        reader = await stack.enter_async_context(consumer(unit, settings.kafka, list(waiting), settings.group, group))
        group.joined(reader)
        unit.log.info("sink_started", tables={plan.topic: plan.mapping.table for plan in plans})
        try:
            await cancellable(sink(group, reader, waiting))
        finally:
            await group.leave()
