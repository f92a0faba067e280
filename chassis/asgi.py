"""An ASGI application inside a unit: the listening socket, and uvicorn without its own signals."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

DRAIN_S = 5  # requests that run at a stop may take so long
ABORT = "placar.abort"
"""The extension in a request's scope that cuts its connection off and drops what has not been sent."""
SEND_BUFFER = 128 * 1024  # bytes that the system keeps for a client that does not read; without it up to 4 MiB
LARGEST_MESSAGE = 64 * 1024  # bytes of a WebSocket message; the application may allow fewer


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the chassis decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket; `setting` names what decides the port.

    Raises:
        OSError: the address is not free, with the settings that decide it.
    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # with the protocol named asyncio sets TCP_NODELAY; without it each answer waits 40 ms for Nagle's algorithm
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # each connection has its listener's
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise OSError(f"cannot listen on {host}:{port} (settings BIND_HOST, {setting}): {error.strerror}") from error
    return listener


def _abortable(app: ASGIApp) -> ASGIApp:
    """The application, told how to abort: ASGI cannot, and a close waits for a client that may never read."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # of uvicorn's protocols
        scope.setdefault("extensions", {})[ABORT] = transport.abort
        await app(scope, receive, send)

    return told


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until cancelled; then running requests may finish, and WebSockets are closed with 1012.

    WebSockets are not compressed: a client would cost several times the memory.
    """
    config = uvicorn.Config(
        _abortable(app),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
