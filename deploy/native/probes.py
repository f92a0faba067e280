"""Readiness probes: each raises while its server is not ready, and says why."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
from aiokafka.client import AIOKafkaClient

Probe = Callable[[], Awaitable[None]]


class NotReady(Exception):  # noqa: N818 - a state, not a mistake
    """The server does not serve yet."""


def http(url: str) -> Probe:
    """Ready when GET answers with success."""

    async def probe() -> None:
        await _get(url)

    return probe


async def _get(url: str) -> httpx.Response:
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            answer = await client.get(url)
    except httpx.TransportError as error:
        raise NotReady(f"{url}: {type(error).__name__}") from error
    if answer.is_error:
        raise NotReady(f"{url}: {answer.status_code} {answer.text[:200]}")
    return answer


def kafka(bootstrap: str) -> Probe:
    """Ready when the broker answers a metadata request."""

    async def probe() -> None:
        client = AIOKafkaClient(bootstrap_servers=bootstrap, client_id="probe", request_timeout_ms=3000)
        try:
            await client.bootstrap()
        except Exception as error:
            raise NotReady(f"{bootstrap}: {error}") from error
        finally:
            await client.close()

    return probe


def command(*arguments: str) -> Probe:
    """Ready when the command exits with 0."""

    async def probe() -> None:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise NotReady(output.decode(errors="replace").strip()[-200:])

    return probe


def taskmanager(jobmanager: str, resource_id: str) -> Probe:
    """Ready when the JobManager knows the TaskManager and its slots."""

    async def probe() -> None:
        managers = (await _get(f"{jobmanager}/taskmanagers")).json()["taskmanagers"]
        if not any(manager["id"] == resource_id and manager["slotsNumber"] > 0 for manager in managers):
            raise NotReady(f"{resource_id} has not registered with the JobManager")

    return probe
