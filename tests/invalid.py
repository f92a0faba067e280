"""The cases in contracts/topics/*/invalid as the bytes that a producer would send, or a source would hold.

What a case may say besides its `reason`:

- `record`: written with the topic's schema, or with that of another `topic`, or with a `writer_schema` of its own;
  `append_hex` and `cut_bytes` then spoil its end
- `body_hex`: these bytes after the header of the topic's schema; `payload_hex`: these bytes alone
- `object`: a CSV file, of which `rows` rows are good; `soap`: a sale in an answer of the legacy service;
  `delivery`: the body of a signed request of a `provider`, with its other `headers`.
  The dead letter keeps `original` or all of it, of that `original_bytes`; `{x}` stands for `repeat` times x
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from contracts.catalogue import Topic, catalogue
from contracts.codec import encode_body, parse
from contracts.json_avro import typed

Case = Mapping[str, Any]
RECORD_KINDS = ("record", "body_hex", "payload_hex")
SENT_KINDS = ("object", "soap", "delivery")


def is_record(case: Case) -> bool:
    """Whether the case reaches its topic, rather than being rejected by the poller."""
    return any(kind in case for kind in RECORD_KINDS)


async def payload(case: Case, topic: Topic, schema_id: Callable[[str, Any], Awaitable[int]]) -> bytes:
    """The value of the record; `schema_id` gives the id of a schema of a topic, registering it where that is needed."""
    if "payload_hex" in case:
        return bytes.fromhex(case["payload_hex"])
    written_as = catalogue()[case.get("topic", topic.name)]
    schema = case.get("writer_schema", written_as.avro)
    number = await schema_id(written_as.name, schema)
    if "body_hex" in case:
        return b"\0" + number.to_bytes(4) + bytes.fromhex(case["body_hex"])
    record = typed(schema, case["record"])
    whole = encode_body(number, parse(schema), record) + bytes.fromhex(case.get("append_hex", ""))
    return whole[: len(whole) - case.get("cut_bytes", 0)]


def _filled(case: Case, text: str) -> bytes:
    return text.replace("{x}", "x" * case.get("repeat", 1)).encode("latin-1")


def content(case: Case) -> bytes:
    """The CSV file, the SOAP sale, or the body of a webhook."""
    return _filled(case, next(case[kind] for kind in SENT_KINDS if kind in case))


def kept(case: Case) -> bytes:
    """The bytes that the dead letter of a CSV file or a SOAP sale keeps."""
    return (
        _filled(case, case["original"])[: case.get("original_bytes")]
        if "original" in case
        else (content(case)[: case.get("original_bytes")])
    )
