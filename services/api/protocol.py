"""Pure: the messages of the live stream, in both directions, and who may connect."""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from contracts.rankings import BY_NAME
from contracts.text import quoted
from contracts.time import to_ms
from services.api.live_rankings import Frame, Subscription, offsets
from services.api.transform import parse_country, parse_instant, parse_length, parse_ranking, wrong_names

VERSION = 1
SUBPROTOCOL = "placar.v1"
LARGEST_MESSAGE = 4096  # characters: a subscription to everything that there may be is a quarter of it
MAX_WINDOWS = 24
MAX_COUNTRIES = 24
SHOWN = 60

Code = Literal["malformed", "unknown_type", "invalid_subscription"]
Parser = Callable[[object, Sequence[str]], Any]


def _frame(kind: str, **fields: Any) -> Frame:
    return Frame(kind, "", orjson.dumps({"type": kind, **fields}).decode())


class ProtocolError(Exception):
    """A client's message or address cannot be used; `errors` names each wrong field."""

    def __init__(self, code: Code, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors

    def frame(self) -> Frame:
        """The error as it is sent to the client."""
        return _frame("error", code=self.code, detail=self.detail, errors=list(self.errors))


def hello(heartbeat_s: float, subscription: Subscription) -> Frame:
    """The first frame."""
    seconds = int(heartbeat_s) if heartbeat_s == int(heartbeat_s) else heartbeat_s
    return _frame("hello", protocol=VERSION, heartbeatSeconds=seconds, subscription=subscription.described())


def _each(parse: Callable[[str], Any], limit: int) -> Parser:
    """Reads a list of 1 to `limit` texts; repetitions count once."""

    def parsed(value: object, _: Sequence[str]) -> tuple[Any, ...]:
        if not isinstance(value, list) or not 0 < len(value) <= limit or not all(isinstance(one, str) for one in value):
            raise ValueError(f"must be a list of 1 to {limit} texts")
        return tuple(parse(one) for one in dict.fromkeys(value))

    return parsed


def _length(value: object, labels: Sequence[str]) -> str | None:
    return parse_length(labels)(value if isinstance(value, str) else "")


def _windows(value: object, labels: Sequence[str]) -> Any:
    return value if value in ("latest", "all") else _starts(value, labels)


def _since(value: object, _: Sequence[str]) -> str:
    text = value if isinstance(value, str) else ""
    offsets(text)
    return text


_starts = _each(lambda text: to_ms(parse_instant(text)), MAX_WINDOWS)
FIELDS: Mapping[str, Parser] = {
    "rankings": _each(parse_ranking, len(BY_NAME)),
    "length": _length,
    "windows": _windows,
    "countries": _each(parse_country, MAX_COUNTRIES),
    "since": _since,
}
"""What reads each field of a subscription, given the labels of the configured lengths."""


def _subscription(
    fields: Iterable[tuple[str, object]], wrong: list[tuple[str, str, str]], labels: Sequence[str]
) -> Subscription:
    """The subscription of these fields; one that is left out has its default, for the length the first of `labels`.

    `wrong` has the fields that there are not, or twice: name, value, remedy.

    Raises:
        ProtocolError: at least one field is wrong; all of them are named.
    """
    chosen: dict[str, Any] = {"rankings": tuple(BY_NAME), "length": labels[0]}
    for field, value in fields:
        try:
            if field in FIELDS:
                chosen[field] = FIELDS[field](value, labels)
        except ValueError as error:
            wrong.append((field, str(value), str(error)))
    if wrong:
        errors = [{"field": name[:SHOWN], "value": value[:SHOWN], "detail": remedy} for name, value, remedy in wrong]
        errors = errors[: len(FIELDS)]
        detail = "; ".join(f"{error['field']}: {error['detail']}" for error in errors)
        raise ProtocolError("invalid_subscription", detail, errors)
    return Subscription(**chosen)


def from_query(query: Iterable[tuple[str, str]], labels: Sequence[str]) -> Subscription:
    """The subscription that the parameters of an address name.

    Raises:
        ProtocolError: at least one parameter is wrong, unknown or there twice; all of them are named.
    """

    def listed(name: str, text: str) -> object:
        one = name not in ("rankings", "windows", "countries") or (name == "windows" and text in ("latest", "all"))
        return text if one else text.split(",")

    query = list(query)
    return _subscription([(name, listed(name, text)) for name, text in query], wrong_names(query, FIELDS), labels)


def from_message(text: str, labels: Sequence[str]) -> Subscription | Literal["ping"]:
    """What a client's message requests.

    Raises:
        ProtocolError: it is not JSON, of no known type, or a wrong subscription.
    """
    try:
        message = orjson.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ProtocolError("malformed", 'a message must be a JSON object such as {"type":"ping"}')
    kind = message.pop("type", None)
    if kind == "ping":
        return "ping"
    if kind != "subscribe":
        raise ProtocolError("unknown_type", f"type {quoted(str(kind))} is unknown; there are subscribe and ping")
    unknown = wrong_names(((name, str(value)) for name, value in message.items()), FIELDS)
    return _subscription(message.items(), unknown, labels)


def origin_allowed(origin: str | None, host: str | None, allowed: Sequence[str]) -> bool:
    """Whether a page of this origin may connect: of the request's own host, or listed. No browser sends none."""
    if origin is None or origin in allowed:
        return True
    parts = urlsplit(origin)
    port = {"http": ":80", "https": ":443"}.get(parts.scheme)
    if port is None or not parts.netloc or host is None:
        return False
    return parts.netloc.lower().removesuffix(port) == host.lower().removesuffix(port)


def token_offered(authorization: str | None, subprotocols: Sequence[str]) -> str | None:
    """The token that the client gives: `Authorization: Bearer`, or from a browser the subprotocol `bearer.<token>`."""
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    offered = [one.removeprefix("bearer.") for one in subprotocols if one.startswith("bearer.")]
    return offered[0] if offered else None


def token_right(offered: str | None, wanted: str) -> bool:
    """Whether the token is the wanted one, compared in constant time; where none is wanted every client may connect."""
    return not wanted or (offered is not None and hmac.compare_digest(offered.encode(), wanted.encode()))
