"""The OpenAPI document: what each endpoint may answer, as FastAPI's `responses`, and what FastAPI leaves out."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel

from services.api.models import FieldError, Problem, encode
from services.api.problems import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]
ASK_AGAIN = "no-cache"
RARELY_CHANGES = "public, max-age=30, must-revalidate"
"""Of a final or corrected window requested by its start: a correction is seen after half a minute at the latest."""

ABOUT = """
Totals and amounts are JSON numbers of exactly two decimals; a client that must not lose a cent of totals beyond 15
digits parses them as decimals. Instants are RFC 3339 in UTC. Every error is a problem of RFC 9457. Parameters that an
endpoint does not have are rejected, so that a misspelt one is not ignored. HEAD is answered as GET, without the body.
"""
_REQUEST_ID = "5f0c6e0a9d1b4c7e8a3f2b1c0d9e8f7a"
_LIMIT = FieldError(field="limit", value="11", detail="Input should be less than or equal to 10")
_PROBLEMS: Mapping[int, tuple[str, str]] = {
    404: (
        "there is no such ranking",
        "there is no 1h ranking city for a window that starts at 2026-02-19T10:30:00Z",
    ),
    413: ("the body is too long; the API reads none", "the body has 99999 bytes; at most 65536 are read"),
    414: ("the address is too long", "the address has 9000 bytes; at most 8192 are read"),
    422: ("a wrong parameter, named in `errors`", f"limit: {_LIMIT.detail}"),
    429: ("too many requests from this address; Retry-After says when to try again", "too many requests"),
    431: ("the headers are too long", "the headers have 17000 bytes; at most 16384 are read"),
    500: ("an error of the server", "an error of the server; it is in its log under the request's id"),
    503: (
        "the store is unavailable, or slow; Retry-After says when to try again",
        "the store of rankings is not available now; try again",
    ),
}
"""Each problem: what it means, and the detail of an example."""


def _header(meaning: str, example: str | int) -> dict[str, Any]:
    kind = "integer" if isinstance(example, int) else "string"
    return {"description": meaning, "required": True, "schema": {"type": kind}, "example": example}


_ID = {"X-Request-Id": _header("the request's own X-Request-Id where it was sane, otherwise a new one", _REQUEST_ID)}
_CACHE = {
    "ETag": _header("of exactly this body; send it as If-None-Match", '"0d1c6b2f5a4e9b8c7d6e5f40"'),
    "Cache-Control": _header(
        f"`{RARELY_CHANGES}` for a final or corrected window requested by its start, otherwise `{ASK_AGAIN}`", ASK_AGAIN
    ),
}
_RETRY = {"Retry-After": _header("seconds until it is worth trying again", 2)}


def _examples(bodies: Mapping[str, BaseModel]) -> dict[str, Any]:
    return {name: {"value": orjson.loads(encode(body))} for name, body in bodies.items()}


def problem(status: int) -> dict[str, Any]:
    """The response of a problem."""
    meaning, detail = _PROBLEMS[status]
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance="/api/v1/sales/top-by-city",
        request_id=_REQUEST_ID,
        errors=[_LIMIT] if status == HTTPStatus.UNPROCESSABLE_ENTITY else None,
    )
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": _examples({"problem": body})}
    headers = {**_ID, **(_RETRY if status in (429, 503) else {})}
    return {"description": meaning, "headers": headers, "content": {MEDIA_TYPE: content}}


def common() -> Responses:
    """What every endpoint may answer."""
    return {status: problem(status) for status in _PROBLEMS if status != HTTPStatus.NOT_FOUND}


def body(examples: Mapping[str, BaseModel]) -> dict[str, Any]:
    """A response with a body of the endpoint's own, and examples of it."""
    return {"headers": _ID, "content": {"application/json": {"examples": _examples(examples)}}}


def cacheable(examples: Mapping[str, BaseModel], *, missing: bool = True) -> Responses:
    """A body that clients may keep, 304, and where there may be no such ranking 404."""
    headers = {**_ID, **_CACHE}
    return {
        200: {**body(examples), "headers": headers},
        304: {"description": "what If-None-Match names is still the answer", "headers": headers},
        **({404: problem(404)} if missing else {}),
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be absent, without null: the API neither sends nor takes one."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return {**rest, **kinds[0]} if len(kinds) == 1 else schema


def install(app: FastAPI) -> None:
    """Have the application serve the document with the schema of problems, and no null."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        whole = plain()
        schemas = whole["components"]["schemas"]
        problem = Problem.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"), Problem=problem)
        for model in schemas.values():
            for name, schema in model.get("properties", {}).items():
                model["properties"][name] = _without_null(schema)
        for path in whole["paths"].values():
            for parameter in path["get"].get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
        return whole

    app.openapi = document  # type: ignore[method-assign]
