"""The endpoints: those of Marquez that its clients use, with its paths and shapes, and the page."""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote
from uuid import UUID

import structlog
from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException

from services.lineage import transform
from services.lineage.models import EventError, event
from services.lineage.store import AWAY, Row, Store
from services.lineage.transform import Json, Key

PAGE = Path(__file__).parent / "page"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MAX_BODY = 4 * 1024 * 1024
RETRY_AFTER_S = 2
BEGINNING, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)

T = TypeVar("T")
Name = Annotated[str, InPath(min_length=1), AfterValidator(unquote)]
Limit = Annotated[int, Query(ge=0, le=10_000)]
Offset = Annotated[int, Query(ge=0)]
NodeId = Annotated[str, Query(alias="nodeId", min_length=1, description="dataset:<namespace>:<name> or job:...")]
Depth = Annotated[int, Query(ge=0, le=100)]


class Owned(BaseModel):
    """What a namespace is given."""

    ownerName: Annotated[str, Field(min_length=1, max_length=1024)]  # noqa: N815 - Marquez's name
    description: Annotated[str | None, Field(max_length=4096)] = None


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in the form that Marquez gives it."""
    return JSONResponse({"code": status, "message": message}, status, headers)


def problems(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    """Answer every error of the application in one form, without its inside."""

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        said = (f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
        return _error(422, "; ".join(said))

    async def no_event(_: Request, error: Exception) -> Response:
        return _error(422, str(error))

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return _error(error.status_code, str(error.detail))

    async def away(request: Request, error: Exception) -> Response:
        log.warning("store_away", path=request.url.path, error=repr(error)[:300])
        return _error(503, "the database is not available now; try again", {"Retry-After": str(RETRY_AFTER_S)})

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return _error(500, "an error of the server; it is in its log")

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(EventError, no_event)
    app.add_exception_handler(HTTPException, http_error)
    for kind in AWAY:
        app.add_exception_handler(kind, away)
    app.add_exception_handler(Exception, unexpected)


def _there(found: T | None, what: str) -> T:
    if found is None:
        raise HTTPException(404, f"{what} not found")
    return found


def _page(items: Sequence[Json], limit: int, offset: int) -> list[Json]:
    return list(items[offset : offset + limit])


async def _body(request: Request) -> Any:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise HTTPException(413, f"longer than {MAX_BODY} bytes")
    if b"\\u0000" in content:
        raise EventError("a text holds the character U+0000, which the database cannot keep")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EventError(f"not JSON: {error}") from error


class Views:
    """What the endpoints show, read from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def datasets(self) -> list[Json]:
        """Every dataset."""
        return [transform.dataset(row) for row in await self._store.datasets()]

    async def runs(self, rows: Sequence[Row]) -> list[Json]:
        """These runs."""
        edges: dict[UUID, list[Row]] = defaultdict(list)
        for edge in await self._store.edges_of([row["id"] for row in rows]):
            edges[edge["run_id"]].append(edge)
        datasets = await self._store.datasets()
        versions = {(row["namespace"], row["name"]): row["current_version"] for row in datasets}
        return [transform.run(row, edges[row["id"]], versions) for row in rows]

    async def jobs(self) -> list[Json]:
        """Every job, with its newest run."""
        edges: dict[Key, list[Row]] = defaultdict(list)
        for edge in await self._store.current_edges():
            edges[edge["job_namespace"], edge["job_name"]].append(edge)
        rows = await self._store.latest_runs()
        runs = dict(zip(((row["job_namespace"], row["job_name"]) for row in rows), await self.runs(rows), strict=True))
        keys = [((row["namespace"], row["name"]), row) for row in await self._store.jobs()]
        return [transform.job(row, edges[key], runs.get(key)) for key, row in keys]

    async def versions(self, namespace: str, name: str) -> list[Json]:
        """The versions of a dataset."""
        rows = await self._store.versions(namespace, name)
        by = [await self._store.run(row["run_id"]) if row["run_id"] else None for row in rows]
        shown = {run["id"]: (await self.runs([run]))[0] for run in by if run is not None}
        return [transform.version(row, shown.get(row["run_id"])) for row in rows]


def api(store: Store, count: Callable[[str], None]) -> APIRouter:
    """Marquez's API, as far as it is answered; `count` gets the outcome of each event that is received."""
    router = APIRouter(prefix="/api/v1")
    views = Views(store)

    @router.post("/lineage", status_code=201)
    async def take(body: Annotated[Any, Depends(_body)]) -> Response:
        try:
            new = await store.take(event(body), body)
        except EventError:
            count("rejected")
            raise
        count("taken" if new else "known")
        return Response(status_code=201)

    @router.get("/lineage")
    async def graph(node: NodeId, depth: Depth = 20) -> Json:
        found = transform.lineage(await views.datasets(), await views.jobs(), node, depth)
        return _there(found, f"node {node}")

    @router.get("/column-lineage")
    async def columns(
        node: NodeId, depth: Depth = 20, downstream: Annotated[bool, Query(alias="withDownstream")] = False
    ) -> Json:
        datasets, jobs = await views.datasets(), await views.jobs()
        plain = node.partition("#")[0]  # of the current version, whichever is asked for
        return _there(transform.column_lineage(datasets, jobs, plain, depth, downstream=downstream), f"node {node}")

    @router.get("/events/lineage")
    async def events(
        after: AwareDatetime = BEGINNING,
        before: AwareDatetime = END,
        limit: Limit = 100,
        offset: Offset = 0,
        order: Annotated[Literal["asc", "desc"], Query(alias="sortDirection")] = "desc",
    ) -> Json:
        newest = order == "desc"
        rows, total = await store.events(after, before, newest_first=newest, limit=limit, offset=offset)
        return {"events": [row["body"] for row in rows], "totalCount": total}

    _namespaces(router, store)
    _datasets(router, views)
    _jobs(router, store, views)
    return router


def _namespaces(router: APIRouter, store: Store) -> None:
    @router.get("/namespaces")
    async def namespaces(limit: Limit = 100, offset: Offset = 0) -> Json:
        return {"namespaces": _page([transform.namespace(row) for row in await store.namespaces()], limit, offset)}

    @router.get("/namespaces/{namespace}")
    async def namespace(namespace: Name) -> Json:
        rows = {row["name"]: row for row in await store.namespaces()}
        return transform.namespace(_there(rows.get(namespace), f"namespace {namespace}"))

    @router.put("/namespaces/{namespace}")
    async def name_namespace(namespace: Name, given: Annotated[Owned, Body()]) -> Json:
        await store.name_namespace(namespace, given.ownerName, given.description, datetime.now(UTC))
        rows = {row["name"]: row for row in await store.namespaces()}
        return transform.namespace(rows[namespace])

    async def all_sources() -> dict[str, Json]:
        used = {row["namespace"] for row in await store.datasets()}
        return {row["name"]: transform.source(row) for row in await store.namespaces() if row["name"] in used}

    @router.get("/sources")
    async def sources(limit: Limit = 100, offset: Offset = 0) -> Json:
        return {"sources": _page(list((await all_sources()).values()), limit, offset)}

    @router.get("/sources/{source}")
    async def source(source: Name) -> Json:
        return _there((await all_sources()).get(source), f"source {source}")


def _datasets(router: APIRouter, views: Views) -> None:
    async def of(namespace: str) -> list[Json]:
        return [each for each in await views.datasets() if each["namespace"] == namespace]

    async def one(namespace: str, name: str) -> Json:
        found = next((each for each in await of(namespace) if each["name"] == name), None)
        return _there(found, f"dataset {name} of namespace {namespace}")

    @router.get("/namespaces/{namespace}/datasets")
    async def datasets(namespace: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        found = await of(namespace)
        return {"datasets": _page(found, limit, offset), "totalCount": len(found)}

    @router.get("/namespaces/{namespace}/datasets/{dataset}")
    async def dataset(namespace: Name, dataset: Name) -> Json:
        return await one(namespace, dataset)

    @router.get("/namespaces/{namespace}/datasets/{dataset}/versions")
    async def versions(namespace: Name, dataset: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        await one(namespace, dataset)
        found = await views.versions(namespace, dataset)
        return {"versions": _page(found, limit, offset), "totalCount": len(found)}

    @router.get("/namespaces/{namespace}/datasets/{dataset}/versions/{version}")
    async def version(namespace: Name, dataset: Name, version: Name) -> Json:
        found = {each["version"]: each for each in await views.versions(namespace, dataset)}
        return _there(found.get(version), f"version {version} of dataset {dataset}")


def _jobs(router: APIRouter, store: Store, views: Views) -> None:
    @router.get("/jobs")
    async def all_jobs(limit: Limit = 100, offset: Offset = 0) -> Json:
        found = await views.jobs()
        return {"jobs": _page(found, limit, offset), "totalCount": len(found)}

    @router.get("/namespaces/{namespace}/jobs")
    async def jobs(namespace: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        found = [each for each in await views.jobs() if each["namespace"] == namespace]
        return {"jobs": _page(found, limit, offset), "totalCount": len(found)}

    @router.get("/namespaces/{namespace}/jobs/{job}")
    async def job(namespace: Name, job: Name) -> Json:
        found = (each for each in await views.jobs() if (each["namespace"], each["name"]) == (namespace, job))
        return _there(next(found, None), f"job {job} of namespace {namespace}")

    @router.get("/namespaces/{namespace}/jobs/{job}/runs")
    async def runs(namespace: Name, job: Name, limit: Limit = 100, offset: Offset = 0) -> Json:
        rows = await store.runs(namespace, job)
        return {"runs": await views.runs(rows[offset : offset + limit]), "totalCount": len(rows)}

    @router.get("/jobs/runs/{run_id}")
    async def run(run_id: UUID) -> Json:
        row = _there(await store.run(run_id), f"run {run_id}")
        return (await views.runs([row]))[0]

    @router.get("/jobs/runs/{run_id}/facets")
    async def facets(run_id: UUID, kind: Annotated[Literal["run", "job"], Query(alias="type")] = "run") -> Json:
        row = _there(await store.run(run_id), f"run {run_id}")
        if kind == "run":
            return {"runId": str(run_id), "facets": row["facets"]}
        of = {(each["namespace"], each["name"]): each["facets"] for each in await store.jobs()}
        return {"runId": str(run_id), "facets": of[row["job_namespace"], row["job_name"]]}


def _sender(name: str) -> Callable[[], Awaitable[Response]]:
    headers = {
        "Content-Security-Policy": PAGE_POLICY,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }

    async def send() -> Response:
        return FileResponse(PAGE / name, headers=headers)

    return send


def page() -> APIRouter:
    """The page at `/`: its three files and nothing else, under a strict content security policy."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    for path, name in {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}.items():
        router.add_api_route(path, _sender(name), status_code=HTTPStatus.OK)
    return router
