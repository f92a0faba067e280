"""Every example and every invalid example of a raw topic through the unit that consumes it."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from chassis import dead_letters
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.stream import Agent, Codecs, StreamSettings, Worker
from chassis.unit import Unit
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Decoder, encode_body, parse
from contracts.json_avro import typed
from contracts.versions import MAX_VERSION
from streams.cdc.agents import agent as cdc
from streams.cdc.settings import Settings as CdcSettings
from streams.files.agents import agent as files
from streams.files.settings import Settings as FilesSettings
from streams.legacy.agents import agent as legacy
from streams.legacy.settings import Settings as LegacySettings
from streams.shopify.agents import agent as shopify
from streams.shopify.settings import Settings as ShopifySettings
from streams.stripe.agents import agent as stripe
from streams.stripe.settings import Settings as StripeSettings
from tests import invalid
from tests.batches import Member, batch, message, published
from tests.contract.registry import MemoryRegistry

AGENTS = [
    cdc(CdcSettings(epoch=1)),
    files(FilesSettings(timezone="UTC")),
    legacy(LegacySettings()),
    shopify(ShopifySettings()),
    stripe(StripeSettings()),
]
DEBEZIUM = Path(__file__).parent / "data" / "debezium_envelope.avsc"
OUTCOMES = ("published", "dead_letter", "ignored")
KEY, PARTITION, OFFSET = b"a key", 3, 1042
WRITTEN_AT = datetime(2026, 2, 19, 10, 15, 0, 900_000, tzinfo=UTC)
QUARTER_PAST_TEN = datetime(2026, 2, 19, 10, 15, tzinfo=UTC)

# What the consumer must make of each valid example: a sale, several, or None: it is ignored.
EXPECTED: dict[str, dict[str, dict[str, Any] | list[dict[str, Any]] | None]] = {
    "sales.files": {
        "canonical": {
            "sale_id": "F-1001",
            "source": "files",
            "salesman_name": "Ana Beatriz Souza",
            "city": "São Paulo",
            "country": "BR",
            "amount": Decimal("1234.56"),
            "product": "Laptop",
            "event_time": QUARTER_PAST_TEN,
            "ingestion_time": datetime(2026, 2, 19, 11, 0, 30, 250_000, tzinfo=UTC),
            "version": 1771498800 << 31 | 1,
            "deleted": False,
        },
        "city_upper_without_accents": {"city": "São Paulo"},
        "city_unknown": {"city": "Quixeramobim"},
        "country_lower_case": {"country": "BR"},
        "country_abroad": {"country": "PT", "city": "Lisboa"},
        "decomposed_and_spaced": {"sale_id": "F-1006", "salesman_name": "João da Silva"},
        "amount_smallest": {"amount": Decimal("0.01")},
        "amount_largest": {"amount": Decimal("9999999999999999.99")},
        "amount_without_fraction": {"amount": Decimal("150.00")},
        "date_without_zone": {"event_time": QUARTER_PAST_TEN},
        "date_with_offset": {"event_time": QUARTER_PAST_TEN.replace(microsecond=123_000)},
        "second_upload": {"sale_id": "F-1001", "amount": Decimal("1300.00"), "version": 1771585200 << 31 | 1},
        "removed_by_an_upload": {"sale_id": "F-1001", "deleted": True, "version": 1771585200 << 31 | 2},
    },
    "sales.legacy": {
        "canonical": {
            "sale_id": "L-77001",
            "source": "legacy",
            "salesman_name": "Carlos Lima",
            "city": "Curitiba",
            "country": "BR",
            "amount": Decimal("899.90"),
            "product": "GPU",
            "event_time": QUARTER_PAST_TEN,
            "ingestion_time": datetime(2026, 2, 19, 10, 16, tzinfo=UTC),
            "version": 1771496160000,
            "deleted": False,
        },
        "city_lower_case": {"city": "Brasília"},
        "amount_integer": {"amount": Decimal("15.00")},
        "amount_leading_point": {"amount": Decimal("0.50")},
        "date_first_possible": {"event_time": datetime(2000, 1, 1, tzinfo=UTC)},
    },
    "sales.postgres": {
        "snapshot": {"sale_id": "42", "version": 1 << 56 | 31672000, "deleted": False},
        "insert": {
            "sale_id": "42",
            "source": "postgres",
            "salesman_name": "Beatriz Costa",
            "city": "Belo Horizonte",
            "country": "BR",
            "amount": Decimal("2500.00"),
            "product": "Monitor",
            "event_time": QUARTER_PAST_TEN.replace(microsecond=123_000),
            "ingestion_time": WRITTEN_AT,
            "version": 1 << 56 | 31672000,
            "deleted": False,
        },
        "update": {"city": "Porto Alegre", "amount": Decimal("2600.00"), "version": 1 << 56 | 31673000},
        "delete": {"sale_id": "42", "city": "Belo Horizonte", "deleted": True, "version": 1 << 56 | 31674000},
        "delete_of_invalid_row": {
            "sale_id": "42",
            "salesman_name": "",
            "city": "",
            "country": "",
            "amount": Decimal("0.00"),
            "product": "Monitor",
            "event_time": datetime(1970, 1, 1, tzinfo=UTC),
            "version": 1 << 56 | 31675000,
            "deleted": True,
        },
        "heartbeat": None,
        "largest_amount": {"amount": Decimal("9999999999.99")},
    },
    "shopify.orders": {
        "created": {
            "sale_id": "5678901234567",
            "source": "shopify",
            "salesman_name": "web",
            "city": "São Paulo",
            "country": "BR",
            "amount": Decimal("184.50"),
            "product": "Headset",
            "event_time": QUARTER_PAST_TEN,
            "ingestion_time": datetime(2026, 2, 19, 10, 15, 3, 120_000, tzinfo=UTC),
            "version": 1771496102877041 << 11 | 0x227,
            "deleted": False,
        },
        "edited": {"amount": Decimal("240.00"), "product": "Mouse"},
        "partially_refunded": {"amount": Decimal("84.50"), "deleted": False},
        "refunded": {"sale_id": "5678901234567", "deleted": True, "city": "São Paulo"},
        "of_no_value": {"deleted": True},
        "cancelled": {"deleted": True, "amount": Decimal("184.50")},
        "cancelled_with_few_fields": {"sale_id": "5678901234567", "deleted": True, "city": ""},
        "deleted": {"sale_id": "5678901234567", "deleted": True, "city": ""},
        "test_order": {"deleted": True},
        "billed_only": {"city": "Campinas"},
        "shipped_to_no_city": {"city": "Campinas", "country": "BR"},
        "over_the_counter_of_another_zone": {"salesman_name": "pos", "event_time": QUARTER_PAST_TEN},
        "from_a_draft": {"salesman_name": "shopify_draft_order", "deleted": False},
        "names_its_charge": [
            {"source": "shopify", "sale_id": "5678901234567", "deleted": False},
            {"source": "stripe", "sale_id": "pi_1Test", "deleted": True, "version": MAX_VERSION},
            {"source": "stripe", "sale_id": "ch_1Test", "deleted": True, "version": MAX_VERSION},
        ],
        "cancelled_names_its_charge": [
            {"source": "shopify", "sale_id": "5678901234567", "deleted": True},
            {
                "sale_id": "ch_2Test",
                "source": "stripe",
                "salesman_name": "",
                "city": "",
                "country": "",
                "amount": Decimal("0.00"),
                "product": "",
                "event_time": datetime(1970, 1, 1, tzinfo=UTC),
                "ingestion_time": datetime(2026, 2, 19, 10, 15, 3, 120_000, tzinfo=UTC),
                "version": MAX_VERSION,
                "deleted": True,
            },
        ],
        "of_a_later_version": {"amount": Decimal("184.50")},
        "odd_json": {"amount": Decimal("184.50")},
    },
    "stripe.charges": {
        "succeeded": {
            "sale_id": "pi_1Test",
            "source": "stripe",
            "salesman_name": "Stripe",
            "city": "São Paulo",
            "country": "BR",
            "amount": Decimal("184.50"),
            "product": "Headset",
            "event_time": QUARTER_PAST_TEN,
            "ingestion_time": datetime(2026, 2, 19, 10, 15, 3, 120_000, tzinfo=UTC),
            "version": 1771496102 << 31 | 2**23 - 1 << 6 | 0x3F,
            "deleted": False,
        },
        "refunded_in_part": {"sale_id": "pi_1Test", "amount": Decimal("100.00"), "deleted": False},
        "refunded": {"sale_id": "pi_1Test", "deleted": True},
        "pending": None,
        "failed": None,
        "authorised": None,
        "captured_in_part": {"amount": Decimal("100.00")},
        "captured_in_part_then_refunded": {"amount": Decimal("99.99")},
        "authorisation_released": None,
        "pays_an_order": None,
        "pays_an_order_by_its_intent": None,
        "names_an_order_later": {"sale_id": "pi_1Test", "deleted": True},
        "blank_order": {"deleted": False},
        "intent_expanded": {"sale_id": "pi_1Test", "deleted": False},
        "without_intent": {"sale_id": "ch_1Test"},
        "shipped_only": {"city": "Recife"},
        "without_description": {"product": "PLACAR"},
        "test_mode": None,
        "test_charge": None,
        "disputed": {"amount": Decimal("184.50"), "deleted": False},
    },
}


async def outcome_of(
    agent: Agent, payload: bytes | None, registry: MemoryRegistry
) -> tuple[str, str, list[dict[str, Any]]]:
    """Outcome, published topic and decoded published values of one raw message."""
    unified, dead = (catalogue()[name] for name in (agent.publishes, dead_letters.TOPIC))
    codecs = Codecs(
        Decoder(registry.client, catalogue()[agent.consumes]),
        await codec.encoder(MemoryRegistry(unified).client, unified),
        await codec.encoder(MemoryRegistry(dead).client, dead),
    )
    raw = message(
        agent.consumes,
        payload,
        offset=OFFSET,
        partition=PARTITION,
        key=KEY,
        headers=[(dead_letters.ATTEMPT_HEADER, b"2")],
        timestamp=round(WRITTEN_AT.timestamp() * 1000),
    )
    unit = Unit("unit-under-test", structlog.get_logger("placar"), Metrics("unit-under-test"), Readiness())
    worker = Worker(unit, StreamSettings(ops_port=1), agent, codecs, cast(AIOKafkaProducer, None))
    async with published() as records:
        await worker.consumer.handle([batch([raw])], Member())
    (outcome,) = [name for name in OUTCOMES if unit.metrics.recorded(agent.consumes, name)]
    if not records:
        return outcome, "", []
    (name,) = {record.topic for record in records}
    topic = catalogue()[name]
    decoder = Decoder(MemoryRegistry(topic).client, topic)
    return outcome, name, [await decoder.decode(record.value or b"") for record in records]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.consumes)
async def test_examples_become_unified_sales(agent: Agent) -> None:
    """Each valid example of a raw topic becomes the unified sale that is expected of it, or is ignored."""
    topic = catalogue()[agent.consumes]
    registry = MemoryRegistry(topic)
    examples = topic.examples()
    assert set(examples) == set(EXPECTED[topic.name])
    for name, example in examples.items():
        payload = encode_body(1, parse(topic.avro), typed(topic.avro, example))
        one = EXPECTED[topic.name][name]
        expected = one if isinstance(one, list) else [] if one is None else [one]
        outcome, to, events = await outcome_of(agent, payload, registry)
        assert (outcome, to) == (("published", "sales.unified") if expected else ("ignored", "")), name
        shown = [{field: event[field] for field in each} for event, each in zip(events, expected, strict=True)]
        assert shown == expected, name


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.consumes)
async def test_invalid_examples_become_dead_letters(agent: Agent) -> None:
    """Each invalid example becomes one dead letter with its reason, original bytes, position, attempt and unit."""
    topic = catalogue()[agent.consumes]
    for name, example in topic.examples("invalid").items():
        if not invalid.is_record(example):  # rejected by the poller, before it is a record
            continue
        registry = MemoryRegistry(topic)
        payload = await invalid.payload(example, topic, registry.schema_id)
        outcome, to, (record,) = await outcome_of(agent, payload, registry)
        assert (outcome, to) == ("dead_letter", "sales.dlq"), name
        assert record["reason"] == example["reason"], f"{name}: {record['detail']}"
        assert record["value"] == payload, name
        assert record["topic"] == topic.name
        assert (record["key"], record["partition"], record["offset"]) == (KEY, PARTITION, OFFSET)
        assert (record["unit"], record["attempt"]) == ("unit-under-test", 2)
        assert len(record["detail"]) < 400, name


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.consumes)
async def test_tombstones_are_ignored(agent: Agent) -> None:
    """A record without a value is ignored: a tombstone says nothing that its delete did not say."""
    outcome, _, _ = await outcome_of(agent, None, MemoryRegistry(catalogue()[agent.consumes]))
    assert outcome == "ignored"


async def test_debezium_writer_schema_is_read() -> None:
    """What Debezium 3.7 really registers for the table, with a column added since, is read as the contract says."""
    topic = catalogue()["sales.postgres"]
    registry = MemoryRegistry(topic)
    registry.schemas[2] = json.loads(DEBEZIUM.read_text("utf-8"))
    record = typed(topic.avro, topic.examples()["update"])
    for image in ("before", "after"):
        record[image].update(created_at=1771496100123456, channel="shop")
    record["source"].update(version="3.7.0.Final", connector="postgresql", name="placar", db="sales", schema="public")
    payload = encode_body(2, parse(registry.schemas[2]), record)
    outcome, _, (event,) = await outcome_of(AGENTS[0], payload, registry)
    expected = EXPECTED["sales.postgres"]["update"]
    assert outcome == "published"
    assert isinstance(expected, dict)
    assert {field: event[field] for field in expected} == expected
