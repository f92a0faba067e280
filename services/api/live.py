"""The live stream: who may connect, over WebSocket and as server-sent events, and how a connection ends."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose, WebSocketDisconnect

from chassis.asgi import ABORT
from contracts.text import quoted
from services.api import asyncapi, protocol
from services.api.hub import GONE, Client, Hub
from services.api.limits import ConnectionLimiter, FixedWindowLimiter, TokenBucket
from services.api.live_rankings import Subscription
from services.api.metrics import REJECTED
from services.api.problems import RETRY_AFTER_S, problem, validation_error
from services.api.settings import ApiSettings

PATH = "/api/v1/sales/live"
EVENTS_PATH = f"{PATH}/events"
DOCUMENT_PATH = "/api/v1/asyncapi.yaml"

POLICY, FAILED, TRY_AGAIN = 1008, 1011, 1013
MAX_ERRORS = 5
CLOSE_S = 5.0  # for so long a closing connection may take what it still has to read
RETRY_MS = 2000


class Events(Response):
    """An endless answer of server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, settings: ApiSettings, subscription: Subscription, done: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "Connection": "close"})
        del self.headers["content-length"]
        self._hub = hub
        self._limit_s = settings.live_send_timeout_s
        self._subscription = subscription
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client is gone, too slow, or the process stops."""
        client = self._hub.join("sse", self._subscription)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            client.end(GONE, "")

        async def write(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        receiving = asyncio.create_task(gone())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write(f"retry: {RETRY_MS}\n\n".encode())
            await client.sending(lambda frame: write(frame.event), self._limit_s)
        finally:
            receiving.cancel()
            self._hub.leave(client)
            self._done()
        await finish(write(b"", more=False), scope)


async def finish(last: Awaitable[None], scope: Scope | Mapping[str, Any]) -> None:
    """Send the last message; who has not taken it after CLOSE_S is cut off, and what waits for them is dropped."""
    abort: Callable[[], None] = scope["extensions"][ABORT]
    asyncio.get_running_loop().call_later(CLOSE_S, abort)  # a connection that has ended by then is left alone
    await last


class Live:
    """The two endpoints over one hub."""

    def __init__(self, hub: Hub, settings: ApiSettings) -> None:
        self._hub = hub
        self._settings = settings
        self._token = settings.live_token.get_secret_value()
        self._origins = settings.live_origins.split(",") if settings.live_origins else []
        self._connections = ConnectionLimiter(settings.live_connections, settings.live_connections_per_address)
        self._sets = TokenBucket(settings.live_sets_per_s, settings.live_sets_burst)

    def _rejection(self, status: int, reason: str, detail: str, retry_s: float = RETRY_AFTER_S) -> HTTPException:
        """The error for a client that may not connect, or not now; counted by its reason."""
        self._hub.metrics[REJECTED].inc({"reason": reason})
        headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": str(math.ceil(retry_s))}}
        return HTTPException(status, detail, headers.get(status))

    def _admit(self, connection: HTTPConnection, subprotocols: list[str]) -> None:
        """Whether this client may connect at all.

        Raises:
            HTTPException: 403 for the origin, 401 for the token.
        """
        headers = connection.headers
        if not protocol.origin_allowed(headers.get("origin"), headers.get("host"), self._origins):
            detail = f"pages of {quoted(headers['origin'])} may not connect; API_LIVE_ORIGINS lists those that may"
            raise self._rejection(403, "origin", detail)
        if not protocol.token_right(protocol.token_offered(headers.get("authorization"), subprotocols), self._token):
            detail = "a token is needed: Authorization: Bearer, or the subprotocol bearer.<token>"
            raise self._rejection(401, "token", detail)

    def _enter(self, address: str) -> None:
        """Count the connection.

        Raises:
            HTTPException: 503, there is no room now.
        """
        if not self._hub.synced:
            raise self._rejection(503, "not_synced", "the rankings are being read: try again")
        if why := self._connections.acquire(address):
            raise self._rejection(503, "connections", why)

    def _charge(self, address: str, subscription: Subscription) -> None:
        """Count the sets that the snapshot of a subscription goes through.

        Raises:
            HTTPException: 503, the address has had more than its share.
        """
        wait_s = self._sets.take(address, max(1, self._hub.rankings.size(subscription)))
        if wait_s:
            detail = f"this address has had too many sets: try again in {math.ceil(wait_s)} s (API_LIVE_SETS_PER_S)"
            raise self._rejection(503, "sets", detail, wait_s)

    async def websocket(self, socket: WebSocket) -> None:
        """One WebSocket from handshake to close."""
        with suppress(WebSocketDisconnect):  # while something was sent
            await self._converse(socket)

    async def _converse(self, socket: WebSocket) -> None:
        """Admit the client, talk, close.

        Raises:
            WebSocketDisconnect: the client is gone.
        """
        offered, address = socket.scope["subprotocols"], _address(socket)
        try:
            self._admit(socket, offered)
        except HTTPException as error:
            denial = problem(socket.scope, error.status_code, error.detail, headers=error.headers)
            await socket.send_denial_response(denial)
            return
        await socket.accept(protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in offered else None)
        try:
            self._enter(address)
            try:
                code, reason = await self._talk(socket, address)
            finally:
                self._connections.release(address)
        except HTTPException as error:
            code, reason = TRY_AGAIN, error.detail
        if code != GONE:
            await finish(socket.close(code, reason), socket.scope)

    async def _talk(self, socket: WebSocket, address: str) -> tuple[int, str]:
        """Send what the client wants and receive its messages; then how to close.

        Raises:
            HTTPException: the subscription costs too much now.
            WebSocketDisconnect: the client is gone.
        """
        try:
            subscription = protocol.from_query(socket.query_params.multi_items(), self._hub.labels)
        except protocol.ProtocolError as error:
            await socket.send_text(error.frame().text)
            return POLICY, "the subscription in the address is wrong"
        self._charge(address, subscription)
        first = protocol.hello(self._settings.live_heartbeat_s, subscription)
        client = self._hub.join("websocket", subscription, first)
        receiving = asyncio.create_task(self._receive(socket, client, address))
        receiving.add_done_callback(lambda _: client.end(FAILED, ""))  # unless it was ended before
        try:
            return await client.sending(lambda frame: socket.send_text(frame.text), self._settings.live_send_timeout_s)
        finally:
            self._hub.leave(client)
            receiving.cancel()

    async def _receive(self, socket: WebSocket, client: Client, address: str) -> None:
        """Answer each message until the client is gone; it ends with the connection."""
        limiter = FixedWindowLimiter(self._settings.live_messages_per_minute, 60.0)
        clock = asyncio.get_running_loop().time
        errors = 0
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                client.end(GONE, "")
                return
            text = message.get("text")
            if not limiter.take(clock()):
                client.end(POLICY, "too many messages (API_LIVE_MESSAGES_PER_MINUTE)")
                return
            if len(text if text is not None else message["bytes"]) > protocol.LARGEST_MESSAGE:
                client.end(POLICY, f"a message may have {protocol.LARGEST_MESSAGE} characters")
                return
            try:
                self._answer(client, text, address)
            except HTTPException as error:
                client.end(TRY_AGAIN, error.detail)
                return
            except protocol.ProtocolError as error:
                errors += 1
                client.offer(("error", errors), error.frame())
                if errors >= MAX_ERRORS:
                    client.end(POLICY, f"{MAX_ERRORS} messages were wrong")
                    return

    def _answer(self, client: Client, text: str | None, address: str) -> None:
        """Do what a message requests.

        Raises:
            protocol.ProtocolError: it cannot be done.
            HTTPException: the subscription costs too much now.
        """
        if text is None:
            raise protocol.ProtocolError("malformed", "a message must be text, not binary")
        request = protocol.from_message(text, self._hub.labels)
        if request == "ping":
            client.offer("heartbeat", self._hub.heartbeat())
        else:
            self._charge(address, request)
            client.restart(request, self._hub.snapshot(request))

    async def events(self, request: Request) -> Response:
        """The same as server-sent events.

        Raises:
            HTTPException | RequestValidationError: the client may not connect, or a parameter is wrong.
        """
        query, address = request.query_params.multi_items(), _address(request)
        if "last-event-id" in request.headers:
            query = [item for item in query if item[0] != "since"] + [("since", request.headers["last-event-id"])]
        self._admit(request, [])
        try:
            subscription = protocol.from_query(query, self._hub.labels)
        except protocol.ProtocolError as error:
            raise validation_error(*((item["field"], item["value"], item["detail"]) for item in error.errors)) from None
        self._enter(address)
        try:
            self._charge(address, subscription)
        except HTTPException:
            self._connections.release(address)
            raise
        return Events(self._hub, self._settings, subscription, lambda: self._connections.release(address))


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


async def _document() -> Response:
    return Response(asyncapi.document(), media_type="application/yaml")


def routes(live: Live) -> APIRouter:
    """The events and the description; no part of the OpenAPI document, which knows no endless answers."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    router.add_api_route(EVENTS_PATH, live.events)
    router.add_api_route(DOCUMENT_PATH, _document)
    return router


def with_sockets(app: ASGIApp, live: Live | None) -> ASGIApp:
    """The application with the WebSocket before it: the dozen calls of a framework's route cost memory per client."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
        elif live is not None and scope["path"] == PATH:
            await live.websocket(WebSocket(scope, receive, send))
        else:
            await WebSocketClose()(scope, receive, send)  # 403: there is no other

    return routed
