"""The schema registry as units and commands see it: what counts as unavailable, and how a unit waits for it."""

from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
from schema_registry.client import AsyncSchemaRegistryClient
from schema_registry.client.schema import BaseSchema

from chassis.settings import RegistrySettings
from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Decoder, Encoder

if TYPE_CHECKING:  # commands, which are no units, start a second sooner without
    from chassis.unit import Unit

NAME = "schema registry"
SETTING = "SCHEMA_REGISTRY_HOST, SCHEMA_REGISTRY_PORT"
TIMEOUT_S = 10
REJECTIONS = frozenset({404, 409, 422})
"""What a registry answers, besides success, to a question that it has understood: unknown, incompatible, invalid."""
SHOWN = 80


class RegistryUnavailableError(Exception):
    """No registry answers at the address: nothing does, or a proxy with an error page, or a server in trouble."""


def _holds_object(response: httpx.Response) -> bool:
    """Whether the body is a JSON object, as every answer of a registry that is used here."""
    try:
        return isinstance(response.json(), dict)
    except ValueError:
        return False


class Client(AsyncSchemaRegistryClient):
    """A client that tells in one way that the registry is unavailable, whatever kept it from answering.

    Every method raises RegistryUnavailableError then, and ClientError where the registry rejects what it was sent.
    """

    def __init__(self, settings: RegistrySettings, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(settings.url, timeout=httpx.Timeout(timeout_s))

    async def request(self, *args: Any, **kwargs: Any) -> httpx.Response:
        """The registry's answer to a request.

        Raises:
            RegistryUnavailableError: there is none.
        """
        try:
            response = await super().request(*args, **kwargs)
        except httpx.HTTPError as error:
            raise RegistryUnavailableError(repr(error)) from error
        if (response.is_success or response.status_code in REJECTIONS) and _holds_object(response):
            return response
        page = " ".join(response.text[: 4 * SHOWN].split())[:SHOWN]
        raise RegistryUnavailableError(f"status {response.status_code} is no registry's answer: {page!r}")


class _WaitingClient(Client):
    """The client of a unit's decoders: it waits until the registry is back."""

    def __init__(self, unit: "Unit", settings: RegistrySettings) -> None:
        super().__init__(settings)
        self._unit = unit
        self._url = settings.url

    async def get_by_id(self, *args: Any, **kwargs: Any) -> BaseSchema | None:
        """The schema of an id, None where there is none; tried until the registry answers, and not ready meanwhile."""
        ask = partial(super().get_by_id, *args, **kwargs)
        return await self._unit.retry_until_available(NAME, self._url, SETTING, ask, RegistryUnavailableError)


class Registry:
    """Encoders and decoders by topic name, bound to one registry; both wait for it."""

    def __init__(self, unit: "Unit", settings: RegistrySettings) -> None:
        self._unit = unit
        self._settings = settings
        self._client = _WaitingClient(unit, settings)

    async def encoder(self, topic: str) -> Encoder:
        """An encoder of the topic's values.

        Raises:
            ContractError: the subject does not hold our schema.
        """
        return await self._unit.connect(
            NAME,
            self._settings.url,
            SETTING,
            lambda: codec.encoder(self._client, catalogue()[topic]),
            RegistryUnavailableError,
        )

    def decoder(self, topic: str) -> Decoder:
        """A decoder of the topic's values into the catalogue's schema."""
        return Decoder(self._client, catalogue()[topic])
