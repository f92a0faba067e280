"""What the peers share: where the servers are, the two schemas, and cdc's own rules for a sale."""

import os
from pathlib import Path
from typing import Any

from chassis.results import Context, Output
from contracts.time import at_ms
from streams.cdc.transform import transform

RAW, UNIFIED = "sales.postgres", "sales.unified"
EPOCH = 1  # as cdc's by default
TOPICS = Path(__file__).parents[3] / "contracts" / "topics"
READER = (TOPICS / RAW / "value.avsc").read_text("utf-8")
WRITER = (TOPICS / UNIFIED / "value.avsc").read_text("utf-8")
BROKER = f"{os.environ['KAFKA_HOST']}:{os.environ['KAFKA_PORT']}"
REGISTRY = f"http://{os.environ['SCHEMA_REGISTRY_HOST']}:{os.environ['SCHEMA_REGISTRY_PORT']}/apis/ccompat/v7"
# as safe as ours, and each key in the partition where Kafka's own clients put it
PRODUCER = {"enable.idempotence": True, "acks": "all", "linger.ms": 5, "partitioner": "murmur2_random"}


def sale(change: dict[str, Any], written_ms: int) -> Any:
    """The sale that a change makes, None where it makes none."""
    at = at_ms(written_ms)
    result = transform(change, Context(at, at), epoch=EPOCH)
    return result.value if isinstance(result, Output) else None
