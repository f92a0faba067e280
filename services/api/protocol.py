"""Pure: what clients of the live stream may say, what they are told, and who may connect."""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from services.api.board import RANKINGS, Frame, Subscription, offsets
from services.api.transform import parse_country, parse_instant, parse_length

VERSION = 1
SUBPROTOCOL = "placar.v1"
LARGEST_MESSAGE = 4096  # characters: a subscription to everything that there may be is a quarter of it
MOST_WINDOWS = 24
MOST_COUNTRIES = 24
SHOWN = 60

Code = Literal["malformed", "unknown_type", "invalid_subscription"]


class ProtocolError(Exception):
    """What the client said cannot be used; `errors` names each wrong field."""

    def __init__(self, code: Code, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors

    def frame(self) -> Frame:
        """The error as the client is told it."""
        said = {"type": "error", "code": self.code, "detail": self.detail, "errors": list(self.errors)}
        return Frame("error", "", orjson.dumps(said).decode())


@dataclass(frozen=True)
class Subscribe:
    """The client wants these from now on, after `since` where it has one."""

    subscription: Subscription
    since: str | None


def hello(heartbeat_s: float, subscription: Subscription) -> Frame:
    """The first frame."""
    seconds = int(heartbeat_s) if heartbeat_s == int(heartbeat_s) else heartbeat_s
    told = {"heartbeatSeconds": seconds, "subscription": subscription.described()}
    return Frame("hello", "", orjson.dumps({"type": "hello", "protocol": VERSION, **told}).decode())


def _several(value: object, most: int) -> list[str]:
    """A list of texts without repetition."""
    if not isinstance(value, list) or not 0 < len(value) <= most or not all(isinstance(one, str) for one in value):
        raise ValueError(f"must be a list of 1 to {most} texts")
    return list(dict.fromkeys(value))


def _rankings(value: object, _: Sequence[str]) -> tuple[str, ...]:
    chosen = _several(value, len(RANKINGS))
    if not set(chosen) <= set(RANKINGS):
        raise ValueError(f"must be of {', '.join(RANKINGS)}")
    return tuple(chosen)


def _length(value: object, labels: Sequence[str]) -> str:
    parsed = parse_length(labels, value if isinstance(value, str) else "")
    return parsed or labels[0]


def _windows(value: object, _: Sequence[str]) -> str | tuple[int, ...]:
    if value in ("latest", "all"):
        return str(value)
    return tuple(int(parse_instant(one).timestamp() * 1000) for one in _several(value, MOST_WINDOWS))


def _countries(value: object, _: Sequence[str]) -> tuple[str, ...]:
    return tuple(parse_country(one) for one in _several(value, MOST_COUNTRIES))


def _since(value: object, _: Sequence[str]) -> str:
    text = value if isinstance(value, str) else ""
    offsets(text)
    return text


FIELDS: Mapping[str, Callable[[object, Sequence[str]], Any]] = {
    "rankings": _rankings,
    "length": _length,
    "windows": _windows,
    "countries": _countries,
    "since": _since,
}


def subscribe(asked: Mapping[str, object], labels: Sequence[str]) -> Subscribe:
    """The subscription that is asked for; what is not named has its default, the first of the `labels` for the length.

    Raises:
        ProtocolError: at least one field is wrong; all of them are named.
    """
    chosen: dict[str, Any] = {
        "rankings": RANKINGS,
        "length": labels[0],
        "windows": "latest",
        "countries": ("BR",),
        "since": None,
    }
    errors = []
    for field, value in asked.items():
        try:
            if field not in FIELDS:
                raise ValueError(f"is unknown; there are {', '.join(FIELDS)}")  # noqa: TRY301 - named with the others
            chosen[field] = FIELDS[field](value, labels)
        except ValueError as error:
            errors.append({"field": field[:SHOWN], "value": str(value)[:SHOWN], "detail": str(error)})
    if errors:
        detail = "; ".join(f"{item['field']}: {item['detail']}" for item in errors[: len(FIELDS)])
        raise ProtocolError("invalid_subscription", detail, errors[: len(FIELDS)])
    since = chosen.pop("since")
    return Subscribe(Subscription(**chosen), since)


def from_query(query: Mapping[str, str], labels: Sequence[str]) -> Subscribe:
    """The subscription that the parameters of an address ask for; other parameters are nobody's business.

    Raises:
        ProtocolError: at least one parameter is wrong; all of them are named.
    """
    asked: dict[str, object] = {field: value for field, value in query.items() if field in FIELDS}
    for field in {"rankings", "windows", "countries"} & asked.keys():
        text = query[field]
        asked[field] = text if field == "windows" and text in ("latest", "all") else text.split(",")
    return subscribe(asked, labels)


def from_message(text: str, labels: Sequence[str]) -> Subscribe | Literal["ping"]:
    """What a client's message asks for.

    Raises:
        ProtocolError: it is not JSON, of no known type, or a wrong subscription.
    """
    try:
        said = orjson.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ProtocolError("malformed", 'a message must be a JSON object such as {"type":"ping"}')
    kind = said.pop("type", None)
    if kind == "ping":
        return "ping"
    if kind != "subscribe":
        raise ProtocolError("unknown_type", f"type {str(kind)[:SHOWN]!r} is unknown; there are subscribe and ping")
    return subscribe(said, labels)


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


class Allowance:
    """So many messages in `per_s` seconds, counted anew after each."""

    def __init__(self, messages: int, per_s: float) -> None:
        self._messages = messages
        self._per_s = per_s
        self._since = float("-inf")
        self._used = 0

    def take(self, now: float) -> bool:
        """Whether one more message is allowed at `now` (seconds of a clock that never goes back)."""
        if now - self._since >= self._per_s:
            self._since, self._used = now, 0
        self._used += 1
        return self._used <= self._messages


class Places:
    """Open connections: at most `total`, and `per_address` from one client address."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._taken: dict[str, int] = {}
        self._all = 0

    def take(self, address: str) -> str:
        """Take a place, and say '' ; or say why there is none."""
        if self._all >= self._total:
            return f"{self._total} clients are connected, and no more may (API_LIVE_CONNECTIONS)"
        if self._taken.get(address, 0) >= self._per_address:
            return f"{self._per_address} connections of this address are open (API_LIVE_CONNECTIONS_PER_ADDRESS)"
        self._all += 1
        self._taken[address] = self._taken.get(address, 0) + 1
        return ""

    def leave(self, address: str) -> None:
        """Give a place back."""
        self._all -= 1
        self._taken[address] -= 1
        if self._taken[address] == 0:
            del self._taken[address]
