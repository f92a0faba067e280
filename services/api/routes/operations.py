"""Health of the API, and its metrics."""

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from chassis.metrics import Metrics
from services.api.examples import HEALTH_DOWN, HEALTH_UP
from services.api.health import Check, freshness
from services.api.models import Health, HealthDetails, encode
from services.api.openapi import body, problem
from services.api.problems import RETRY_AFTER_S
from services.api.routes import parameters
from services.api.store import Store


def router(store: Store, fresh_s: float, clickhouse: Check, kafka: Check, metrics: Metrics) -> APIRouter:
    """The endpoints `/health` and `/metrics`; rankings count as fresh for `fresh_s` seconds."""
    endpoints = parameters.strict_router("operations")
    started_at = datetime.now(UTC)
    unavailable = problem(503)
    down = {**unavailable, "model": Health, "content": {**unavailable["content"], **body(HEALTH_DOWN)["content"]}}

    @endpoints.get(
        "/health",
        response_model=Health,
        responses={200: body(HEALTH_UP), 503: down},
        summary="Health: 200 when the API and its servers are UP, otherwise 503",
    )
    async def health(details: parameters.Details = False) -> Response:
        of_store, of_kafka = await asyncio.gather(clickhouse.health(), kafka.health())
        up = of_store.state == of_kafka.state == "UP"
        known = None
        if details:
            rankings = await freshness(store, fresh_s) if of_store.state == "UP" else None
            known = HealthDetails(started_at=started_at, clickhouse=of_store, kafka=of_kafka, rankings=rankings)
        answer = Health(status="UP" if up else "DOWN", clickhouse=of_store.state, kafka=of_kafka.state, details=known)
        headers = {"Cache-Control": "no-store", **({} if up else {"Retry-After": str(RETRY_AFTER_S)})}
        return Response(encode(answer), 200 if up else 503, headers, "application/json")

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
