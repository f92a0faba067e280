"""A registry in memory: schema id 1 is the schema of the topic under test, other ids are added by the test."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from schema_registry.client import AsyncSchemaRegistryClient

from contracts.catalogue import Topic


class MemoryRegistry:
    """Answers what the codec asks of AsyncSchemaRegistryClient."""

    def __init__(self, topic: Topic) -> None:
        self.schemas: dict[int, Mapping[str, Any]] = {1: topic.avro}

    @property
    def client(self) -> AsyncSchemaRegistryClient:
        """Itself, as the codec takes it."""
        return cast(AsyncSchemaRegistryClient, self)

    async def check_version(self, _: str, schema: Mapping[str, Any]) -> SimpleNamespace:
        """The id of a schema that is there."""
        return SimpleNamespace(schema_id=next(number for number, held in self.schemas.items() if held == schema))

    async def get_by_id(self, schema_id: int) -> SimpleNamespace | None:
        """The schema of an id, or None."""
        held = self.schemas.get(schema_id)
        return None if held is None else SimpleNamespace(raw_schema=held)

    async def schema_id(self, _: str, schema: Any) -> int:
        """The id of a schema, which is given one where it has none."""
        for number, held in self.schemas.items():
            if held == schema:
                return number
        self.schemas[len(self.schemas) + 1] = schema
        return len(self.schemas)
