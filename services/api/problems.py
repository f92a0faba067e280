"""Every error as an RFC 9457 problem: it names the field or the remedy, and never shows the inside."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import structlog
from asgi_correlation_id import correlation_id
from asynch.errors import ServerException
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from chassis.clickhouse import StoreUnavailableError, rejection
from contracts.text import QUOTED, shortened
from services.api.models import FieldError, Problem, encode

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

_DETAILS = {
    404: "there is nothing at this path; /openapi.json lists what there is",
    405: "this path does not take the method {method}; the header Allow names those it takes",
}


class NotFoundError(Exception):
    """There is no such ranking; the message says what was asked for."""


def problem(
    scope: Scope,
    status: int,
    detail: str,
    errors: Sequence[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for a problem with this HTTP status."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=scope["path"],
        request_id=correlation_id.get(),
        errors=list(errors) if errors else None,
    )
    return Response(encode(body), status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def unavailable(scope: Scope, detail: str) -> Response:
    """The response for what may be there soon."""
    return problem(scope, 503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def validation_error(*wrong: tuple[str, str, str]) -> RequestValidationError:
    """For parameters that the framework does not see to be wrong: field, value and remedy of each."""
    return RequestValidationError(
        [{"loc": ("query", field[:QUOTED]), "input": value, "msg": remedy} for field, value, remedy in wrong]
    )


def _field_errors(error: RequestValidationError) -> list[FieldError]:
    return [
        FieldError(
            field=str(item["loc"][1] if len(item["loc"]) > 1 else item["loc"][0]),
            value=shortened(str(item.get("input")), QUOTED),
            detail=str(item["msg"]).removeprefix("Value error, "),
        )
        for item in error.errors()
    ]


def install(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    """Answer every error of the application with a problem."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = _field_errors(error)
        return problem(request.scope, 422, "; ".join(f"{item.field}: {item.detail}" for item in errors), errors)

    @app.exception_handler(NotFoundError)
    async def not_found(request: Request, error: NotFoundError) -> Response:
        return problem(request.scope, 404, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        detail = _DETAILS.get(error.status_code, str(error.detail)).format(method=request.method)
        headers = {"Allow": "GET, HEAD"} if error.status_code == 405 else error.headers
        return problem(request.scope, error.status_code, detail, headers=headers)

    @app.exception_handler(StoreUnavailableError)
    @app.exception_handler(ServerException)
    async def store_unavailable(request: Request, error: StoreUnavailableError | ServerException) -> Response:
        why = rejection(error) if isinstance(error, ServerException) else str(error)
        log.warning("store_unavailable", path=request.url.path, error=why)
        return unavailable(request.scope, "the store of rankings is not available now; try again")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return problem(request.scope, 500, "an error of the server; it is in its log under the request's id")
