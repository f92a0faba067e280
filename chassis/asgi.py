"""An ASGI application inside a unit: the listening socket, and uvicorn without its own signals."""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

DRAIN_S = 5  # requests that run at a stop may take so long
RECEIVE_S = 10.0
MAX_HEAD_BYTES = 16384
ABORT = "placar.abort"
"""The extension in a request's scope that cuts its connection off and drops what has not been sent."""
SEND_BUFFER = 128 * 1024  # bytes that the system keeps for a client that does not read; without it up to 4 MiB
LARGEST_MESSAGE = 64 * 1024  # bytes of a WebSocket message; the application may allow fewer
PAGE_HEADERS: Mapping[str, str] = {
    # connect-src 'self' holds for a WebSocket too: same host and port
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The headers of a page and its files: nothing from elsewhere, and asked for again each time."""


def problem(status: int, detail: str) -> dict[str, Any]:
    """An RFC 9457 problem."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the chassis decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol(receive_s: float) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1 with a deadline for each request, and problems (RFC 9457) instead of its plain text.

    uvicorn bounds the time between requests, but not that of a request's own bytes: a client that trickles them would
    hold its connection for ever.
    """

    class Protocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._deadline = self.loop.call_later(receive_s, self._late)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            arriving = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
            upgraded = self.transport.get_protocol() is not self  # what comes now is a WebSocket's
            if upgraded or not arriving:
                self._met()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(receive_s, self._late)

        def connection_lost(self, exc: Exception | None) -> None:
            self._met()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            status = getattr(sys.exception(), "error_status_hint", 400)  # uvicorn calls this where h11 rejects
            self._reject(status, str(sys.exception() or msg))

        def _met(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _late(self) -> None:
            self._reject(408, f"the request did not come within {receive_s:g} s")

        def _reject(self, status: int, detail: str) -> None:
            """Close the connection, with a problem where no answer has begun."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and (
                self.cycle is None or self.cycle.response_complete
            ):
                body = json.dumps(problem(status, detail)).encode()
                headers = [
                    (b"content-type", b"application/problem+json"),
                    (b"content-length", str(len(body)).encode()),
                    (b"connection", b"close"),
                ]
                for event in (
                    h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Protocol


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
    """The application with a way to abort a connection: ASGI has none, and a close waits for who never reads."""

    async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # of uvicorn's protocols
        scope.setdefault("extensions", {})[ABORT] = transport.abort
        await app(scope, receive, send)

    return with_abort


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    receive_s: float = RECEIVE_S,
    max_head_bytes: int = MAX_HEAD_BYTES,
    trusted_proxies: str = "",
) -> None:
    """Serve until cancelled; then running requests may finish, and WebSockets are closed with 1012.

    A request must have come within `receive_s` seconds (408), its address and headers within `max_head_bytes` (431).
    The client is the connection's peer; only where that is one of `trusted_proxies` (addresses and networks, separated
    by commas) it is whom the peer names in X-Forwarded-For. WebSockets are not compressed: a client would cost several
    times the memory.
    """
    config = uvicorn.Config(
        _abortable(app),
        http=_protocol(receive_s),
        h11_max_incomplete_event_size=max_head_bytes,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies,
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
