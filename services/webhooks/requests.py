"""A request as HTTP brought it: checked by its headers, then read up to a limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache

from starlette.types import Receive, Scope

from chassis.asgi import MAX_HEAD_BYTES
from contracts.webhooks import Provider
from services.webhooks.signatures import SIGNED_BY
from services.webhooks.transform import PREFIXES

PLAIN = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding"})
RETRY_AFTER_S = 2


class RejectedError(Exception):
    """A request is answered with a problem; `outcome` is what the metrics call it."""

    def __init__(self, status: int, outcome: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.outcome, self.headers = status, outcome, headers or {}


def unavailable(outcome: str, detail: str) -> RejectedError:
    """For what the provider should send again."""
    return RejectedError(503, outcome, detail, {"Retry-After": str(RETRY_AFTER_S)})


def unauthorized(detail: str) -> RejectedError:
    """For what is not signed as it must be."""
    return RejectedError(401, "unauthorized", detail, {"WWW-Authenticate": "HMAC-SHA256"})


@dataclass(frozen=True)
class Head:
    """The headers of a request: what describes the body, and the provider's own, by names in lower case."""

    plain: Mapping[str, str]
    own: Mapping[str, str]


@lru_cache(64)
def _is_json(content_type: str) -> bool:
    header = Message()
    header["content-type"] = content_type
    charset = header.get_content_charset("utf-8")
    return header.get_content_type() == "application/json" and charset in ("utf-8", "utf8")


def head(provider: Provider, scope: Scope) -> Head:
    """The headers that count.

    Raises:
        RejectedError: one of them is there twice, or all of them are too long: the server bounds what comes in parts.
    """
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
        raise RejectedError(431, "too_large", f"the headers have more than {MAX_HEAD_BYTES} bytes")
    prefix = PREFIXES[provider]
    plain: dict[str, str] = {}
    own: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        into = own if name.startswith(prefix) else plain if name in PLAIN else None
        if into is None:
            continue
        if name in into:
            if name in SIGNED_BY[provider]:
                raise unauthorized(f"the header {name} is there twice")
            raise RejectedError(400, "malformed", f"the header {name} is there twice")
        into[name] = raw_value.decode("latin-1")
    return Head(plain, own)


def check_body(described: Mapping[str, str], limit: int) -> None:
    """Return where the headers promise a body that is read: JSON in UTF-8, as it is, of at most `limit` bytes.

    Raises:
        RejectedError: they promise another one, or none.
    """
    if not _is_json(described.get("content-type", "")):
        raise RejectedError(415, "unsupported", "the content type is not application/json in UTF-8")
    if described.get("content-encoding", "identity").lower() != "identity":
        raise RejectedError(415, "unsupported", "the body has a content encoding; send it as it is")
    if "content-length" in described:
        if int(described["content-length"]) > limit:  # the server has checked that it is a number
            raise _too_large(limit)
    elif "transfer-encoding" not in described:
        raise RejectedError(411, "malformed", "the request has no Content-Length")


def _too_large(limit: int) -> RejectedError:
    detail = f"the body has more than {limit} bytes (WEBHOOKS_MAX_REQUEST_BYTES)"
    return RejectedError(413, "too_large", detail, {"Connection": "close"})


async def body(receive: Receive, limit: int, arrived: Callable[[int], None]) -> bytes:
    """The whole body; `arrived` is called with the number of bytes of each part.

    Raises:
        RejectedError: it is longer than `limit` bytes, or the client went away before it had sent all of it.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RejectedError(400, "disconnected", "the connection ended before the body did")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        arrived(len(part))
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)
