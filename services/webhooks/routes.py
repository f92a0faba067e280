"""The endpoints: one for each place to which a provider delivers, and health; every error is a problem (RFC 9457)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Literal

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from chassis import asgi
from contracts.webhooks import TOPICS, Provider
from services.webhooks import openapi
from services.webhooks.receiver import Receiver
from services.webhooks.requests import RejectedError

MEDIA_TYPE = "application/problem+json"
LINGER_S = 1.0
PATHS: Mapping[str, Provider] = {
    **{f"/webhooks/shopify/{where}": "shopify" for where in (*TOPICS["shopify"], "privacy", "other")},
    "/webhooks/stripe": "stripe",
    "/webhooks/hubspot": "hubspot",
}
"""Where which provider delivers. Which topic an event belongs to is told by the event, not by the path."""


class Health(BaseModel):
    """Whether events are taken in, and of which providers a secret is set."""

    status: Literal["UP", "DOWN"]
    providers: dict[Provider, bool] = Field(description="whether a secret of the provider is set")


class DeliveryRoute(APIRoute):
    """A route whose endpoint reads the request itself: the framework's own reading takes longer than all else here."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the route's method."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response: Response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)


class LastResponse(JSONResponse):
    """An answer before the body has been read, after which the connection is closed.

    Closed at once it would be reset, and a client that still sends might lose the answer. So what comes is read for up
    to a second, and dropped.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, drop what comes, end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b""})


def _problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    content = {**asgi.problem(status, detail), "instance": request.url.path}
    response = LastResponse if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else JSONResponse
    return response(content, status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def _problems(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    """Answer every error that is not about a delivery with a problem."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return _problem(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return _problem(request, 500, "an error of the server; it is in its log")


def _delivery(receiver: Receiver, provider: Provider) -> Callable[[Request], Awaitable[Response]]:
    async def take(request: Request) -> Response:
        try:
            receipt = await receiver.take(provider, request.scope, request.receive)
        except RejectedError as rejection:
            return _problem(request, rejection.status, str(rejection), rejection.headers)
        return JSONResponse({"accepted": receipt.accepted, "dead_letters": receipt.dead_letters})

    return take


def application(receiver: Receiver, log: structlog.stdlib.BoundLogger) -> FastAPI:
    """The whole HTTP application."""
    app = FastAPI(
        title="Placar webhooks",
        version="1",
        summary="What Shopify, Stripe and HubSpot deliver",
        description=openapi.ABOUT,
        redoc_url=None,
        docs_url=None,
        redirect_slashes=False,
    )
    _problems(app, log)
    for path, provider in PATHS.items():
        app.router.add_api_route(
            path,
            _delivery(receiver, provider),
            methods=["POST"],
            name=path.removeprefix("/webhooks/").replace("/", "_"),
            summary=f"Events of {provider}",
            response_model=openapi.Receipt,
            responses=openapi.RESPONSES,
            openapi_extra=openapi.request_of(provider, path),
            route_class_override=DeliveryRoute,
        )

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> Response:
        """200 while events are taken in, otherwise 503."""
        state = Health(status="UP" if receiver.available else "DOWN", providers=receiver.configured())
        return Response(state.model_dump_json(), 200 if receiver.available else 503, media_type="application/json")

    return app
