"""The transforms of the streams units on whatever their schemas allow."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.results import Context, Ignored, Output, Rejected
from chassis.stream import Agent
from contracts.catalogue import catalogue
from contracts.codec import encode_body, parse
from contracts.json_avro import typed
from contracts.reasons import REASONS
from streams.cdc import transform as cdc
from streams.cdc.agents import agent as cdc_agent
from streams.cdc.settings import Settings as CdcSettings
from streams.files import transform as files
from streams.files.agents import agent as files_agent
from streams.files.settings import Settings as FilesSettings
from streams.legacy import transform as legacy
from streams.legacy.agents import agent as legacy_agent
from streams.legacy.settings import Settings as LegacySettings
from streams.shopify.agents import agent as shopify_agent
from streams.shopify.settings import Settings as ShopifySettings
from streams.stripe.agents import agent as stripe_agent
from streams.stripe.settings import Settings as StripeSettings

NOW = datetime(2026, 2, 19, 12, 0, tzinfo=UTC)
CONTEXT = Context(NOW, NOW - timedelta(seconds=1))
UNIFIED = parse(catalogue()["sales.unified"].avro)

LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=300)
MAYBE_TEXT = st.none() | TEXT
PLAUSIBLE_MS = st.integers(946_684_000_000, 1_771_600_000_000)
SEEN = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))

ROW = st.fixed_dictionaries(
    {
        "id": LONG,
        "salesman_id": st.none() | LONG,
        "salesman": MAYBE_TEXT | st.just("Ana"),
        "city": MAYBE_TEXT | st.just("recife"),
        "country": MAYBE_TEXT | st.just("BR"),
        "amount": st.none() | st.decimals(min_value=-(10**10), max_value=10**10, places=2, allow_nan=False),
        "product": MAYBE_TEXT | st.just("SSD"),
        "sale_date": st.none() | LONG | PLAUSIBLE_MS.map(lambda ms: ms * 1000),
    }
)
CHANGE = st.fixed_dictionaries(
    {
        "before": st.none() | ROW,
        "after": st.none() | ROW,
        "op": st.sampled_from("rcudtm") | TEXT,
        "ts_ms": st.none() | LONG,
        "source": st.fixed_dictionaries(
            {
                "lsn": st.none() | LONG | st.integers(0, 2**40),
                "ts_ms": LONG,
                "snapshot": MAYBE_TEXT,
                "table": st.just("sales") | TEXT,
            }
        ),
    }
)
FILE_SALE = st.fixed_dictionaries(
    {
        "sale_id": TEXT,
        "salesman_name": TEXT,
        "city": TEXT,
        "country": TEXT | st.just("BR"),
        "amount": TEXT | st.decimals(min_value="0.01", max_value=10**6, places=2).map(str),
        "product": TEXT,
        "sale_date": TEXT | st.datetimes().map(datetime.isoformat),
        "object_version": LONG | st.integers(0, 2**32),
        "row_number": LONG | st.integers(0, 2**31),
        "deleted": st.booleans(),
        "fetched_at": SEEN,
    }
)
LEGACY_SALE = st.fixed_dictionaries(
    {
        "sale_id": MAYBE_TEXT,
        "salesman_name": MAYBE_TEXT,
        "city": MAYBE_TEXT,
        "country": MAYBE_TEXT | st.just("BR"),
        "amount": MAYBE_TEXT | st.just("10.00"),
        "product": MAYBE_TEXT,
        "sale_date": st.none() | LONG | PLAUSIBLE_MS,
        "fetched_at": SEEN,
    }
)


def sound(result: Output | Rejected | Ignored) -> None:
    """A result is encodable as a unified sale that meets the rules, a known rejection, or ignored."""
    if isinstance(result, Rejected):
        assert result.reason in REASONS
        assert len(result.detail) < 200
    elif isinstance(result, Output):
        event = result.value
        assert encode_body(1, UNIFIED, event)
        assert result.key == f"{event['source']}:{event['sale_id']}".encode()
        assert event["ingestion_time"] <= NOW
        assert event["deleted"] or event["amount"] > 0


@given(CHANGE)
def test_any_change_is_handled(record: dict[str, Any]) -> None:
    """Whatever Debezium's schema allows becomes a sound sale, a rejection or is ignored; nothing raises."""
    sound(cdc.transform(record, CONTEXT, epoch=127))


@given(FILE_SALE)
def test_any_row_is_handled(record: dict[str, Any]) -> None:
    """Whatever the schema of file rows allows becomes a sound sale or a rejection; nothing raises."""
    sound(files.transform(record, CONTEXT, zone=UTC))


@given(LEGACY_SALE)
def test_any_legacy_sale_is_handled(record: dict[str, Any]) -> None:
    """Whatever the schema of legacy sales allows becomes a sound sale or a rejection; nothing raises."""
    sound(legacy.transform(record, CONTEXT))


@given(ROW, st.integers(0, 2**56 - 1))
def test_a_delete_always_deletes(row: dict[str, Any], lsn: int) -> None:
    """A delete is published whatever the row held, with the identity and version that count."""
    source = {"lsn": lsn, "ts_ms": 0, "snapshot": None, "table": "sales"}
    change = {"before": row, "after": None, "op": "d", "ts_ms": 0, "source": source}
    result = cdc.transform(change, CONTEXT, epoch=1)
    assert isinstance(result, Output)
    assert (result.value["sale_id"], result.value["deleted"]) == (str(row["id"]), True)
    assert result.value["version"] == 2**56 + lsn


def change(op: str, lsn: int, **row: Any) -> dict[str, Any]:
    """A change of the example row."""
    topic = catalogue()["sales.postgres"]
    record: dict[str, Any] = typed(topic.avro, topic.examples()["insert"])
    record["op"], record["source"]["lsn"] = op, lsn
    record["after"].update(row)
    return record


@pytest.mark.parametrize(("op", "kept"), [("u", True), ("c", False), ("r", False)])
def test_a_rejected_update_says_what_stays_ranked(op: str, kept: bool) -> None:
    """An update to an invalid row leaves the last valid version, and the dead letter's detail says so."""
    result = cdc.transform(change(op, 5, amount=Decimal("-1.00")), CONTEXT, epoch=1)
    assert isinstance(result, Rejected)
    assert result.reason == "amount_range"
    assert ("the last valid version of the sale, if any, stays ranked" in result.detail) == kept


def version(result: Output | Rejected | Ignored) -> int:
    """The version of a published sale."""
    assert isinstance(result, Output)
    number: int = result.value["version"]
    return number


def test_versions_grow_with_log_and_epoch() -> None:
    """A later log position is a higher version; a raised epoch is above every position of the one before."""
    older = version(cdc.transform(change("c", 2**56 - 1), CONTEXT, epoch=1))
    newer = version(cdc.transform(change("u", 1), CONTEXT, epoch=2))
    assert version(cdc.transform(change("c", 7), CONTEXT, epoch=1)) < older < newer


def test_versions_of_files() -> None:
    """A later upload wins over every row of an earlier one; within one file the later row wins."""
    topic = catalogue()["sales.files"]
    row = typed(topic.avro, topic.examples()["canonical"])
    read = partial(files.transform, context=CONTEXT, zone=UTC)
    last = version(read({**row, "row_number": 2**31 - 1}))
    assert version(read(row)) < last < version(read({**row, "object_version": row["object_version"] + 1}))


def test_snapshot_repeats_converge() -> None:
    """A repeated change has the same key and version, so that it counts once."""
    first = cdc.transform(change("c", 5), CONTEXT, epoch=1)
    again = cdc.transform(change("c", 5), Context(NOW + timedelta(hours=1), NOW), epoch=1)
    assert isinstance(first, Output)
    assert isinstance(again, Output)
    assert first.key == again.key
    assert first.value == {**again.value, "ingestion_time": first.value["ingestion_time"]}


def test_legacy_version_is_the_fetch_time() -> None:
    """The version of a legacy sale is the millisecond of the call that brought it."""
    topic = catalogue()["sales.legacy"]
    record = typed(topic.avro, topic.examples()["canonical"])
    assert version(legacy.transform(record, CONTEXT)) == 1771496160000


def test_amount_reaches_the_unified_scale() -> None:
    """An amount of fewer decimal places is written with two."""
    result = cdc.transform(change("c", 5, amount=Decimal("7")), CONTEXT, epoch=1)
    assert isinstance(result, Output)
    assert str(result.value["amount"]) == "7.00"


@pytest.mark.parametrize(
    "agent",
    [
        cdc_agent(CdcSettings()),
        files_agent(FilesSettings()),
        legacy_agent(LegacySettings()),
        shopify_agent(ShopifySettings()),
        stripe_agent(StripeSettings()),
    ],
    ids=lambda agent: agent.consumes,
)
def test_agents_match_the_catalogue(agent: Agent) -> None:
    """What a unit consumes and publishes is what the catalogue says of it."""
    topics = catalogue()
    units = {"sales.postgres": "cdc", "shopify.orders": "shopify", "stripe.charges": "stripe"}
    unit = units.get(agent.consumes, agent.consumes.removeprefix("sales."))
    assert topics[agent.consumes].consumers == (unit,)
    assert unit in topics[agent.publishes].producers
    assert unit in topics["sales.dlq"].producers
