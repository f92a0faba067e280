"""Who the client is: the connection's peer, or whom a trusted proxy names, in the server as it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from chassis.asgi import listen, serve
from services.api.settings import ApiSettings


async def name_the_client(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the client's address."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["client"][0].encode()})


@asynccontextmanager
async def server(trusted: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that trusts these proxies."""
    listener = listen("127.0.0.1", 0, "API_PORT")
    port = listener.getsockname()[1]
    task = asyncio.create_task(serve(name_the_client, listener, trusted_proxies=trusted))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def clients(trusted: str, *forwarded: str) -> list[str]:
    """Who the client is for each value of X-Forwarded-For."""
    async with server(trusted) as client:
        return [(await client.get("/", headers={"X-Forwarded-For": value})).text for value in forwarded]


async def test_nobody_is_trusted_by_default() -> None:
    """Without trusted proxies a client cannot choose its address, also not one on the same machine."""
    assert ApiSettings().trusted_proxies == ""
    assert await clients(ApiSettings().trusted_proxies, "198.51.100.7", "198.51.100.8") == ["127.0.0.1"] * 2


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.0/8,127.0.0.0/8"])
async def test_trusted_proxy(trusted: str) -> None:
    """A trusted proxy names the client: the last address that no trusted proxy has, not what the client claims."""
    assert await clients(trusted, "198.51.100.7", "203.0.113.9, 198.51.100.8", "198.51.100.9, 127.0.0.1") == [
        "198.51.100.7",
        "198.51.100.8",
        "198.51.100.9",
    ]


async def test_other_proxies_are_not_trusted() -> None:
    """Who is not listed cannot name another client."""
    assert await clients("10.0.0.0/8", "198.51.100.7") == ["127.0.0.1"]


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/8, 127.0.0.1", "127.0.0.1,"])
def test_wrong_proxies(text: str) -> None:
    """Proxies are addresses and networks; a name or a star is rejected, as it would trust too many."""
    with pytest.raises(ValidationError, match="is not an address or network"):
        ApiSettings(trusted_proxies=text)


@pytest.mark.parametrize("text", ["placar", "/placar/", "//", "/a b", "/<b>", "/"])
def test_wrong_root_path(text: str) -> None:
    """A root path begins with a slash and does not end with one."""
    with pytest.raises(ValidationError, match="must be a path"):
        ApiSettings(root_path=text)
