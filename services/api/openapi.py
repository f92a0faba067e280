"""What the OpenAPI document says beyond what the code tells: examples, headers, 304, and every problem."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel

from services.api.models import (
    CityRank,
    CityRanking,
    Explanation,
    FieldError,
    Freshness,
    Health,
    HealthDetails,
    KnownWindow,
    Problem,
    Sale,
    SalesmanRank,
    SalesmanRanking,
    ServerHealth,
    Window,
    Windows,
    encode,
)
from services.api.problems import MEDIA_TYPE
from services.api.routes import ASK_AGAIN, RARELY_CHANGES
from services.api.transform import WindowsAfter, write_windows_after

REQUEST_ID = "5f0c6e0a9d1b4c7e8a3f2b1c0d9e8f7a"
ABOUT = """
Totals and amounts are JSON numbers with exactly two places; a client that must not lose a cent of totals beyond 15
digits parses them as decimals. Instants are ISO 8601 in UTC. Every error is a problem of RFC 9457. Parameters that an
endpoint does not have are rejected, so that a misspelt one is not ignored.
"""

_START = datetime(2026, 2, 19, 10, tzinfo=UTC)
_HOUR = Window(start=_START, end=_START + timedelta(hours=1))
_AS_OF = _START + timedelta(hours=1, seconds=6, milliseconds=250)
_SET: dict[str, Any] = {
    "window": _HOUR,
    "status": "final",
    "revision": 48,
    "as_of": _AS_OF,
    "watermark": _START + timedelta(hours=1, seconds=1),
}
_SERVER = ServerHealth(state="UP", since=_START, checked_at=_AS_OF, latency_ms=1.8, version="24.8.4.13")
_DOWN = ServerHealth(state="DOWN", since=_START, checked_at=_AS_OF, latency_ms=1000.4, why="no answer in 1.0 s")

ANSWERS: Mapping[str, Mapping[int, Mapping[str, BaseModel]]] = {
    "top_by_city": {
        200: {
            "final": CityRanking(
                **_SET,
                rankings=[
                    CityRank(rank=1, city="São Paulo", total_sales=Decimal("125000.00"), transaction_count=342),
                    CityRank(rank=2, city="Recife", total_sales=Decimal("98120.75"), transaction_count=301),
                ],
            ),
            "emptied": CityRanking(**{**_SET, "status": "corrected", "revision": 49}, rankings=[]),
        }
    },
    "top_salesman": {
        200: {
            "final": SalesmanRanking(
                **_SET,
                rankings=[
                    SalesmanRank(
                        rank=1,
                        salesman_name="Ana Souza",
                        country="BR",
                        total_sales=Decimal("40210.10"),
                        transaction_count=97,
                    )
                ],
            )
        }
    },
    "explain": {
        200: {
            "whole": Explanation(
                ranking="city",
                window=_HOUR,
                name="São Paulo",
                total_sales=Decimal("1299.90"),
                transaction_count=1,
                sales=[
                    Sale(
                        source="files",
                        sale_id="f-1001",
                        version="4611686018427387905",
                        amount=Decimal("1299.90"),
                        event_time=_START + timedelta(minutes=12, milliseconds=5),
                        salesman_name="Ana Souza",
                        city="São Paulo",
                        country="BR",
                        product="GPU",
                    )
                ],
            )
        }
    },
    "windows": {
        200: {
            "page": Windows(
                ranking="city",
                length="1h",
                windows=[
                    KnownWindow(
                        start=_HOUR.start + timedelta(hours=1),
                        end=_HOUR.end + timedelta(hours=1),
                        status="provisional",
                        revision=3,
                        as_of=_AS_OF,
                    ),
                    KnownWindow(start=_HOUR.start, end=_HOUR.end, status="final", revision=48, as_of=_AS_OF),
                ],
                next_cursor=write_windows_after(WindowsAfter("city", "1h", "", int(_START.timestamp()))),
            )
        }
    },
    "health": {
        200: {
            "up": Health(status="UP", clickhouse="UP", kafka="UP"),
            "details": Health(
                status="UP",
                clickhouse="UP",
                kafka="UP",
                details=HealthDetails(
                    started_at=_START,
                    clickhouse=_SERVER,
                    kafka=_SERVER.model_copy(update={"version": None}),
                    rankings=Freshness(fresh=True, as_of=_AS_OF, age_seconds=2.1),
                ),
            ),
        },
        503: {
            "down": Health(status="DOWN", clickhouse="UP", kafka="DOWN"),
            "details": Health(
                status="DOWN",
                clickhouse="UP",
                kafka="DOWN",
                details=HealthDetails(started_at=_START, clickhouse=_SERVER, kafka=_DOWN),
            ),
        },
    },
}
"""Example answers by operation, status and name."""


def _problem(status: HTTPStatus, detail: str, errors: list[FieldError] | None = None) -> Problem:
    return Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        instance="/api/v1/sales/top-by-city",
        request_id=REQUEST_ID,
        errors=errors,
    )


_LIMIT = FieldError(field="limit", value="11", detail="Input should be less than or equal to 10")
PROBLEMS: Mapping[int, tuple[str, Problem]] = {
    404: (
        "there is no such ranking",
        _problem(HTTPStatus(404), "there is no 1h ranking of cities for a window that starts at 2026-02-19T10:30:00Z"),
    ),
    413: (
        "the body is too long; the API reads none",
        _problem(HTTPStatus(413), "the body has 99999 bytes; at most 65536 are read"),
    ),
    414: (
        "the address is too long",
        _problem(HTTPStatus(414), "the address has 9000 bytes; at most 8192 are read"),
    ),
    422: (
        "a wrong parameter, named in `errors`",
        _problem(HTTPStatus(422), f"limit: {_LIMIT.detail}", [_LIMIT]),
    ),
    429: (
        "too many requests from this address; Retry-After says when to ask again",
        _problem(HTTPStatus(429), "too many requests from this address"),
    ),
    431: (
        "the headers are too long",
        _problem(HTTPStatus(431), "the headers have 17000 bytes; at most 16384 are read"),
    ),
    500: (
        "an error of the server",
        _problem(HTTPStatus(500), "an error of the server; it is in its log under the request's id"),
    ),
    503: (
        "the store is unavailable, or slow; Retry-After says when to ask again",
        _problem(HTTPStatus(503), "the store of rankings is not available now; try again"),
    ),
}
"""Each problem: what it means, and an example."""

_RANKINGS = frozenset(("top_by_city", "top_salesman", "explain", "windows"))
_MISSING = frozenset(("top_by_city", "top_salesman", "explain"))


def _header(meaning: str, example: str) -> dict[str, Any]:
    return {"description": meaning, "required": True, "schema": {"type": "string"}, "example": example}


_ID = {"X-Request-Id": _header("the request's own X-Request-Id where it was sane, otherwise a new one", REQUEST_ID)}
_CACHE = {
    "ETag": _header("of exactly this body; send it as If-None-Match", '"0d1c6b2f5a4e9b8c7d6e5f40"'),
    "Cache-Control": _header(
        f"`{RARELY_CHANGES}` for a final or corrected window that was asked for by its start, otherwise `{ASK_AGAIN}`",
        ASK_AGAIN,
    ),
}
_SECONDS = {"schema": {"type": "integer"}, "example": 2}
_RETRY = {"Retry-After": {"description": "seconds until it is worth asking again", "required": True, **_SECONDS}}


def _json(body: BaseModel) -> Any:
    return orjson.loads(encode(body))


def _absent(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be absent, without null: the API neither sends nor takes one."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return {**rest, **kinds[0]} if len(kinds) == 1 else schema


def _problem_response(status: int, own: dict[str, Any]) -> dict[str, Any]:
    """The response of a problem, beside what the operation itself may answer with that status."""
    meaning, example = PROBLEMS[status]
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {"problem": {"value": _json(example)}}}
    headers = {**_ID, **(_RETRY if status in (429, 503) else {})}
    return {"description": meaning, "headers": headers, "content": {MEDIA_TYPE: content, **own}}


def _complete(operation: dict[str, Any]) -> None:
    """Add to one operation what this module knows of it."""
    name, responses = operation["operationId"], operation["responses"]
    responses.pop("422", None)  # FastAPI's own shape of it
    for status in PROBLEMS:
        if status != 404 or name in _MISSING:
            own = responses.get(str(status), {}).get("content", {})
            responses[str(status)] = _problem_response(status, own)
    responses["200"]["headers"] = {**_ID, **(_CACHE if name in _RANKINGS else {})}
    if name in _RANKINGS:
        responses["304"] = {"description": "what If-None-Match names is still the answer", "headers": {**_ID, **_CACHE}}
    for status, examples in ANSWERS.get(name, {}).items():
        content = responses[str(status)]["content"]["application/json"]
        content["examples"] = {case: {"value": _json(body)} for case, body in examples.items()}
    operation["responses"] = dict(sorted(responses.items()))


def install(app: FastAPI) -> None:
    """Have the application serve the completed document."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        made = app.openapi_schema is not None
        schema = plain()
        if not made:
            schemas = schema["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            reference = "#/components/schemas/{model}"
            problem = Problem.model_json_schema(mode="serialization", ref_template=reference)
            schemas.update(problem.pop("$defs"), Problem=problem)
            for model in schemas.values():
                model.get("properties", {}).update({k: _absent(v) for k, v in model.get("properties", {}).items()})
            for path in schema["paths"].values():
                for operation in path.values():
                    for parameter in operation.get("parameters", ()):
                        parameter["schema"] = _absent(parameter["schema"])
                    _complete(operation)
        return schema

    app.openapi = document  # type: ignore[method-assign]
