"""The connection to the API: frames as they come, and again from the same place when it was cut."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tools.watch.transform import Frame, State, parse

OPEN_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
MAX_BYTES = 4 * 1024 * 1024

CUT = (OSError, InvalidHandshake, ConnectionClosed, TimeoutError)  # OSError: rejected, reset, unreachable


def why(error: BaseException) -> str:
    """What happened to the connection, in a few words."""
    match error:
        case ConnectionClosed(rcvd=frame) if frame is not None:
            return f"closed by the API, {frame.code} {frame.reason}".strip()
        case InvalidStatus(response=answer) if answer.status_code == HTTPStatus.UNAUTHORIZED:
            return "it wants another token (setting API_LIVE_TOKEN)"
        case TimeoutError():
            return "no answer in time"
        case _:
            return str(error) or repr(error)


def wait_s(failures: int) -> float:
    """How long to wait before the next attempt: doubling, and partly random, so that clients do not return at once."""
    most: float = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**failures)
    return most * random.uniform(0.5, 1)  # noqa: S311 - no secret


async def frames(url: str, asked: Mapping[str, str], token: str, state: State) -> AsyncGenerator[Frame, None]:
    """The frames of one connection, resumed at the state's place; `token` is shown to the API where there is one.

    Raises:
        OSError | InvalidHandshake | ConnectionClosed | TimeoutError: it failed, was cut, or is silent.
        ValueError: the server sends something else.
    """
    place = {} if state.seq is None else {"since": state.seq}
    query = urlencode({**asked, **place})
    shown = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(
        f"{url}?{query}", additional_headers=shown, open_timeout=OPEN_S, max_size=MAX_BYTES, close_timeout=1
    ) as socket:
        while True:
            async with asyncio.timeout(2 * state.heartbeat_s):
                text = await socket.recv()
            yield parse(text)
