"""Readiness probes: each raises while its server is not ready, with the reason."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
from aiokafka.client import AIOKafkaClient

Probe = Callable[[], Awaitable[None]]
TIMEOUT = aiohttp.ClientTimeout(total=5)


class NotReady(Exception):  # noqa: N818 - a state, not a mistake
    """The server does not serve yet."""


def http(url: str) -> Probe:
    """Ready when GET answers with success."""

    async def probe() -> None:
        await _get(url)

    return probe


async def _get(url: str) -> str:
    try:
        # aiohttp: a session of httpx reads all certificates of the system, which costs a booting machine dearly
        async with aiohttp.ClientSession(timeout=TIMEOUT) as client, client.get(url) as answer:
            text = await answer.text()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotReady(f"{url}: {type(error).__name__}") from error
    if status >= 400:
        raise NotReady(_missing(text) or f"{url}: {status} {text[:200]}")
    return text


def _missing(text: str) -> str:
    """What a unit waits for, by its answer; empty where it is not a unit's."""
    try:
        return "; ".join(f"{need}: {why}" for need, why in json.loads(text)["missing"].items())
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""


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
        managers = json.loads(await _get(f"{jobmanager}/taskmanagers"))["taskmanagers"]
        if not any(manager["id"] == resource_id and manager["slotsNumber"] > 0 for manager in managers):
            raise NotReady(f"{resource_id} has not registered with the JobManager")

    return probe
