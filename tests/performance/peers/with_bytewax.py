"""The work of cdc in Bytewax: `python -m bytewax.run MODULE:flow()` with this module, until it is ended."""

from typing import Any

from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer

from contracts.sale import key
from tests.performance.peers.work import BROKER, PRODUCER, RAW, READER, REGISTRY, UNIFIED, WRITER, sale


def published(message: Any) -> KafkaSinkMessage | None:
    """The record to publish for a decoded change, None where it makes no sale."""
    event = sale(message.value, message.timestamp[1])
    return None if event is None else KafkaSinkMessage(key(event), event, UNIFIED)


def flow() -> Dataflow:
    """The dataflow, from the first record where there is no recovery store."""
    registry = SchemaRegistryClient({"url": REGISTRY})
    encode = AvroSerializer(registry, WRITER, conf={"auto.register.schemas": False, "use.latest.version": True})
    dataflow = Dataflow("cdc")
    raw = kop.input("raw", dataflow, brokers=[BROKER], topics=[RAW])
    changes = kop.deserialize_value("decode", raw.oks, AvroDeserializer(registry, READER))
    sales = op.filter_map("validate", changes.oks, published)
    encoded = kop.serialize_value("encode", sales, encode)
    kop.output("publish", encoded, brokers=[BROKER], topic=UNIFIED, add_config=PRODUCER)
    return dataflow
