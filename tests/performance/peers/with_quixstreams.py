"""The work of cdc in Quix Streams: `python -m tests.performance.peers.with_quixstreams`, until it is ended."""

import json

from quixstreams import Application
from quixstreams.models import SchemaRegistryClientConfig, SchemaRegistrySerializationConfig
from quixstreams.models.serializers.avro import AvroDeserializer, AvroSerializer

from contracts.sale import key
from tests.performance.peers.work import BROKER, PRODUCER, RAW, READER, REGISTRY, UNIFIED, WRITER, sale


def main() -> None:
    """Read from the first record; at least once, as by default, with commits as often as ours."""
    registry = SchemaRegistryClientConfig(url=REGISTRY)
    app = Application(
        BROKER,
        consumer_group="quixstreams",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=1.0,
        loglevel="WARNING",
        producer_extra_config=PRODUCER,
    )
    decode = AvroDeserializer(schema=json.loads(READER), schema_registry_client_config=registry)
    encode = AvroSerializer(
        schema=json.loads(WRITER),
        schema_registry_client_config=registry,
        schema_registry_serialization_config=SchemaRegistrySerializationConfig(
            auto_register_schemas=False, use_latest_version=True
        ),
    )
    raw = app.topic(RAW, key_deserializer="bytes", value_deserializer=decode)
    unified = app.topic(UNIFIED, key_serializer="bytes", value_serializer=encode)
    changes = app.dataframe(raw)
    sales = changes.apply(lambda change, _, written_ms, __: sale(change, written_ms), metadata=True)
    sales.filter(lambda event: event is not None).to_topic(unified, key=key)
    app.run()


if __name__ == "__main__":
    main()
