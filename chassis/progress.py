"""What a poller has read: positions in `ingestion.progress`, read back at start, written after the rows."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chassis import kafka
from chassis.kafka import Record
from chassis.registry import Registry
from chassis.settings import KafkaSettings
from chassis.unit import Unit
from contracts.codec import DecodeError, Encoder

TOPIC = "ingestion.progress"

Position = Mapping[str, Any]


def record(encode: Encoder, unit: str, cursor: str, position: Position) -> Record:
    """The record that makes `position` (what JSON can hold) the newest of `cursor`."""
    value = {
        "unit": unit,
        "cursor": cursor,
        "position": json.dumps(position, ensure_ascii=False, separators=(",", ":")),
        "updated_at": datetime.now(UTC),
    }
    return Record(TOPIC, f"{unit}/{cursor}".encode(), encode(value))


def newest(position: str) -> Position | None:
    """The position as it was written, or None where the text is not a JSON object."""
    try:
        parsed = json.loads(position)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


async def read(unit: Unit, settings: KafkaSettings, registry: Registry) -> dict[str, Position]:
    """The newest position of each of the unit's cursors, from the whole topic; waits for broker and registry.

    A record that cannot be read is logged and left out: what it covered is read again, and upserts make that harmless.
    """
    decoder = registry.decoder(TOPIC)
    positions: dict[str, Position] = {}
    prefix = f"{unit.name}/".encode()
    async with kafka.consumer(unit, settings, [TOPIC], None) as client:
        async for key, value in kafka.read_to_end(client):
            if key is None or value is None or not key.startswith(prefix):
                continue
            try:
                progress = await decoder.decode(value)
            except DecodeError as error:
                unit.log.warning("progress_unreadable", key=key.decode(errors="replace"), error=error.detail)
                continue
            position = newest(progress["position"])
            if position is None:
                unit.log.warning("progress_unreadable", cursor=progress["cursor"], error="the position is not JSON")
                continue
            positions[progress["cursor"]] = position
    unit.log.info("progress_read", cursors=len(positions))
    return positions
