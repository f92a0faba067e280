"""The life of a process: settings, logs, operations port, lineage, signals, exit status."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import tenacity

from chassis import logs, ops
from chassis.datasets import Datasets
from chassis.errors import CannotRunError, HaltedError
from chassis.lineage import Events, unit_run
from chassis.metrics import EVERY, Metric, Metrics
from chassis.ops import Readiness
from chassis.settings import UnitSettings, load
from contracts.codec import ContractError

T = TypeVar("T")
S = TypeVar("S", bound=UnitSettings)

STOP_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Unit:
    """What the chassis gives to a unit's `app.main`; `lineage` takes what it tells of jobs other than itself."""

    name: str
    log: structlog.stdlib.BoundLogger
    metrics: Metrics
    readiness: Readiness
    lineage: Events | None = None

    async def connect(
        self,
        server: str,
        address: str,
        setting: str,
        attempt: Callable[[], Awaitable[T]],
        retry_on: type[BaseException] | tuple[type[BaseException], ...],
    ) -> T:
        """Try until `server` answers, not ready until it does; otherwise as `retry_until_available`."""
        self.readiness.waiting(server, f"connecting to {address} (setting {setting})")
        result = await self.retry_until_available(server, address, setting, attempt, retry_on)
        self.readiness.met(server)
        return result

    async def retry_until_available(
        self,
        server: str,
        address: str,
        setting: str,
        attempt: Callable[[], Awaitable[T]],
        retry_on: type[BaseException] | tuple[type[BaseException], ...],
        *,
        longest_s: float = 10,
    ) -> T:
        """Try until `server` answers, with pauses up to `longest_s` seconds; not ready from the first failure on.

        Each failure is logged with the address and the setting that decides it; errors outside `retry_on` are raised.
        """

        def report(state: tenacity.RetryCallState) -> None:
            error = repr(state.outcome.exception() if state.outcome else None)[:500]
            why = f"{server} at {address} (setting {setting}) is unreachable: {error}"
            self.readiness.waiting(server, why)
            self.metrics.connection_failed(server)
            self.log.warning("unreachable", server=server, address=address, setting=setting, error=error)

        retrying = tenacity.AsyncRetrying(
            wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=longest_s),
            retry=tenacity.retry_if_exception_type(retry_on),
            before_sleep=report,
        )

        async def once() -> T:  # a coroutine function, whatever `attempt` is: tenacity awaits no other
            return await attempt()

        result: T = await retrying(once)
        if retrying.statistics["attempt_number"] > 1:
            self.readiness.met(server)
        return result


async def cancellable(work: Coroutine[Any, Any, None], patience_s: float = 1.0) -> None:
    """Run `work`, and when cancelled cancel it every `patience_s` seconds until it has ended.

    For endless loops over libraries: in Python 3.11 `asyncio.wait_for`, which they use, may swallow one cancellation.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=patience_s)


async def _until_stopped(unit: Unit, settings: S, main: Callable[[Unit, S], Awaitable[None]]) -> None:
    """Run `main`; where it halts, stay until cancelled, not ready with its reason."""
    try:
        await main(unit, settings)
    except HaltedError as error:
        unit.log.error("halted", error=str(error))  # noqa: TRY400 - the message is the remedy
        for need in unit.readiness.missing:  # it waits for nothing any more
            unit.readiness.met(need)
        unit.readiness.waiting("halted", str(error))
        await asyncio.Event().wait()


async def _live(
    unit: Unit, events: Events, settings: S, main: Callable[[Unit, S], Awaitable[None]], datasets: Datasets
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with (
        ops.serve(settings.bind_host, settings.ops_port, unit.readiness, unit.metrics),
        events.sending(),
        unit_run(events, unit.name, datasets, unit.metrics),
    ):
        work = asyncio.create_task(_until_stopped(unit, settings, main))
        unit.readiness.met("start")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        unit.readiness.waiting("start", "stopping")
        while not work.done():  # once may not be enough: Python 3.11's asyncio.wait_for can swallow a cancellation
            work.cancel()
            await asyncio.wait({work}, timeout=STOP_PATIENCE_S)
        try:
            await work
        except asyncio.CancelledError:
            unit.log.info("stopped")


def run_unit(
    name: str,
    settings_type: type[S],
    main: Callable[[Unit, S], Awaitable[None]],
    datasets: Callable[[S], Datasets] = lambda _: Datasets(),
    metrics: Collection[Metric] = (),
) -> None:
    """Run `main` until it ends or SIGTERM/SIGINT cancels it.

    `main` must release what it holds when it is cancelled; `metrics` are those it has besides what all have.
    Exit status: 0 clean stop, 1 failed, 2 wrong setting.
    """
    settings = load(settings_type)
    log = logs.configure(name, settings.log_level)
    own = Metrics(name, (*EVERY, *metrics))
    events = Events(settings.lineage, name, own, log)
    unit = Unit(name, log, own, Readiness(own), events)
    log.info("starting", ops_port=settings.ops_port)
    try:
        asyncio.run(_live(unit, events, settings, main, datasets(settings)))
    except (CannotRunError, ContractError) as error:
        log.error("cannot_run", error=str(error))  # noqa: TRY400 - the message is the remedy; a traceback would bury it
        raise SystemExit(1) from None
    except Exception as error:
        log.exception("failed", error=repr(error))
        raise SystemExit(1) from None
