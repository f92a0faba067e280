"""The AsyncAPI document: sound, with examples that hold, and true of every frame that the server sends."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError

from contracts.catalogue import catalogue
from contracts.json_avro import typed
from services.api.board import Board, held
from services.api.live import DOCUMENT, DOCUMENT_PATH, EVENTS_PATH, PATH
from services.api.protocol import (
    FIELDS,
    MOST_COUNTRIES,
    MOST_WINDOWS,
    Code,
    ProtocolError,
    from_message,
    from_query,
    hello,
)
from tests.unit.test_api_board import PARTITIONS, START
from tests.unit.test_api_live import Api, peer

SPEC: Mapping[str, Any] = yaml.safe_load(DOCUMENT.read_text("utf-8"))
MESSAGES: Mapping[str, Any] = SPEC["components"]["messages"]
SAID = ("hello", "snapshot", "ranking", "heartbeat", "error")
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
    found: Any = SPEC
    for part in reference[2:].split("/"):
        found = found[part]
    return found


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
        for told in (operation, operation.get("reply", operation)):
            channel = told["channel"]["$ref"]
            assert all(message["$ref"].startswith(f"{channel}/messages/") for message in told["messages"])
    used = {
        reference["$ref"].rsplit("/", 1)[1]
        for operation in SPEC["operations"].values()
        for told in (operation, operation.get("reply", operation))
        for reference in told["messages"]
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
    assert schemas["windows"]["oneOf"][1]["maxItems"] == MOST_WINDOWS
    assert schemas["countries"]["maxItems"] == MOST_COUNTRIES


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_hold(name: str) -> None:
    """Each example is of its schema and of no other message's; what a client would say is understood."""
    for example in MESSAGES[name]["examples"]:
        check(example["payload"])
        for other in set(MESSAGES) - {name}:
            with pytest.raises(ValidationError):
                validator(MESSAGES[other]["payload"]).validate(example["payload"])
        if name not in SAID:
            from_message(json.dumps(example["payload"]), LABELS)


@pytest.mark.parametrize("topic", ["rankings.city", "rankings.salesman"])
def test_frames_of_every_example(topic: str) -> None:
    """The frames made of every example of the contracts are those of the document."""
    described = catalogue()[topic]
    board = Board(PARTITIONS, 9)
    for offset, example in enumerate(described.examples().values()):
        record = typed(described.avro, example)
        new = held(record["ranking"], "1h", record, PARTITIONS.index((topic, 0)), offset)
        board.apply(new)
        check(json.loads(board.changed(new).text))
    everything = from_query({"windows": "all"}, LABELS).subscription
    snapshot = json.loads(board.snapshot(everything, None)[0].text)
    assert snapshot["sets"]
    check(snapshot)
    check(json.loads(board.heartbeat(START).text))
    check(json.loads(hello(0.5, from_query({"windows": "2026-02-19T10:00:00Z"}, LABELS).subscription).text))
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
    """The API serves the document as it is."""
    async with peer(Api(), DOCUMENT_PATH) as reader:
        start = await reader.next()
        assert start["status"] == 200
        assert dict(start["headers"])[b"content-type"].startswith(b"application/yaml")
        assert (await reader.next())["body"] == DOCUMENT.read_bytes()
