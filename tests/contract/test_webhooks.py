"""Every example of a topic of webhooks as the provider would deliver it, and every delivery that holds no event."""

from collections.abc import Mapping
from typing import Any

import pytest

from contracts.catalogue import Topic, catalogue
from contracts.json_avro import typed
from services.webhooks.app import EVENTS
from services.webhooks.transform import Delivery, MalformedError, events, meant_for
from tests import invalid

TOPICS = [catalogue()[name] for name in EVENTS]
DELIVERIES = {
    f"{topic.name}-{name}": (topic, case)
    for topic in TOPICS
    for name, case in topic.examples("invalid").items()
    if "delivery" in case
}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_examples_are_what_deliveries_become(topic: Topic) -> None:
    """The receiver makes exactly the example of the body and the headers in it."""
    for name, example in topic.examples().items():
        record = typed(topic.avro, example)
        headers = {header["name"]: header["value"] for header in record["headers"]}
        body = b"[" + record["body"] + b"]" if record["provider"] == "hubspot" else record["body"]
        (event,) = events(Delivery(record["provider"], headers, body, record["received_at"]))
        assert event.value == record, name
        assert event.key == record["object_id"].encode(), name


@pytest.mark.parametrize(("topic", "case"), DELIVERIES.values(), ids=list(DELIVERIES))
def test_deliveries_without_event(topic: Topic, case: Mapping[str, Any]) -> None:
    """Each is malformed, and meant for the topic in whose folder it is."""
    record = typed(topic.avro, next(iter(topic.examples().values())))
    with pytest.raises(MalformedError):
        events(Delivery(case["provider"], case["headers"], invalid.content(case), record["received_at"]))
    assert meant_for(case["provider"], case["headers"]) == topic.name
    assert case["reason"] == "webhook_malformed"
