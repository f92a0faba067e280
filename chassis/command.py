"""How a command ends: its exit status, and one line where it could not do its work.

0 done, 1 done with findings (a command says which), 2 not done, 130 interrupted.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec

from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis import clickhouse, kafka, registry
from chassis.clickhouse import StoreUnavailableError, rejection
from chassis.errors import NotDoneError
from chassis.registry import RegistryUnavailableError
from chassis.settings import ClickHouseSettings, KafkaSettings, RegistrySettings, load
from contracts.codec import ContractError, DecodeError

P = ParamSpec("P")

__all__ = ["NotDoneError", "command", "run", "why"]

NOT_DONE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141  # as a shell tells of a command whose reader has gone


ENDS = (
    NotDoneError,
    KafkaError,
    RegistryUnavailableError,
    StoreUnavailableError,
    ServerException,
    ContractError,
    DecodeError,
)


def why(error: Exception) -> str:
    """Which server an error of ENDS is about, where it is and by which settings, and what it says."""
    match error:
        case KafkaError():
            return f"kafka at {load(KafkaSettings).bootstrap} (settings {kafka.SETTING}): {error!r}"
        case RegistryUnavailableError():
            return f"schema registry at {load(RegistrySettings).url} (settings {registry.SETTING}): {error}"
        case StoreUnavailableError():
            return f"clickhouse at {load(ClickHouseSettings).address} (settings {clickhouse.SETTING}): {error}"
        case ServerException():
            store = load(ClickHouseSettings)
            account = "CLICKHOUSE_DB, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD"
            return f"clickhouse at {store.address}, database {store.db} (settings {account}): {rejection(error)}"
        case _:
            return str(error)


def command(name: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """A `main` that returns its exit status, and 2 after one line where it raises one of ENDS."""

    def around(main: Callable[P, int]) -> Callable[P, int]:
        @wraps(main)
        def run_it(*args: P.args, **kwargs: P.kwargs) -> int:
            for library in ("asynch", "aiokafka"):
                logging.getLogger(library).setLevel(
                    logging.CRITICAL
                )  # a server that is unavailable is told once, below
            try:
                return main(*args, **kwargs)
            except ENDS as error:
                sys.stderr.write(f"{name} not done: {why(error)}\n")
                return NOT_DONE

        return run_it

    return around


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command's `main` as the whole process."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # of `... | head`; what is still to be written has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = PIPE_CLOSED
    raise SystemExit(status)
