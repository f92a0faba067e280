"""The registry's client and a unit's codecs, when what answers is no registry or nothing does."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog

from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.registry import Client, Registry, RegistryUnavailableError
from chassis.settings import RegistrySettings
from chassis.unit import Unit
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import ContractError, DecodeError, Decoder, encode_body, parse
from contracts.json_avro import typed
from tests.connected.streams import Page, answering, free_port, until

TOPIC = catalogue()["sales.files"]
EXAMPLE = typed(TOPIC.avro, TOPIC.examples()["canonical"])
PAYLOAD = encode_body(7, parse(TOPIC.avro), EXAMPLE)
UNAVAILABLE = {
    "nothing listens": None,
    "a proxy has nobody behind it": Page(),
    "a proxy does not know the path": Page(404),
    "a login page": Page(200),
    "a redirection": Page(302),
    "trouble": Page(500, "application/json", '{"error_code": 50001, "message": "Error in the backend"}'),
    "too many requests": Page(429, "application/json", "{}"),
    "another server": Page(200, "application/json", '["REST Proxy"]'),
    "an empty answer": Page(200, "application/json", ""),
}
UNKNOWN = Page(404, "application/json", '{"error_code": 40403, "message": "Schema not found"}')


@pytest.fixture
def settings() -> RegistrySettings:
    """The address of a registry that is not there."""
    return RegistrySettings(host="127.0.0.1", port=free_port())


@pytest.mark.parametrize("page", UNAVAILABLE.values(), ids=list(UNAVAILABLE))
async def test_no_registry_answers(page: Page | None, settings: RegistrySettings) -> None:
    """Whatever keeps a registry from answering is one error, on one line; it is never the fault of a record."""
    client = Client(settings)
    async with AsyncExitStack() as stack:
        if page is not None:
            await stack.enter_async_context(answering(settings.port, page))
        with pytest.raises(RegistryUnavailableError) as unavailable:
            await Decoder(client, TOPIC).decode(PAYLOAD)
        with pytest.raises(RegistryUnavailableError):
            await codec.encoder(client, TOPIC)
    message = str(unavailable.value)
    assert "\n" not in message
    assert 0 < len(message) < 200
    assert page is None or str(page.status) in message


async def test_a_long_page_is_shortened(settings: RegistrySettings) -> None:
    """Of an error page the message has its beginning, in one line."""
    async with answering(settings.port, Page(text="<html>\n" + "<p>gone</p>\n" * 100_000)):
        with pytest.raises(RegistryUnavailableError, match=r"status 503 .*<html> <p>gone</p>") as unavailable:
            await codec.encoder(Client(settings), TOPIC)
    assert len(str(unavailable.value)) < 200


async def test_a_registry_that_does_not_know(settings: RegistrySettings) -> None:
    """An id that the registry does not know is the record's fault, a schema that it does not know the contract's."""
    client = Client(settings)
    async with answering(settings.port, UNKNOWN):
        with pytest.raises(DecodeError) as rejected:
            await Decoder(client, TOPIC).decode(PAYLOAD)
        with pytest.raises(ContractError, match="task contracts:publish"):
            await codec.encoder(client, TOPIC)
    assert rejected.value.reason == "schema_unknown"


@pytest.mark.parametrize("page", [None, Page()], ids=["nothing listens", "error page"])
async def test_a_unit_waits_for_the_schema_of_a_record(page: Page | None, settings: RegistrySettings) -> None:
    """A record whose schema cannot be had now is decoded when the registry is back; the unit is not ready meanwhile."""
    unit = Unit("example", structlog.get_logger("placar"), Metrics("example"), Readiness())
    unit.readiness.met("start")
    decoder = Registry(unit, settings).decoder(TOPIC.name)
    schema = Page(200, "application/json", json.dumps({"schema": json.dumps(dict(TOPIC.avro))}))
    async with AsyncExitStack() as broken:
        if page is not None:
            await broken.enter_async_context(answering(settings.port, page))
        decoding: asyncio.Task[dict[str, Any]] = asyncio.create_task(decoder.decode(PAYLOAD))

        async def waits() -> bool:
            assert not decoding.done()
            why = unit.readiness.missing.get("schema registry", "")
            return settings.url in why and "SCHEMA_REGISTRY_PORT" in why and "unreachable" in why

        await until(waits, "the unit says what it waits for")
    async with answering(settings.port, schema), asyncio.timeout(20):
        assert await decoding == EXAMPLE
    assert unit.readiness.missing == {}
    # the schema is known now
    assert await decoder.decode(PAYLOAD) == EXAMPLE
