"""Dead letters: a record that could not be used, with its original bytes and the reason, for `sales.dlq`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chassis.kafka import Record
from chassis.results import Rejected
from contracts.codec import Encoder
from contracts.reasons import REASONS

TOPIC = "sales.dlq"
ATTEMPT_HEADER = "placar-attempt"


def is_attempt(header: bytes) -> bool:
    """Whether the header's value is a number that a dead letter can carry; anybody can write a header."""
    return header.isdigit() and len(header) < 10


def attempt_of(headers: Any) -> int:
    """How often the record was tried, from the header that a replay sets; 1 without it or where it is unreadable."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in pairs:
        if name == ATTEMPT_HEADER and value is not None and is_attempt(bytes(value)):
            return int(value)
    return 1


def dead_letter(
    encode: Encoder,
    unit: str,
    rejected: Rejected,
    *,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    partition: int = -1,
    offset: int = -1,
    attempt: int = 1,
) -> Record:
    """The record for `sales.dlq`; partition and offset are -1 for what never was in a topic.

    Raises:
        KeyError: the reason is not one of contracts/reasons.py.
    """
    meaning, remedy = REASONS[rejected.reason]
    return Record(
        TOPIC,
        topic.encode(),
        encode(
            {
                "topic": topic,
                "partition": partition,
                "offset": offset,
                "key": key,
                "value": value,
                "reason": rejected.reason,
                "detail": f"{meaning}: {rejected.detail}; {remedy}",
                "unit": unit,
                "attempt": attempt,
                "time": datetime.now(UTC),
            }
        ),
    )
