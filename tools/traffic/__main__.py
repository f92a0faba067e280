"""`python -m tools.traffic [seed [--initial]] [--rate R] [--seed N] [--count N] [--sources a,b]`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import cast

from chassis import logs
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.settings import load
from chassis.unit import Unit
from tools.traffic.app import UnreachableError, keep_selling, seed
from tools.traffic.settings import TrafficSettings
from tools.traffic.transform import SOURCES, Source


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 10000 sales a second")
    return value


def _sources(text: str) -> tuple[Source, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in SOURCES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(SOURCES)}")
    return cast("tuple[Source, ...]", names)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process with a message where it is wrong."""
    parser = argparse.ArgumentParser(prog="traffic", description=__doc__)
    parser.add_argument("--rate", type=_rate, default=20.0, help="sales a second (20)")
    parser.add_argument("--seed", type=int, help="the same seed sells the same sales")
    parser.add_argument("--count", type=int, help="stop after so many")
    parser.add_argument("--sources", type=_sources, default=SOURCES, help="postgres,files,legacy")
    commands = parser.add_subparsers(dest="command")
    once = commands.add_parser("seed", help="add some sales and files once")
    once.add_argument("--initial", action="store_true", help="only where there are none")
    return parser.parse_args(given)


async def _main(asked: argparse.Namespace, settings: TrafficSettings) -> None:
    unit = Unit("traffic", logs.configure("traffic", settings.log_level), Metrics("traffic"), Readiness())
    if asked.command == "seed":
        await seed(unit, settings, initial=asked.initial)
        return
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    selling = asyncio.create_task(
        keep_selling(
            unit,
            settings,
            rate=asked.rate,
            run_seed=asked.seed,
            limit=asked.count,
            sources=asked.sources,
            stopped=stop.is_set,
        )
    )

    def interrupt() -> None:
        if stop.is_set():  # asked twice: a server that is unavailable must not hold us
            selling.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    await selling


if __name__ == "__main__":
    try:
        asyncio.run(_main(arguments(), load(TrafficSettings)))
    except UnreachableError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    except asyncio.CancelledError:
        raise SystemExit(130) from None
