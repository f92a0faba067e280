"""The dashboard's page, the same as JSON, and the runbook, under a strict content security policy."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from chassis.asgi import PAGE_HEADERS, problem
from services.ops import runbook
from services.ops.health import HealthCache

PAGE = Path(__file__).parent / "page"
RETRY_AFTER_S = 2
HEADERS = {**PAGE_HEADERS, "X-Content-Type-Options": "nosniff"}


def _problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as an RFC 9457 problem."""
    body = {**problem(status, detail), "instance": request.url.path}
    return JSONResponse(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/problem+json")


def _file(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return FileResponse(path, headers=HEADERS)

    return send


def application(health: HealthCache, log: structlog.stdlib.BoundLogger) -> Starlette:
    """The whole HTTP application."""

    async def ops(request: Request) -> Response:
        if request.query_params:
            raise HTTPException(422, "there are no parameters")
        answer = await health.get()
        if isinstance(answer, str):
            log.warning("prometheus_unavailable", setting="PROMETHEUS_URL", error=answer)
            raise HTTPException(503, "Prometheus is not available; try again", {"Retry-After": str(RETRY_AFTER_S)})
        body = answer.model_dump_json(by_alias=True, exclude_none=True)
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return _problem(request, error.status_code, error.detail, error.headers)

    routes = [Route("/api/v1/ops", ops)]
    for path in sorted(PAGE.iterdir()):
        if path != runbook.FRAME:
            routes.append(Route("/" if path.name == "index.html" else f"/{path.name}", _file(path)))
    if text := runbook.text():
        page = HTMLResponse(runbook.html(text, runbook.FRAME.read_text("utf-8")), headers=HEADERS)

        async def show_runbook(_: Request) -> Response:
            return page

        routes.append(Route("/runbook", show_runbook))
    return Starlette(routes=routes, exception_handlers={HTTPException: http_error})
