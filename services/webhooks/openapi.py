"""What the OpenAPI document says of a delivery: headers, bodies with examples, and answers."""

import json
from typing import Any

from pydantic import BaseModel, Field

from chassis.asgi import problem
from contracts.catalogue import catalogue
from contracts.webhooks import OTHER, PRIVACY, TOPICS, Provider
from services.webhooks.signatures import SIGNED_BY

ABOUT = """
Each delivery is checked against the provider's signature over the raw body, and answered with 200 after the broker has
acknowledged all of its events. A signed body that holds no event becomes one dead letter, answered with 200 too: sent
again it would be no better. Every error is a problem of RFC 9457; after 503 the provider should send the same again.
"""


class Receipt(BaseModel):
    """What became of a request."""

    accepted: int = Field(description="events that the broker has acknowledged", examples=[1])
    dead_letters: int = Field(description="1 where the body held no event", examples=[0])


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="what is wrong, and what to do about it")
    instance: str


_PROBLEMS = {
    400: ("a header is there twice", "the header x-shopify-topic is there twice"),
    401: (
        "the signature is missing, is there twice, is too old, or is none of this body's",
        "no secret that is known here gives the signature of this request",
    ),
    411: ("neither Content-Length nor Transfer-Encoding", "the request has no Content-Length"),
    413: ("the body is too long", "the body has more than 1000000 bytes (WEBHOOKS_MAX_REQUEST_BYTES)"),
    431: ("the headers are too long", "the headers have more than 16384 bytes"),
    415: ("the body is not plain JSON in UTF-8", "the content type is not application/json in UTF-8"),
    503: (
        "the broker is unavailable, too much is in flight, or the provider has no secret; Retry-After says when to "
        "send the same again",
        "events cannot be stored now; send the request again",
    ),
}


def _answer(status: int) -> dict[str, Any]:
    meaning, detail = _PROBLEMS[status]
    example = {**problem(status, detail), "instance": "/webhooks/shopify/orders"}
    content = {"application/problem+json": {"schema": Problem.model_json_schema(), "example": example}}
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}, "example": 2}}
    return {"description": meaning, "content": content, "headers": retry if status == 503 else {}}


RESPONSES: dict[int | str, dict[str, Any]] = {status: _answer(status) for status in _PROBLEMS}


def _examples(provider: Provider, topics: list[str]) -> dict[str, Any]:
    """The bodies of the contracts' examples, as the provider sends them."""
    found = {}
    for topic in topics:
        for name, example in catalogue()[topic].examples().items():
            if example["provider"] == provider:
                body = json.loads(example["body"].encode("latin-1"))
                found[f"{topic}_{name}"] = {"value": [body] if provider == "hubspot" else body}
    return found


def request_of(provider: Provider, path: str) -> dict[str, Any]:
    """The part of an operation that describes its request."""
    where = path.rpartition("/")[2]
    named = {**TOPICS[provider], "privacy": PRIVACY, "other": OTHER}
    topics = [named[where]] if where in named else [*TOPICS[provider].values(), PRIVACY, OTHER]
    headers = [*SIGNED_BY[provider], *(["x-shopify-topic", "x-shopify-event-id"] if provider == "shopify" else [])]
    schema = {"type": "array", "items": {"type": "object"}} if provider == "hubspot" else {"type": "object"}
    content = {"application/json": {"schema": schema, "examples": _examples(provider, topics)}}
    return {
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in headers
        ],
        "requestBody": {"required": True, "content": content},
    }
