"""The AsyncAPI document: sound, with examples that hold, and true of every frame that the server sends."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError

from contracts.catalogue import catalogue
from contracts.json_avro import typed
from contracts.rankings import RANKINGS, RankingDefinition
from services.api import asyncapi
from services.api.live import DOCUMENT_PATH, EVENTS_PATH, PATH
from services.api.live_rankings import LiveRankings, live_set
from services.api.protocol import (
    FIELDS,
    MAX_COUNTRIES,
    MAX_WINDOWS,
    Code,
    ProtocolError,
    from_message,
    from_query,
    hello,
)
from tests.unit.test_api_live import Api, peer
from tests.unit.test_api_live_rankings import PARTITIONS, START

SPEC: Mapping[str, Any] = yaml.safe_load(asyncapi.document())
MESSAGES: Mapping[str, Any] = SPEC["components"]["messages"]
SERVER = ("hello", "snapshot", "ranking", "heartbeat", "error")
LABELS = ["1h"]


def validator(schema: Mapping[str, Any]) -> Draft7Validator:
    """A validator of a schema of the document, with its references."""
    return Draft7Validator({**schema, "components": SPEC["components"]})


def check(frame: Mapping[str, Any]) -> None:
    """The frame is the message that its type names."""
    validator(MESSAGES[frame["type"]]["payload"]).validate(frame)


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of the document."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(each)


def resolve(reference: str) -> Any:
    """What a reference of the document names."""
    assert reference.startswith("#/")
    node: Any = SPEC
    for part in reference[2:].split("/"):
        node = node[part]
    return node


def test_structure() -> None:
    """References name what is there, schemas are schemas, operations use messages of their own channel."""
    assert SPEC["asyncapi"] == "3.0.0"
    for node in nodes(dict(SPEC)):
        if "$ref" in node:
            assert set(node) == {"$ref"}
            assert resolve(node["$ref"]) is not None
    for schema in SPEC["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    for operation in SPEC["operations"].values():
        assert operation["action"] in ("send", "receive")
        for part in (operation, operation.get("reply", operation)):
            channel = part["channel"]["$ref"]
            assert all(message["$ref"].startswith(f"{channel}/messages/") for message in part["messages"])
    used = {
        reference["$ref"].rsplit("/", 1)[1]
        for operation in SPEC["operations"].values()
        for part in (operation, operation.get("reply", operation))
        for reference in part["messages"]
    }
    assert used == set(MESSAGES)


def test_says_what_the_code_says() -> None:
    """Addresses, query, limits and error codes are those of the code."""
    channels = SPEC["channels"]
    assert (channels["live"]["address"], channels["events"]["address"]) == (PATH, EVENTS_PATH)
    schemas = SPEC["components"]["schemas"]
    assert set(channels["live"]["bindings"]["ws"]["query"]["properties"]) == set(FIELDS)
    assert set(schemas["subscribe"]["properties"]) - {"type"} == set(FIELDS)
    assert set(schemas["error"]["properties"]["code"]["enum"]) == set(get_args(Code))
    assert schemas["windows"]["oneOf"][1]["maxItems"] == MAX_WINDOWS
    assert schemas["countries"]["maxItems"] == MAX_COUNTRIES


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_hold(name: str) -> None:
    """Each example is of its schema and of no other message's; what a client would say is understood."""
    for example in MESSAGES[name]["examples"]:
        check(example["payload"])
        for other in set(MESSAGES) - {name}:
            with pytest.raises(ValidationError):
                validator(MESSAGES[other]["payload"]).validate(example["payload"])
        if name not in SERVER:
            from_message(json.dumps(example["payload"]), LABELS)


@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda ranking: ranking.name)
def test_frames_of_every_example(ranking: RankingDefinition) -> None:
    """The frames made of every example of the contracts are those of the document."""
    topic = catalogue()[ranking.topic]
    live = LiveRankings(PARTITIONS, 9)
    for offset, example in enumerate(topic.examples().values()):
        record = typed(topic.avro, example)
        new = live_set(ranking, "1h", record, PARTITIONS.index((ranking.topic, 0)), offset)
        live.apply(new)
        check(json.loads(live.changed(new).text))
    everything = from_query([("windows", "all")], LABELS)
    snapshot = json.loads(live.snapshot(everything)[0].text)
    assert snapshot["sets"]
    check(snapshot)
    check(json.loads(live.heartbeat(START).text))
    check(json.loads(hello(0.5, from_query([("windows", "2026-02-19T10:00:00Z")], LABELS)).text))
    for wrong in ("{", "{}", '{"type":"subscribe","length":7,"colour":1}'):
        with pytest.raises(ProtocolError) as caught:
            from_message(wrong, LABELS)
        check(json.loads(caught.value.frame().text))


def test_frame_of_another_form_is_seen() -> None:
    """The schemas are not so loose that a wrong frame passes."""
    example = MESSAGES["ranking"]["examples"][0]["payload"]
    cases: list[dict[str, Any]] = [{"set": {}}, {"seq": "5"}, {"more": 1}, {"set": {**example["set"], "revision": "7"}}]
    for wrong in cases:
        with pytest.raises(ValidationError):
            check({**example, **wrong})


async def test_document_is_served() -> None:
    """The API serves the document, filled with the rankings."""
    async with peer(Api(), DOCUMENT_PATH) as reader:
        start = await reader.next()
        assert start["status"] == 200
        assert dict(start["headers"])[b"content-type"].startswith(b"application/yaml")
        assert (await reader.next())["body"] == asyncapi.document().encode()
