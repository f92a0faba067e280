"""The metrics of a streams service after a batch: outcomes, dead letters, how long the way took, and its watermark."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from chassis import stream
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.results import Context, Ignored, Output, Rejected
from chassis.stream import Agent, Codecs, StreamSettings, Worker
from chassis.unit import Unit
from contracts.codec import Decoder
from contracts.time import at_ms
from streams.cdc import transform as cdc
from streams.files import transform as files
from streams.legacy import transform as legacy
from streams.shopify import transform as shopify
from streams.stripe import transform as stripe
from tests.batches import Member, batch, message, published
from tests.webhook_events import charge_event, order_event

NOW = datetime(2026, 2, 19, 10, tzinfo=UTC)
AT_SOURCE_MS = 1_771_490_000_123
EVENT_S, EARLIER = 1_771_480_000, "2026-02-19T05:46:40Z"
SALE = {"salesman_name": "Ana", "city": "Recife", "country": "BR", "product": "SSD", "sale_id": "7"}
ROW = {"id": 7, "salesman": "Ana", "city": "Recife", "country": "BR", "amount": Decimal("5.00"), "product": "SSD"}


@pytest.mark.parametrize(
    ("transform", "record"),
    [
        (
            lambda record, context: cdc.transform(record, context, epoch=1),
            {
                "op": "c",
                "before": None,
                "after": {**ROW, "sale_date": 1_771_480_000_000_000},
                "source": {"table": "sales", "lsn": 5, "ts_ms": AT_SOURCE_MS},
            },
        ),
        (
            lambda record, context: files.transform(record, context, zone=UTC),
            {
                **SALE,
                "amount": "5.00",
                "sale_date": "2026-02-19T05:00:00Z",
                "row_number": 3,
                "deleted": False,
                "object_version": AT_SOURCE_MS // 1000,
                "fetched_at": NOW,
            },
        ),
        (
            legacy.transform,
            {
                **SALE,
                "amount": "5.00",
                "sale_date": 1_771_480_000_000,
                "fetched_at": datetime.fromtimestamp(AT_SOURCE_MS / 1000, UTC),
            },
        ),
        (partial(shopify.transform, currency="BRL"), order_event(at=at_ms(AT_SOURCE_MS), created_at=EARLIER)),
        (partial(stripe.transform, currency="BRL"), charge_event(at=at_ms(AT_SOURCE_MS), created=EVENT_S)),
    ],
    ids=["cdc", "files", "legacy", "shopify", "stripe"],
)
def test_a_sale_knows_when_its_source_had_it(transform: Any, record: dict[str, Any]) -> None:
    """The commit, the upload, the call that fetched it, or the event that a webhook tells of."""
    made = transform(record, Context(NOW, NOW))
    assert isinstance(made, Output), made
    assert made.at_source_ms == pytest.approx(AT_SOURCE_MS, abs=1000)  # files and charges have whole seconds


def worker_of(results: Sequence[Output | Rejected | Ignored]) -> tuple[Unit, Worker]:
    """A worker that makes these results of whatever it is given."""
    unit = Unit("files", structlog.get_logger("placar"), Metrics("files", stream.METRICS), Readiness())
    todo = list(results)
    agent = Agent("sales.files", "sales.unified", lambda *_: todo.pop(0))
    codecs = Codecs(cast(Decoder, SimpleNamespace(decode=AsyncMock())), lambda _: b"", lambda _: b"")
    return unit, Worker(unit, StreamSettings(ops_port=1), agent, codecs, cast(AIOKafkaProducer, None))


async def accounted(*results: Sequence[Output | Rejected | Ignored]) -> dict[str, float]:
    """The series after batches with these results."""
    unit, worker = worker_of([result for batch in results for result in batch])
    async with published():
        for each in results:
            await worker.consumer.handle([batch([message("sales.files", b"x") for _ in each])], Member())
    lines = unit.metrics.render(["text/plain"])[0].decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] not in "#")}


def sold(seconds_ago: float, event: datetime, ingested: datetime) -> Output:
    """A sale that its source had so long ago."""
    at = int((time.time() - seconds_ago) * 1000)
    return Output(b"k", {"event_time": event, "ingestion_time": ingested}, at)


async def test_a_batch_is_counted_by_outcome_reason_and_delay() -> None:
    """Every result counts once; the delay is since the source had the sale."""
    results: list[Output | Rejected | Ignored] = [
        sold(0.6, NOW, NOW),
        sold(40, NOW, NOW),
        Rejected("amount_range", "x"),
        Rejected("amount_range", "x"),
        Rejected("field_missing", "x"),
        Ignored("heartbeat"),
    ]
    series = await accounted(results)

    def records(outcome: str) -> float:
        return series[f'placar_records_total{{outcome="{outcome}",topic="sales.files",unit="files"}}']

    assert (records("published"), records("dead_letter"), records("ignored")) == (2, 3, 1)
    counts = 'placar_dead_letters_total{{reason="{}",topic="sales.files",unit="files"}}'
    assert (series[counts.format("amount_range")], series[counts.format("field_missing")]) == (2, 1)
    delays = 'placar_source_delay_seconds_bucket{{le="{}",topic="sales.files",unit="files"}}'
    assert [series[delays.format(bound)] for bound in ("0.5", "1.0", "30.0", "60.0", "+Inf")] == [0, 1, 1, 2, 2]


async def test_the_watermark_is_the_newest_event_less_five_seconds_and_never_goes_back() -> None:
    """A sale that is dated later than it came counts from when it came; an older batch changes nothing."""
    hour = timedelta(hours=1)
    name = 'placar_source_watermark_timestamp_seconds{topic="sales.files",unit="files"}'
    newest = [sold(1, NOW - hour, NOW), sold(1, NOW + hour, NOW)]
    assert (await accounted(newest))[name] == NOW.timestamp() - 5
    assert (await accounted(newest, [sold(1, NOW - hour, NOW)]))[name] == NOW.timestamp() - 5
    assert name not in await accounted([Ignored("heartbeat")])


async def test_a_record_that_becomes_several_counts_once() -> None:
    """All that a record becomes is published; it is counted as one record, with one delay."""
    sale = replace(sold(1, NOW, NOW), also=(Output(b"m", {}), Output(b"n", {})))
    _, worker = worker_of([sale])
    async with published() as records:
        await worker.consumer.handle([batch([message("sales.files", b"x")])], Member())
    assert [(record.topic, record.key) for record in records] == [("sales.unified", key) for key in (b"k", b"m", b"n")]
    series = await accounted([sale, Ignored("heartbeat")])
    assert series['placar_records_total{outcome="published",topic="sales.files",unit="files"}'] == 1
    assert series['placar_records_unaccounted{topic="sales.files",unit="files"}'] == 0
    assert series['placar_source_delay_seconds_bucket{le="+Inf",topic="sales.files",unit="files"}'] == 1
