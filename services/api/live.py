"""The live stream: who may connect, over WebSocket and as server-sent events, and how a connection ends."""

import asyncio
import math
from http import HTTPStatus

from fastapi import APIRouter, HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose, WebSocketDisconnect

from contracts.text import quoted
from services.api import asyncapi
from services.api.events import Events, finish
from services.api.hub import GONE, Client, Hub
from services.api.limits import ConnectionLimiter, FixedWindowLimiter, TokenBucket
from services.api.metrics import REJECTED
from services.api.models import Problem, encode
from services.api.problems import MEDIA_TYPE, RETRY_AFTER_S, validation_error
from services.api.protocol import (
    LARGEST_MESSAGE,
    SUBPROTOCOL,
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

POLICY, FAILED, TRY_AGAIN = 1008, 1011, 1013
MAX_ERRORS = 5


class RejectedError(Exception):
    """The client may not connect, or not now: an HTTP status, a reason for the metrics, why, and when to try again."""

    def __init__(self, status: int, reason: str, detail: str, retry_s: float = RETRY_AFTER_S) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers: dict[str, str] = {}
        if status == HTTPStatus.UNAUTHORIZED:
            self.headers = {"WWW-Authenticate": "Bearer"}
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers = {"Retry-After": str(math.ceil(retry_s))}


class Live:
    """The two endpoints over one hub."""

    def __init__(self, hub: Hub, settings: ApiSettings) -> None:
        self._hub = hub
        self._settings = settings
        self._token = settings.live_token.get_secret_value()
        self._origins = settings.live_origins.split(",") if settings.live_origins else []
        self._connections = ConnectionLimiter(settings.live_connections, settings.live_connections_per_address)
        self._sets = TokenBucket(settings.live_sets_per_s, settings.live_sets_burst)

    def _admit(self, connection: HTTPConnection, subprotocols: list[str]) -> None:
        """Whether this client may connect at all.

        Raises:
            RejectedError: 403 for the origin, 401 for the token.
        """
        headers = connection.headers
        if not origin_allowed(headers.get("origin"), headers.get("host"), self._origins):
            detail = f"pages of {quoted(headers['origin'])} may not connect; API_LIVE_ORIGINS lists those that may"
            raise RejectedError(403, "origin", detail)
        if not token_right(token_offered(headers.get("authorization"), subprotocols), self._token):
            detail = "a token is needed: Authorization: Bearer, or the subprotocol bearer.<token>"
            raise RejectedError(401, "token", detail)

    def _enter(self, address: str) -> None:
        """Count the connection.

        Raises:
            RejectedError: 503, there is no room now.
        """
        if not self._hub.synced:
            raise RejectedError(503, "not_synced", "the rankings are being read: try again")
        if why := self._connections.acquire(address):
            raise RejectedError(503, "connections", why)

    def _charge(self, address: str, subscribe: Subscribe) -> None:
        """Count the sets that the snapshot of a subscription goes through.

        Raises:
            RejectedError: 503, the address has had more than its share.
        """
        size = self._hub.rankings.size(subscribe.subscription)
        wait_s = self._sets.take(address, max(1, size))
        if wait_s:
            detail = f"this address has had too many sets: try again in {math.ceil(wait_s)} s (API_LIVE_SETS_PER_S)"
            raise RejectedError(503, "sets", detail, wait_s)

    def _rejected(self, error: RejectedError) -> RejectedError:
        self._hub.metrics[REJECTED].inc({"reason": error.reason})
        return error

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
            self._rejected(error)
            title = HTTPStatus(error.status).phrase
            body = encode(Problem(title=title, status=error.status, detail=error.detail, instance=PATH))
            await socket.send_denial_response(Response(body, error.status, error.headers, MEDIA_TYPE))
            return
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            self._enter(address)
        except RejectedError as error:
            await _close(socket, TRY_AGAIN, self._rejected(error).detail)
            return
        try:
            code, reason = await self._talk(socket, address)
        except RejectedError as error:
            code, reason = TRY_AGAIN, self._rejected(error).detail
        finally:
            self._connections.release(address)
        if code != GONE:
            await _close(socket, code, reason)

    async def _talk(self, socket: WebSocket, address: str) -> tuple[int, str]:
        """Send what the client wants and receive its messages; then how to close.

        Raises:
            RejectedError: the subscription costs too much now.
            WebSocketDisconnect: the client is gone.
        """
        try:
            subscribe = from_query(socket.query_params.multi_items(), self._hub.labels)
        except ProtocolError as error:
            await socket.send_text(error.frame().text)
            return POLICY, "the subscription in the address is wrong"
        self._charge(address, subscribe)
        client, snapshot = self._hub.join("websocket", subscribe.subscription, subscribe.since)
        client.offer("hello", hello(self._settings.live_heartbeat_s, subscribe.subscription))
        client.offer("snapshot", snapshot)
        receiving = asyncio.create_task(self._receive(socket, client, address))
        receiving.add_done_callback(lambda _: client.end(FAILED, ""))  # unless it was ended before
        try:
            return await client.sending(lambda frame: socket.send_text(frame.text), self._settings.live_send_timeout_s)
        finally:
            self._hub.leave("websocket", client)
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
            if len(text if text is not None else message["bytes"]) > LARGEST_MESSAGE:
                client.end(POLICY, f"a message may have {LARGEST_MESSAGE} characters")
                return
            try:
                self._answer(client, text, address)
            except RejectedError as error:
                client.end(TRY_AGAIN, self._rejected(error).detail)
                return
            except ProtocolError as error:
                errors += 1
                client.offer(("error", errors), error.frame())
                if errors >= MAX_ERRORS:
                    client.end(POLICY, f"{MAX_ERRORS} messages were wrong")
                    return

    def _answer(self, client: Client, text: str | None, address: str) -> None:
        """Do what a message requests.

        Raises:
            ProtocolError: it cannot be done.
            RejectedError: the subscription costs too much now.
        """
        if text is None:
            raise ProtocolError("malformed", "a message must be text, not binary")
        request = from_message(text, self._hub.labels)
        if isinstance(request, Subscribe):
            self._charge(address, request)
            client.restart(request.subscription, self._hub.snapshot(request.subscription, request.since))
        else:
            client.offer("heartbeat", self._hub.heartbeat())

    async def events(self, request: Request) -> Response:
        """The same as server-sent events.

        Raises:
            HTTPException | RequestValidationError: the client may not connect, or a parameter is wrong.
        """
        query, address = request.query_params.multi_items(), _address(request)
        if "last-event-id" in request.headers:
            query = [item for item in query if item[0] != "since"] + [("since", request.headers["last-event-id"])]
        try:
            self._admit(request, [])
            subscribe = from_query(query, self._hub.labels)
            self._enter(address)
            try:
                self._charge(address, subscribe)
            except RejectedError:
                self._connections.release(address)
                raise
        except RejectedError as error:
            raise HTTPException(error.status, self._rejected(error).detail, error.headers) from None
        except ProtocolError as error:
            raise validation_error(*((item["field"], item["value"], item["detail"]) for item in error.errors)) from None
        return Events(self._hub, self._settings, subscribe, lambda: self._connections.release(address))


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    await finish(socket.close(code, reason), socket.scope)


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
