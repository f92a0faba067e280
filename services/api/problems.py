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

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        errors = _field_errors(error)
        return problem(request.scope, 422, "; ".join(f"{item.field}: {item.detail}" for item in errors), errors)

    async def not_found(request: Request, error: Exception) -> Response:
        return problem(request.scope, 404, str(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        detail = _DETAILS.get(error.status_code, str(error.detail)).format(method=request.method)
        headers = {"Allow": "GET, HEAD"} if error.status_code == 405 else error.headers
        return problem(request.scope, error.status_code, detail, headers=headers)

    async def store_unavailable(request: Request, error: Exception) -> Response:
        why = rejection(error) if isinstance(error, ServerException) else str(error)
        log.warning("store_unavailable", path=request.url.path, error=why)
        return unavailable(request.scope, "the store of rankings is not available now; try again")

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return problem(request.scope, 500, "an error of the server; it is in its log under the request's id")

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(NotFoundError, not_found)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(StoreUnavailableError, store_unavailable)
    app.add_exception_handler(ServerException, store_unavailable)
    app.add_exception_handler(Exception, unexpected)
