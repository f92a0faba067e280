"""Topics and subjects from the catalogue, against a real broker and registry."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts import codec
from contracts.catalogue import Topic, catalogue
from contracts.codec import ContractError
from contracts.publish import publish
from tests.connected.streams import Servers, free_port, unique, until


@pytest.fixture
def reached(servers: Mapping[str, str]) -> Servers:
    """Broker and registry."""
    return Servers(servers)


async def run_publish(environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chassis.publish",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def administrator(reached: Servers) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=reached.kafka.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def broker_settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """The settings of a topic as the broker has them."""
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


def of_its_own() -> Topic:
    """A topic like sales.unified that no other test has."""
    return catalogue()["sales.unified"].model_copy(update={"name": unique("published")})


async def test_command_is_idempotent(reached: Servers) -> None:
    """The command makes every topic and subject of the catalogue; a second run finds all present with the same ids."""
    await run_publish(reached.environment)
    code, out, err = await run_publish(reached.environment)
    assert (code, err) == (0, "")
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines.keys() == catalogue().keys()
    assert all(line.startswith("present, ") for line in lines.values())
    async with administrator(reached) as admin:
        for name, topic in catalogue().items():
            held = await broker_settings(admin, name)
            assert {key: held[key] for key in topic.broker_settings} == topic.broker_settings
            assert await reached.client.get_compatibility(topic.subject) == topic.compatibility
        described = {answer["topic"]: len(answer["partitions"]) for answer in await admin.describe_topics()}
    assert {name: described[name] for name in catalogue()} == {
        name: topic.partitions for name, topic in catalogue().items()
    }


async def test_further_window_lengths_are_published(reached: Servers) -> None:
    """With further lengths each ranking also has their topics and subjects, like its own in settings and schema."""
    windows = {"RANKING_WINDOWS": "1h,1d@America/Sao_Paulo,2h"}
    await run_publish({**reached.environment, **windows})
    code, out, err = await run_publish({**reached.environment, **windows})
    assert (code, err) == (0, "")
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    rankings = [name for name in catalogue() if name.startswith("rankings.")]
    further = {f"{name}.{label}" for name in rankings for label in ("1d", "2h")}
    assert lines.keys() == {*catalogue(), *further}
    async with administrator(reached) as admin:
        for name in further:
            base = catalogue()[name.rpartition(".")[0]]
            held = await broker_settings(admin, name)
            assert {key: held[key] for key in base.broker_settings} == base.broker_settings
            assert await reached.client.check_version(f"{name}-value", dict(base.avro)) is not None
            assert await reached.client.get_versions(f"{name}-value") == [1]
            assert await reached.client.get_compatibility(f"{name}-value") == base.compatibility
        described = {answer["topic"]: len(answer["partitions"]) for answer in await admin.describe_topics()}
    assert {described[name] for name in further} == {catalogue()["rankings.city"].partitions}


async def test_changed_setting_reaches_the_broker(reached: Servers) -> None:
    """A retention that changes in the catalogue changes on the broker at the next run."""
    topic = of_its_own()
    shorter = topic.model_copy(update={"retention_days": 1})
    async with administrator(reached) as admin:
        first = await publish({topic.name: topic}, admin, reached.client)
        second = await publish({topic.name: shorter}, admin, reached.client)
        assert [result.outcome for result in (*first, *second)] == ["created", "present"]

        async def changed() -> bool:
            return (await broker_settings(admin, topic.name))["retention.ms"] == "86400000"

        await until(changed, "the broker holds the new retention")


async def test_more_copies_than_brokers_are_rejected(reached: Servers) -> None:
    """The number of copies that the settings ask for reaches the broker, which rejects what it has no brokers for."""
    topic = of_its_own()
    async with administrator(reached) as admin:
        with pytest.raises(
            ContractError, match=f"topic {topic.name} was rejected by the broker: code 38 .*replication"
        ):
            await publish({topic.name: topic}, admin, reached.client, 2)
        assert topic.name not in await admin.list_topics()


async def test_incompatible_schema_is_rejected(reached: Servers) -> None:
    """An incompatible schema is rejected with subject, level and the registry's reason; no topic of the run is made."""
    topic, other = of_its_own(), of_its_own()
    renamed = [{**topic.avro["fields"][0], "name": "identity"}, *topic.avro["fields"][1:]]
    changed = topic.model_copy(update={"avro": {**topic.avro, "fields": renamed}})
    async with administrator(reached) as admin:
        await publish({topic.name: topic}, admin, reached.client)
        with pytest.raises(ContractError) as rejected:
            await publish({other.name: other, changed.name: changed}, admin, reached.client)
        assert other.name not in await admin.list_topics()
    for part in (topic.subject, "FULL_TRANSITIVE", "Incompatible artifact", "identity"):
        assert part in str(rejected.value)


async def test_added_optional_field_is_accepted(reached: Servers) -> None:
    """A field with a default is a compatible change: it gets an id of its own."""
    topic = of_its_own()
    added = {"name": "channel", "type": ["null", "string"], "default": None}
    wider = topic.model_copy(update={"avro": {**topic.avro, "fields": [*topic.avro["fields"], added]}})
    async with administrator(reached) as admin:
        (first,) = await publish({topic.name: topic}, admin, reached.client)
        (second,) = await publish({topic.name: wider}, admin, reached.client)
    assert second.schema_id not in (None, first.schema_id)


async def test_unpublished_contract_is_rejected(reached: Servers) -> None:
    """A process encodes nothing for a subject that does not hold its schema, and says what to run."""
    with pytest.raises(ContractError, match="task contracts:publish"):
        await codec.encoder(reached.client, of_its_own())


async def test_reader_subject_keeps_its_level_before_its_owner_registers(reached: Servers) -> None:
    """The level of a subject that another owns is there before its first schema, and holds from then on."""
    topic = of_its_own().model_copy(update={"schema_role": "reader", "compatibility": "BACKWARD_TRANSITIVE"})
    async with administrator(reached) as admin:
        (result,) = await publish({topic.name: topic}, admin, reached.client)
    assert result.schema_id is None
    await reached.client.register(topic.subject, dict(topic.avro))
    assert await reached.client.get_compatibility(topic.subject) == "BACKWARD_TRANSITIVE"
    text = {**topic.avro, "fields": [{**topic.avro["fields"][0], "type": "long"}, *topic.avro["fields"][1:]]}
    assert not await reached.client.test_compatibility(topic.subject, text)


@pytest.mark.parametrize("prefix", ["KAFKA", "SCHEMA_REGISTRY"])
async def test_unreachable_server_is_named(prefix: str, reached: Servers) -> None:
    """Without its broker or registry the command ends with status 1 and names setting and address."""
    port = str(free_port())
    code, _, err = await run_publish({**reached.environment, f"{prefix}_HOST": "127.0.0.1", f"{prefix}_PORT": port})
    assert code == 1
    assert f"{prefix}_" in err
    assert port in err
    assert "Traceback" not in err
