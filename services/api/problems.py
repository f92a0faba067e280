"""Every error as an RFC 9457 problem: it names the field or the remedy, and never shows the inside."""

from http import HTTPStatus

import structlog
from asynch.errors import ServerException
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from chassis.clickhouse import StoreAway, refusal
from services.api.models import Problem, encode

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2


class NotFoundError(Exception):
    """There is no such ranking; the message says what was asked for."""


def problem(
    request: Request,
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The response for a problem with this HTTP status."""
    body = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, instance=request.url.path, errors=errors
    )
    return Response(encode(body), status, headers, MEDIA_TYPE)


def _field_errors(error: RequestValidationError) -> list[dict[str, str]]:
    return [
        {
            "field": str(item["loc"][1] if len(item["loc"]) > 1 else item["loc"][0]),
            "value": str(item.get("input"))[:60],
            "detail": str(item["msg"]).removeprefix("Value error, "),
        }
        for item in error.errors()
    ]


def install(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    """Answer every error of the application with a problem."""

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        errors = _field_errors(error)
        return problem(request, 422, "; ".join(f"{item['field']}: {item['detail']}" for item in errors), errors)

    async def not_found(request: Request, error: Exception) -> Response:
        return problem(request, 404, str(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return problem(request, error.status_code, str(error.detail), headers=dict(error.headers or {}))

    async def store_away(request: Request, error: Exception) -> Response:
        why = refusal(error) if isinstance(error, ServerException) else str(error)
        log.warning("store_away", path=request.url.path, error=why)
        detail = "the store of rankings is not available now; try again"
        return problem(request, 503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return problem(request, 500, "an error of the server; it is in its log")

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(NotFoundError, not_found)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(StoreAway, store_away)
    app.add_exception_handler(ServerException, store_away)
    app.add_exception_handler(Exception, unexpected)
