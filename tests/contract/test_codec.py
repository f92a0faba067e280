"""Every example of every topic through the codec and back."""

import pytest

from contracts import codec
from contracts.catalogue import Topic, catalogue
from contracts.codec import Decoder
from contracts.json_avro import typed
from tests.contract.registry import MemoryRegistry


@pytest.mark.parametrize("topic", list(catalogue().values()), ids=lambda topic: topic.name)
async def test_round_trip(topic: Topic) -> None:
    """What is encoded is decoded to the same values, in the Confluent wire format."""
    registry = MemoryRegistry(topic).client
    encode, decoder = await codec.encoder(registry, topic), Decoder(registry, topic)
    for name, example in topic.examples().items():
        record = typed(topic.avro, example)
        payload = encode(record)
        assert payload[:5] == b"\x00\x00\x00\x00\x01", name
        assert await decoder.decode(payload) == record, name
