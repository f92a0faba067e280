"""The connection to the API, resumed at its position when it was cut, and the terminal that shows what comes."""

import asyncio
import random
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit, urlunsplit

import typer
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from rich.console import RenderableType
from rich.live import Live
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from chassis.errors import NotDoneError
from chassis.settings import Name, Port, load
from contracts.text import quoted
from tools.table import console
from tools.watch.transform import RejectedError, State, apply, parse
from tools.watch.view import screen

OPEN_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
MAX_BYTES = 4 * 1024 * 1024
REDRAW_S = 1.0  # how old "2 s ago" may get

URL = "http://127.0.0.1:8080"
PATH = "/api/v1/sales/live"
SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
CUT = (OSError, InvalidHandshake, ConnectionClosed, TimeoutError)  # OSError: rejected, reset, unreachable


class WatchSettings(BaseSettings):
    """Where the API listens, and what it wants to be shown."""

    host: Name = Field("127.0.0.1", validation_alias="BIND_HOST")
    port: Port = Field(8080, validation_alias="API_PORT")
    token: SecretStr = Field(SecretStr(""), validation_alias="API_LIVE_TOKEN")


@dataclass(frozen=True)
class Subscription:
    """The address of the live stream, the parameters of the subscription, and the token, where the API wants one."""

    url: str
    parameters: Mapping[str, str]
    token: str = ""

    @property
    def address(self) -> str:
        """host:port, as people know the API."""
        return urlsplit(self.url).netloc


def live_url(text: str) -> str:
    """The address of the live stream of the API at an address.

    Raises:
        typer.BadParameter: it is no address.
    """
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise typer.BadParameter(f"{quoted(text)} is not an address such as {URL}", param_hint="--url")
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") + PATH, "", ""))


def why(error: BaseException) -> str:
    """What happened to the connection, in a few words."""
    match error:
        case ConnectionClosed(rcvd=frame) if frame is not None:
            return f"closed by the API, {frame.code} {frame.reason}".strip()
        case InvalidStatus(response=response) if response.status_code == HTTPStatus.UNAUTHORIZED:
            return "it wants another token (setting API_LIVE_TOKEN)"
        case TimeoutError():
            return "no answer in time"
        case _:
            return str(error) or repr(error)


def wait_s(failures: int) -> float:
    """How long to wait before the next attempt: doubling, and partly random, so that clients do not return at once."""
    most: float = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**failures)
    return most * random.uniform(0.5, 1)  # noqa: S311 - no secret


def connection(subscription: Subscription, seq: str | None) -> connect:
    """A connection that goes on after `seq`; the token travels in a header, which no log keeps."""
    query = urlencode({**subscription.parameters, **({} if seq is None else {"since": seq})})
    headers = {"Authorization": f"Bearer {subscription.token}"} if subscription.token else {}
    return connect(
        f"{subscription.url}?{query}",
        additional_headers=headers,
        open_timeout=OPEN_S,
        max_size=MAX_BYTES,
        close_timeout=1,
    )


async def follow(
    subscription: Subscription, state: State, on_change: Callable[[], object], *, once: bool = False
) -> None:
    """Take in frames for ever, over as many connections as it takes; with `once` up to the first snapshot.

    Raises:
        NotDoneError: the first attempt fails, the API rejects the subscription, or sends something else.
    """
    failures = 0
    while True:
        try:
            async with connection(subscription, state.seq) as socket:
                while not (once and state.phase == "live"):
                    async with asyncio.timeout(2 * state.heartbeat_s):
                        text = await socket.recv()
                    apply(state, parse(text), time.monotonic())
                    failures = 0 if state.phase == "live" else failures
                    on_change()
                return
        except CUT as error:
            if state.seq is None:
                settings = "settings BIND_HOST, API_PORT, or --url"
                message = f"the API at {subscription.address} ({settings}) does not answer: {why(error)}"
                raise NotDoneError(message) from error
            state.phase, state.why = "reconnecting", why(error)
            on_change()
            await asyncio.sleep(wait_s(failures))
            failures += 1
        except (RejectedError, ValueError) as error:
            raise NotDoneError(f"the API at {subscription.address} rejects: {error}") from error


@contextmanager
def _quit_key(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` when q is pressed, while the context lasts; keys are not echoed meanwhile."""
    if not sys.stdin.isatty():
        yield
        return
    loop, before = asyncio.get_running_loop(), termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    loop.add_reader(sys.stdin, lambda: end() if sys.stdin.read(1) in ("q", "Q", "") else None)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def watch(subscription: Subscription, *, once: bool) -> None:
    """Show the rankings until q is pressed, or print the current ones `once`.

    Raises:
        NotDoneError: see follow().
    """
    state, out = State(time.monotonic()), console()

    def current() -> RenderableType:
        return screen(state, time.monotonic(), subscription.address, out.width)

    if once:
        await follow(subscription, state, lambda: None, once=True)
        out.print(current())
        return
    with Live(get_renderable=current, console=out, screen=True, auto_refresh=False) as live:
        following = asyncio.create_task(follow(subscription, state, live.refresh))
        with _quit_key(following.cancel):
            while not following.done():
                live.refresh()
                await asyncio.wait({following}, timeout=REDRAW_S)
    with suppress(asyncio.CancelledError):  # by q
        await following


def run(url: str | None, length: str | None, country: str, *, once: bool) -> int:
    """Watch the API at `url` (that of the settings), and return the exit status."""
    settings = load(WatchSettings)
    address = live_url(url or f"http://{settings.host}:{settings.port}")
    parameters = {"countries": country} | ({"length": length} if length else {})
    subscription = Subscription(address, parameters, settings.token.get_secret_value())
    once = once or not sys.stdout.isatty()
    try:
        asyncio.run(watch(subscription, once=once))
    except KeyboardInterrupt:
        if once:
            raise
    return 0  # Ctrl-C is how watching ends
