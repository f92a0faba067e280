"""The dashboard's page, the same as JSON, and the runbook, under a strict content security policy."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from services.ops import runbook
from services.ops.health import HealthCache
from services.ops.prometheus import PrometheusUnavailableError

PAGE = Path(__file__).parent / "page"
RETRY_AFTER_S = 2
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def _problem(request: Request, status: int, detail: str, **headers: str) -> Response:
    """An error as an RFC 9457 problem."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": request.url.path}
    return JSONResponse(body, status, {"Cache-Control": "no-store", **headers}, "application/problem+json")


def _file(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return FileResponse(path, headers=HEADERS)

    return send


def application(health: HealthCache, log: structlog.stdlib.BoundLogger) -> Starlette:
    """The whole HTTP application."""

    async def ops(request: Request) -> Response:
        if request.query_params:
            raise HTTPException(422, "there are no parameters")
        body = (await health.get()).model_dump_json(by_alias=True, exclude_none=True)
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

    async def unavailable(request: Request, error: Exception) -> Response:
        log.warning("prometheus_unavailable", setting="PROMETHEUS_URL", error=str(error))
        return _problem(request, 503, "Prometheus is not available; try again", **{"Retry-After": str(RETRY_AFTER_S)})

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return _problem(request, error.status_code, error.detail, **(error.headers or {}))

    files = [path for path in sorted(PAGE.iterdir()) if path != runbook.FRAME]
    routes = [Route("/api/v1/ops", ops), Route("/", _file(PAGE / "index.html"))]
    routes += [Route(f"/{path.name}", _file(path)) for path in files if path.name != "index.html"]
    text = runbook.text()
    if text:
        page = HTMLResponse(runbook.html(text, runbook.FRAME.read_text("utf-8")), headers=HEADERS)

        async def show_runbook(_: Request) -> Response:
            return page

        routes.append(Route("/runbook", show_runbook))
    return Starlette(
        routes=routes, exception_handlers={PrometheusUnavailableError: unavailable, HTTPException: http_error}
    )
