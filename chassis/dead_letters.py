"""Dead letters: a record that could not be used, with its original bytes and the reason, for `sales.dlq`."""

from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.kafka import Record
from contracts.codec import Encoder
from contracts.reasons import REASONS

TOPIC = "sales.dlq"
ATTEMPT_HEADER = "placar-attempt"


def is_attempt(header: bytes) -> bool:
    """Whether the header's value is a number that a dead letter can carry; anybody can write a header."""
    return header.isdigit() and len(header) < 10


@dataclass(frozen=True)
class Refusal:
    """Why a record is refused: a code of contracts/reasons.py, and the field, value (shortened) and remedy in words."""

    reason: str
    detail: str


def dead_letter(
    encode: Encoder,
    unit: str,
    refusal: Refusal,
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
    meaning, remedy = REASONS[refusal.reason]
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
                "reason": refusal.reason,
                "detail": f"{meaning}: {refusal.detail}; {remedy}",
                "unit": unit,
                "attempt": attempt,
                "time": datetime.now(UTC),
            }
        ),
    )
