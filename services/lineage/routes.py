"""The endpoints: what takes events, and what page and command line read, with Marquez's paths and shapes."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import structlog
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import AfterValidator
from starlette.exceptions import HTTPException

from services.lineage import store as queries
from services.lineage import transform
from services.lineage.models import EventError, event
from services.lineage.store import UNAVAILABLE, Row, Store
from services.lineage.transform import Json

PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
MAX_BODY = 4 * 1024 * 1024
RETRY_AFTER_S = 2

Name = Annotated[str, InPath(min_length=1), AfterValidator(unquote)]
Limit = Annotated[int, Query(ge=0, le=10_000)]


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in Marquez's form."""
    return JSONResponse({"code": status, "message": message}, status, headers)


def problems(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    """Answer every error in one form that shows nothing of the inside."""

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        return _error(422, "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()))

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return _error(error.status_code, str(error.detail))

    async def unavailable(request: Request, error: Exception) -> Response:
        log.warning("store_unavailable", path=request.url.path, error=repr(error)[:300])
        return _error(503, "the database is not available now; try again", {"Retry-After": str(RETRY_AFTER_S)})

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return _error(500, "an error of the server; it is in its log")

    handlers = {RequestValidationError: invalid, HTTPException: http_error, Exception: unexpected}
    for kind, handler in (handlers | dict.fromkeys(UNAVAILABLE, unavailable)).items():
        app.add_exception_handler(kind, handler)


async def _body(request: Request) -> Any:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise HTTPException(413, f"longer than {MAX_BODY} bytes")
    if b"\\u0000" in content:
        raise EventError("a text contains the character U+0000, which the database cannot store")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EventError(f"not JSON: {error}") from error


async def _jobs(store: Store) -> list[Json]:
    """Every job with its newest run, read whole: a pipeline has tens of jobs and datasets."""
    edges = defaultdict[tuple[str, str], list[Row]](list)
    for edge in await store.rows(queries.CURRENT_EDGES):
        edges[edge["job_namespace"], edge["job_name"]].append(edge)
    latest = {(row["job_namespace"], row["job_name"]): row for row in await store.rows(queries.LATEST_RUNS)}
    jobs = {(row["namespace"], row["name"]): row for row in await store.rows(queries.JOBS)}
    return [transform.job(row, edges[key], latest.get(key)) for key, row in jobs.items()]


def api(store: Store, count: Callable[[str], None]) -> APIRouter:
    """The supported part of Marquez's API; `count` gets the outcome of each received event."""
    router = APIRouter(prefix="/api/v1")

    @router.post("/lineage", status_code=201)
    async def receive(request: Request) -> Response:
        try:
            body = await _body(request)
            new = await store.add(event(body), body)
        except EventError as error:
            count("rejected")
            raise HTTPException(422, str(error)) from error
        count("stored" if new else "repeated")
        return Response(status_code=201)

    @router.get("/jobs")
    async def jobs(limit: Limit = 100) -> Json:
        every = await _jobs(store)
        return {"jobs": every[:limit], "totalCount": len(every)}

    @router.get("/namespaces/{namespace}/datasets/{dataset}")
    async def dataset(namespace: Name, dataset: Name) -> Json:
        for row in await store.rows(queries.DATASET, namespace, dataset):
            return transform.dataset(row)
        raise HTTPException(404, f"dataset {dataset} of namespace {namespace} not found")

    return router


class Page(StaticFiles):
    """The page: the three files of its folder under a strict content security policy."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE, html=True)

    def file_response(self, *values: Any, **named: Any) -> Response:
        """The file with the page's headers."""
        response = super().file_response(*values, **named)
        response.headers.update(PAGE_HEADERS)
        return response
