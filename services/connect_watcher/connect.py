"""Kafka Connect's REST API, as far as one connector needs it."""

from collections.abc import Mapping
from typing import Any

import httpx


class RejectedError(Exception):
    """Connect answered and rejected; the message is its reason. It may accept later (a rebalance, a database down)."""


class Connect:
    """One connector of a Kafka Connect cluster. Every method raises httpx.TransportError when Connect is down."""

    def __init__(self, client: httpx.AsyncClient, connector: str) -> None:
        self._client = client
        self._connector = connector

    async def _call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> httpx.Response:
        response = await self._client.request(method, f"/connectors/{self._connector}{path}", json=body)
        if response.is_error and response.status_code != httpx.codes.NOT_FOUND:
            raise RejectedError(f"{method} {path or '/'} → {response.status_code}: {_message(response)}")
        return response

    async def status(self) -> dict[str, Any] | None:
        """The states of connector and tasks; None where there is no such connector."""
        response = await self._call("GET", "/status")
        return None if response.status_code == httpx.codes.NOT_FOUND else dict(response.json())

    async def configure(self, wanted: Mapping[str, str]) -> bool:
        """Make the connector have this configuration; False where it had it already, and nothing was disturbed."""
        present = await self._call("GET", "/config")
        if present.status_code == httpx.codes.OK and {**wanted, "name": self._connector} == present.json():
            return False
        answer = await self._call("PUT", "/config", wanted)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise RejectedError(f"PUT /config → 404: {_message(answer)}")
        return True

    async def restart(self) -> None:
        """Restart the connector and its tasks, as far as they failed."""
        await self._call("POST", "/restart?includeTasks=true&onlyFailed=true")

    async def stop(self) -> None:
        """Stop the connector: its tasks end, its configuration and offsets stay."""
        await self._call("PUT", "/stop")

    async def forget(self) -> None:
        """Remove the offsets of the stopped connector, so that it begins with a snapshot."""
        await self._call("DELETE", "/offsets")

    async def resume(self) -> None:
        """Start the stopped connector."""
        await self._call("PUT", "/resume")


def _message(response: httpx.Response) -> str:
    try:
        message = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    return " ".join(str(message).split())[:500]
