"""Health of the API, and its metrics."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

from chassis.metrics import Metrics
from services.api.examples import HEALTH_DOWN, HEALTH_UP
from services.api.models import Health, encode
from services.api.openapi import body, problem
from services.api.problems import RETRY_AFTER_S
from services.api.routes import parameters


def router(health_of: Callable[[bool], Awaitable[Health]], metrics: Metrics) -> APIRouter:
    """The endpoints `/health` and `/metrics`; `health_of` takes whether details are wanted."""
    endpoints = parameters.strict_router("operations")
    unavailable = problem(503)
    down = {**unavailable, "model": Health, "content": {**unavailable["content"], **body(HEALTH_DOWN)["content"]}}

    @endpoints.get(
        "/health",
        response_model=Health,
        responses={200: body(HEALTH_UP), 503: down},
        summary="Health: 200 when the API and its servers are UP, otherwise 503",
    )
    async def health(details: parameters.Details = False) -> Response:
        answer = await health_of(details)
        retry = {} if answer.status == "UP" else {"Retry-After": str(RETRY_AFTER_S)}
        headers = {"Cache-Control": "no-store", **retry}
        return Response(encode(answer), 503 if retry else 200, headers, "application/json")

    @endpoints.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {**body({}), "content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics_text(request: Request) -> Response:
        content, headers = metrics.render(request.headers.getlist("accept"))
        return Response(content, headers={**headers, "Cache-Control": "no-store"})

    return endpoints
