"""`python -m tools.watch [--once]`: ends with status 0, or with 2 and one line where the API is down or rejects."""

import argparse
import asyncio
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from rich.console import Console
from rich.live import Live

from chassis.command import NotDoneError, command, run
from chassis.settings import Name, Port, load
from tools.watch.client import CUT, frames, wait_s, why
from tools.watch.transform import RejectedError, State, heard
from tools.watch.view import screen

NAME = "watch"
PATH = "/api/v1/sales/live"
PLAIN_WIDTH = 160
REDRAW_S = 1.0  # how old "2 s ago" may get


class WatchSettings(BaseSettings):
    """Where the API listens, and what it wants to be shown."""

    host: Name = Field("127.0.0.1", validation_alias="BIND_HOST")
    port: Port = Field(8080, validation_alias="API_PORT")
    token: SecretStr = Field(SecretStr(""), validation_alias="API_LIVE_TOKEN")


class AwayError(Exception):
    """The API could not be reached at all; the message says why."""


def _url(text: str) -> str:
    parts = urlsplit(text)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.netloc:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not an address such as http://127.0.0.1:8080")
    return urlunsplit((schemes[parts.scheme], parts.netloc, parts.path.rstrip("/") + PATH, "", ""))


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with a message and status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog=NAME, description="The live rankings in the terminal; q or Ctrl-C ends it.")
    parser.add_argument("--once", action="store_true", help="print the current rankings and end; so without a terminal")
    parser.add_argument("--url", type=_url, help="address of the API (http://BIND_HOST:API_PORT)")
    parser.add_argument("--length", help="length of the windows, one of RANKING_WINDOWS (the first)")
    parser.add_argument("--country", default="BR", help="salespeople of this country (BR)")
    return parser.parse_args(given)


async def once(url: str, asked: Mapping[str, str], token: str, state: State) -> None:
    """Take in everything up to the first snapshot.

    Raises:
        RejectedError | ValueError: the API rejects, or sends something else.
    """
    async with aclosing(frames(url, asked, token, state)) as received:
        async for frame in received:
            heard(state, frame, time.monotonic())
            if state.phase == "live":
                return


async def follow(url: str, asked: Mapping[str, str], token: str, state: State, changed: asyncio.Event) -> None:
    """Take in frames for ever, over as many connections as it takes; sets `changed` at each.

    Raises:
        AwayError: the first attempt fails.
        RejectedError | ValueError: the API rejects, or sends something else.
    """
    failures = 0
    while True:
        try:
            async with aclosing(frames(url, asked, token, state)) as received:
                async for frame in received:
                    heard(state, frame, time.monotonic())
                    failures = 0 if state.phase == "live" else failures
                    changed.set()
        except CUT as error:
            if state.seq is None:
                raise AwayError(why(error)) from error
            state.phase, state.why = "reconnecting", why(error)
            changed.set()
            await asyncio.sleep(wait_s(failures))
            failures += 1


@contextmanager
def _keys() -> Iterator[None]:
    """Keys arrive at once and are not shown, while the context lasts."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def watch(url: str, asked: Mapping[str, str], token: str, state: State, console: Console) -> None:
    """Show the rankings until q or Ctrl-C.

    Raises:
        AwayError | RejectedError | ValueError: see follow().
    """
    loop, changed, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    place = urlsplit(url).netloc
    loop.add_signal_handler(signal.SIGINT, ended.set)

    def key() -> None:
        if sys.stdin.read(1) in ("q", "Q", ""):
            ended.set()

    if sys.stdin.isatty():
        loop.add_reader(sys.stdin, key)
    following = asyncio.create_task(follow(url, asked, token, state, changed))
    ending = asyncio.create_task(ended.wait())
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not (following.done() or ending.done()):
                live.update(screen(state, time.monotonic(), place, console.width), refresh=True)
                changed.clear()
                news = asyncio.create_task(changed.wait())
                await asyncio.wait({news, following, ending}, timeout=REDRAW_S, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
    finally:
        ending.cancel()
        if sys.stdin.isatty():
            loop.remove_reader(sys.stdin)
        loop.remove_signal_handler(signal.SIGINT)
    if following.done():
        following.result()
    following.cancel()


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Show the rankings, and return the exit status."""
    asked, settings = arguments(given), load(WatchSettings)
    url = asked.url or _url(f"http://{settings.host}:{settings.port}")
    parameters = {"countries": asked.country} | ({"length": asked.length} if asked.length else {})
    state, token = State(time.monotonic()), settings.token.get_secret_value()
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else PLAIN_WIDTH)
    try:
        if asked.once or not terminal:
            asyncio.run(once(url, parameters, token, state))
            console.print(screen(state, time.monotonic(), urlsplit(url).netloc, console.width))
        else:
            with _keys():
                asyncio.run(watch(url, parameters, token, state, console))
    except (AwayError, *CUT) as error:
        told = str(error) if isinstance(error, AwayError) else why(error)
        place = f"the API at {urlsplit(url).netloc} (settings BIND_HOST, API_PORT, or --url)"
        raise NotDoneError(f"{place} does not answer: {told}") from error
    except (RejectedError, ValueError) as error:
        raise NotDoneError(f"the API at {urlsplit(url).netloc} rejects: {error}") from error
    return 0


if __name__ == "__main__":
    run(main)
