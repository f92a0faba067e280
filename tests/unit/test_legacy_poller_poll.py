"""One round of the legacy poller, without servers."""

from typing import Any, cast

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from chassis import progress
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from services.legacy_poller.metrics import METRICS
from services.legacy_poller.poll import SERVER, Poller
from services.legacy_poller.settings import LegacyPollerSettings
from services.legacy_poller.soap import SalesClient
from services.legacy_poller.transform import Cursor
from tests.batches import published


class Service:
    """Answers at the second call, with no sale; `waiting` is why the unit was not ready at each call."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.waiting: list[str | None] = []

    async def recent_sales(self, _: int) -> list[Any]:
        """What a call answers."""
        self.waiting.append(self.unit.readiness.missing.get(SERVER))
        if len(self.waiting) == 1:
            raise OSError("not yet")
        return []


@pytest.mark.filterwarnings("error")  # a deprecated argument would be one
async def test_a_call_without_an_answer_is_made_again() -> None:
    """A round ends with an answer, and the service was not ready meanwhile."""
    unit = Unit("legacy_poller", structlog.get_logger("placar"), Metrics("legacy_poller", METRICS), Readiness())
    service = Service(unit)
    poller = Poller(
        unit,
        LegacyPollerSettings(interval_s=0.1),
        service=cast(SalesClient, service),
        client=cast(AIOKafkaProducer, None),
        encoders={progress.TOPIC: lambda _: b"progress"},
        cursor=Cursor(),
    )
    async with published() as records:
        await poller.round()
    first, second = service.waiting
    assert first is None
    assert "not yet" in str(second)
    assert SERVER not in unit.readiness.missing
    assert [record.topic for record in records] == [progress.TOPIC]
