"""The live stream: who may connect, over WebSocket and as server-sent events, and how a connection ends."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from chassis.asgi import ABORT
from services.api.hub import Client, Hub
from services.api.metrics import REJECTED
from services.api.models import Problem, encode
from services.api.problems import MEDIA_TYPE, RETRY_AFTER_S
from services.api.protocol import (
    LARGEST_MESSAGE,
    SUBPROTOCOL,
    Allowance,
    Places,
    ProtocolError,
    Subscribe,
    from_message,
    from_query,
    hello,
    origin_allowed,
    token_offered,
    token_right,
)
from services.api.settings import ApiSettings

PATH = "/api/v1/sales/live"
EVENTS_PATH = f"{PATH}/events"
DOCUMENT_PATH = "/api/v1/asyncapi.yaml"
DOCUMENT = Path(__file__).parent / "asyncapi.yaml"

GONE, POLICY, FAILED, TRY_AGAIN = 1000, 1008, 1011, 1013
MOST_ERRORS = 5
CLOSE_S = 5.0  # for so long a closing connection may take what it still has to read
RETRY_MS = 2000
NOT_SYNCED = "the rankings are being read: try again"


class RejectedError(Exception):
    """The client may not connect: an HTTP status, and why."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


def _headers(status: int) -> dict[str, str]:
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}


class Live:
    """The two endpoints over one hub."""

    def __init__(self, hub: Hub, settings: ApiSettings) -> None:
        self._hub = hub
        self._settings = settings
        self._token = settings.live_token.get_secret_value()
        self._origins = settings.live_origins.split(",") if settings.live_origins else []
        self._places = Places(settings.live_connections, settings.live_connections_per_address)

    def _admit(self, connection: HTTPConnection, subprotocols: list[str]) -> None:
        """Whether this client may ask at all.

        Raises:
            RejectedError: 403 for the origin, 401 for the token.
        """
        headers = connection.headers
        if not origin_allowed(headers.get("origin"), headers.get("host"), self._origins):
            shown = headers["origin"][:60]
            raise RejectedError(
                403, "origin", f"pages of {shown!r} may not connect; API_LIVE_ORIGINS lists those that may"
            )
        if not token_right(token_offered(headers.get("authorization"), subprotocols), self._token):
            raise RejectedError(
                401, "token", "a token is needed: Authorization: Bearer, or the subprotocol bearer.<token>"
            )

    def _enter(self, address: str) -> str:
        """Take a place; or say why the client must come again later."""
        reason, why = "not_synced", NOT_SYNCED
        if self._hub.synced:
            reason, why = "connections", self._places.take(address)
        if why:
            self._hub.metrics[REJECTED].inc({"reason": reason})
        return why

    async def websocket(self, socket: WebSocket) -> None:
        """One WebSocket from handshake to close."""
        try:
            await self._converse(socket)
        except WebSocketDisconnect:  # while something was sent
            return

    async def _converse(self, socket: WebSocket) -> None:
        """Admit the client, talk, close.

        Raises:
            WebSocketDisconnect: the client is gone.
        """
        offered, address = socket.scope["subprotocols"], _address(socket)
        try:
            self._admit(socket, offered)
        except RejectedError as error:
            self._hub.metrics[REJECTED].inc({"reason": error.reason})
            title = HTTPStatus(error.status).phrase
            body = encode(Problem(title=title, status=error.status, detail=error.detail, instance=PATH))
            await socket.send_denial_response(Response(body, error.status, _headers(error.status), MEDIA_TYPE))
            return
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if why := self._enter(address):
            await _close(socket, TRY_AGAIN, why)
            return
        try:
            code, reason = await self._talk(socket)
        finally:
            self._places.leave(address)
        if code != GONE:
            await _close(socket, code, reason)

    async def _talk(self, socket: WebSocket) -> tuple[int, str]:
        """Send what the client wants and hear what it says; then how to close.

        Raises:
            WebSocketDisconnect: the client is gone.
        """
        try:
            asked = from_query(socket.query_params, self._hub.labels)
        except ProtocolError as error:
            await socket.send_text(error.frame().text)
            return POLICY, "the subscription in the address is wrong"
        client, snapshot = self._hub.join("websocket", asked.subscription, asked.since)
        client.offer("hello", hello(self._settings.live_heartbeat_s, asked.subscription))
        client.offer("snapshot", snapshot)
        hearing = asyncio.create_task(self._hear(socket, client))
        hearing.add_done_callback(lambda _: client.end(FAILED, ""))  # unless it was ended before
        try:
            return await client.sending(lambda frame: socket.send_text(frame.text), self._settings.live_send_timeout_s)
        finally:
            self._hub.leave("websocket", client)
            hearing.cancel()

    async def _hear(self, socket: WebSocket, client: Client) -> None:
        """Answer each message until the client is gone; it ends with the connection."""
        allowance = Allowance(self._settings.live_messages_per_minute, 60.0)
        clock = asyncio.get_running_loop().time
        errors = 0
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                client.end(GONE, "")
                return
            text = message.get("text")
            if not allowance.take(clock()):
                client.end(POLICY, "too many messages (API_LIVE_MESSAGES_PER_MINUTE)")
                return
            if len(text if text is not None else message["bytes"]) > LARGEST_MESSAGE:
                client.end(POLICY, f"a message may have {LARGEST_MESSAGE} characters")
                return
            try:
                self._answer(client, text)
            except ProtocolError as error:
                errors += 1
                client.offer(("error", errors), error.frame())
                if errors >= MOST_ERRORS:
                    client.end(POLICY, f"{MOST_ERRORS} messages were wrong")
                    return

    def _answer(self, client: Client, text: str | None) -> None:
        """Do what a message asks for.

        Raises:
            ProtocolError: it cannot be done.
        """
        if text is None:
            raise ProtocolError("malformed", "a message must be text, not binary")
        asked = from_message(text, self._hub.labels)
        if isinstance(asked, Subscribe):
            client.restart(asked.subscription, self._hub.snapshot(asked.subscription, asked.since))
        else:
            client.offer("heartbeat", self._hub.heartbeat())

    async def events(self, request: Request) -> Response:
        """The same as server-sent events.

        Raises:
            HTTPException | RequestValidationError: the client may not connect, or asks for what there is not.
        """
        try:
            self._admit(request, [])
        except RejectedError as error:
            self._hub.metrics[REJECTED].inc({"reason": error.reason})
            raise HTTPException(error.status, error.detail, _headers(error.status)) from None
        query = dict(request.query_params)
        if "last-event-id" in request.headers:
            query["since"] = request.headers["last-event-id"]
        try:
            asked = from_query(query, self._hub.labels)
        except ProtocolError as error:
            raise RequestValidationError(
                [
                    {"loc": ("query", item["field"]), "input": item["value"], "msg": item["detail"]}
                    for item in error.errors
                ]
            ) from None
        address = _address(request)
        if why := self._enter(address):
            raise HTTPException(503, why, _headers(503))
        return _Events(self._hub, self._settings, asked, lambda: self._places.leave(address))


class _Events(Response):
    """An endless answer of server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, settings: ApiSettings, asked: Subscribe, done: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "Connection": "close"})
        del self.headers["content-length"]
        self._hub = hub
        self._limit_s = settings.live_send_timeout_s
        self._asked = asked
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client is gone, too slow, or the process stops."""
        client, snapshot = self._hub.join("sse", self._asked.subscription, self._asked.since)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            client.end(GONE, "")

        async def write(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        hearing = asyncio.create_task(gone())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write(f"retry: {RETRY_MS}\n\n".encode())
            client.offer("snapshot", snapshot)
            await client.sending(lambda frame: write(frame.event), self._limit_s)
        finally:
            hearing.cancel()
            self._hub.leave("sse", client)
            self._done()
        await _finish(write(b"", more=False), scope)


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    await _finish(socket.close(code, reason), socket.scope)


async def _finish(last: Awaitable[None], scope: Scope | Mapping[str, Any]) -> None:
    """Send the last message; who has not taken it after CLOSE_S is cut off, and what waits for them is dropped."""
    abort: Callable[[], None] = scope["extensions"][ABORT]
    asyncio.get_running_loop().call_later(CLOSE_S, abort)  # a connection that has ended by then is left alone
    await last


async def _document() -> Response:
    return FileResponse(DOCUMENT, media_type="application/yaml")


def routes(live: Live) -> APIRouter:
    """The events and the description; no part of the OpenAPI document, which knows no endless answers."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    router.add_api_route(EVENTS_PATH, live.events)
    router.add_api_route(DOCUMENT_PATH, _document)
    return router


def with_sockets(app: ASGIApp, live: Live) -> ASGIApp:
    """The application with the WebSocket before it: the dozen calls of a framework's route cost memory per client."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == PATH:
            await live.websocket(WebSocket(scope, receive, send))
        else:
            await app(scope, receive, send)

    return routed
