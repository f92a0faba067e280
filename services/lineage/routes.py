"""The endpoints: those of Marquez that its clients use, with its paths and shapes, and the page."""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import AfterValidator, AwareDatetime
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
BEGINNING, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)

T = TypeVar("T")
Name = Annotated[str, InPath(min_length=1), AfterValidator(unquote)]
Limit = Annotated[int, Query(ge=0, le=10_000)]
Offset = Annotated[int, Query(ge=0)]
NodeId = Annotated[str, Query(alias="nodeId", min_length=1, description="dataset:<namespace>:<name> or job:...")]
Depth = Annotated[int, Query(ge=0, le=100)]


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in Marquez's form."""
    return JSONResponse({"code": status, "message": message}, status, headers)


def problems(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    """Answer every error in one form that shows nothing of the inside."""

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        return _error(422, "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()))

    async def no_event(_: Request, error: Exception) -> Response:
        return _error(422, str(error))

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return _error(error.status_code, str(error.detail))

    async def unavailable(request: Request, error: Exception) -> Response:
        log.warning("store_unavailable", path=request.url.path, error=repr(error)[:300])
        return _error(503, "the database is not available now; try again", {"Retry-After": str(RETRY_AFTER_S)})

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return _error(500, "an error of the server; it is in its log")

    handlers = {RequestValidationError: invalid, EventError: no_event, HTTPException: http_error, Exception: unexpected}
    for kind, handler in (handlers | dict.fromkeys(UNAVAILABLE, unavailable)).items():
        app.add_exception_handler(kind, handler)


def _or_404(result: T | None, what: str) -> T:
    if result is None:
        raise HTTPException(404, f"{what} not found")
    return result


def _page(kind: str, items: Sequence[Json], limit: int, offset: int) -> Json:
    return {kind: list(items[offset : offset + limit]), "totalCount": len(items)}


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


class Views:
    """Marquez's view of the store, each read whole: a pipeline has tens of jobs and datasets."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def namespaces(self) -> list[Json]:
        """Every namespace."""
        return [transform.named(row) for row in await self._store.rows(queries.NAMESPACES)]

    async def datasets(self, namespace: str | None = None) -> list[Json]:
        """The datasets of a namespace, or every dataset."""
        rows = await self._store.rows(queries.DATASETS)
        return [transform.dataset(row) for row in rows if namespace in (None, row["namespace"])]

    async def runs(self, rows: Sequence[Row]) -> list[Json]:
        """These runs."""
        edges: dict[UUID, list[Row]] = defaultdict(list)
        for edge in await self._store.rows(queries.EDGES_OF_RUNS, [row["id"] for row in rows]):
            edges[edge["run_id"]].append(edge)
        return [transform.run(row, edges[row["id"]]) for row in rows]

    async def jobs(self, namespace: str | None = None) -> list[Json]:
        """The jobs of a namespace, or every job, each with its newest run."""
        edges: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for edge in await self._store.rows(queries.CURRENT_EDGES):
            edges[edge["job_namespace"], edge["job_name"]].append(edge)
        rows = await self._store.rows(queries.LATEST_RUNS)
        keys = [(row["job_namespace"], row["job_name"]) for row in rows]
        runs = dict(zip(keys, await self.runs(rows), strict=True))
        named = {(row["namespace"], row["name"]): row for row in await self._store.rows(queries.JOBS)}
        return [
            transform.job(row, edges[key], runs.get(key)) for key, row in named.items() if namespace in (None, key[0])
        ]


def api(store: Store, count: Callable[[str], None]) -> APIRouter:
    """The supported part of Marquez's API; `count` gets the outcome of each received event."""
    router = APIRouter(prefix="/api/v1")
    views = Views(store)

    @router.post("/lineage", status_code=201)
    async def receive(body: Annotated[Any, Depends(_body)]) -> Response:
        try:
            new = await store.add(event(body), body)
        except EventError:
            count("rejected")
            raise
        count("stored" if new else "repeated")
        return Response(status_code=201)

    @router.get("/lineage")
    async def graph(node: NodeId, depth: Depth = 20) -> Json:
        return _or_404(transform.lineage(await views.datasets(), await views.jobs(), node, depth), f"node {node}")

    @router.get("/column-lineage")
    async def columns(
        node: NodeId, depth: Depth = 20, downstream: Annotated[bool, Query(alias="withDownstream")] = False
    ) -> Json:
        datasets, jobs = await views.datasets(), await views.jobs()
        plain = node.partition("#")[0]  # of the current version, whichever was requested
        return _or_404(transform.column_lineage(datasets, jobs, plain, depth, downstream=downstream), f"node {node}")

    @router.get("/events/lineage")
    async def events(
        after: AwareDatetime = BEGINNING,
        before: AwareDatetime = END,
        limit: Limit = 100,
        offset: Offset = 0,
        order: Annotated[Literal["asc", "desc"], Query(alias="sortDirection")] = "desc",
    ) -> Json:
        rows, total = await store.events(after, before, newest_first=order == "desc", limit=limit, offset=offset)
        return {"events": [row["body"] for row in rows], "totalCount": total}

    @router.get("/namespaces")
    async def namespaces(limit: Limit = 100, offset: Offset = 0) -> Json:
        return _page("namespaces", await views.namespaces(), limit, offset)

    @router.get("/namespaces/{namespace}")
    async def namespace(namespace: Name) -> Json:
        named = {each["name"]: each for each in await views.namespaces()}
        return _or_404(named.get(namespace), f"namespace {namespace}")

    @router.get("/namespaces/{namespace}/datasets")
    async def datasets(namespace: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        return _page("datasets", await views.datasets(namespace), limit, offset)

    @router.get("/namespaces/{namespace}/datasets/{dataset}")
    async def dataset(namespace: Name, dataset: Name) -> Json:
        named = {each["name"]: each for each in await views.datasets(namespace)}
        return _or_404(named.get(dataset), f"dataset {dataset} of namespace {namespace}")

    @router.get("/jobs")
    async def all_jobs(limit: Limit = 100, offset: Offset = 0) -> Json:
        return _page("jobs", await views.jobs(), limit, offset)

    @router.get("/namespaces/{namespace}/jobs")
    async def jobs(namespace: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        return _page("jobs", await views.jobs(namespace), limit, offset)

    @router.get("/namespaces/{namespace}/jobs/{job}")
    async def job(namespace: Name, job: Name) -> Json:
        named = {each["name"]: each for each in await views.jobs(namespace)}
        return _or_404(named.get(job), f"job {job} of namespace {namespace}")

    @router.get("/namespaces/{namespace}/jobs/{job}/runs")
    async def runs(namespace: Name, job: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        rows = await store.rows(queries.RUNS_OF_JOB, namespace, job)
        return {"runs": await views.runs(rows[offset : offset + limit]), "totalCount": len(rows)}

    @router.get("/jobs/runs/{run_id}")
    async def run(run_id: UUID) -> Json:
        runs = await views.runs(await store.rows(queries.RUN, run_id))
        return _or_404(next(iter(runs), None), f"run {run_id}")

    return router


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(PAGE / name, headers=PAGE_HEADERS)

    return send


def page() -> APIRouter:
    """The page at `/`: its three files and nothing else, under a strict content security policy."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    for path, name in {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}.items():
        router.add_api_route(path, _file(name))
    return router
