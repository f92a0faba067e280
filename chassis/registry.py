"""The schema registry as a unit sees it: waits for it, and refuses to run against a contract that it does not hold."""

import httpx
from schema_registry.client import AsyncSchemaRegistryClient

from chassis.settings import RegistrySettings
from chassis.unit import Unit
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Decoder, Encoder


class Registry:
    """Encoders and decoders by topic name, bound to one registry."""

    def __init__(self, unit: Unit, settings: RegistrySettings) -> None:
        self._unit = unit
        self._settings = settings
        self._client = AsyncSchemaRegistryClient(settings.url, timeout=httpx.Timeout(10))

    async def encoder(self, topic: str) -> Encoder:
        """An encoder of the topic's values; waits for the registry.

        Raises:
            ContractError: the subject does not hold our schema.
        """
        return await self._unit.connect(
            "schema registry",
            self._settings.url,
            "SCHEMA_REGISTRY_HOST, SCHEMA_REGISTRY_PORT",
            lambda: codec.encoder(self._client, catalogue()[topic]),
            httpx.TransportError,
        )

    def decoder(self, topic: str) -> Decoder:
        """A decoder of the topic's values into the catalogue's schema."""
        return Decoder(self._client, catalogue()[topic])
