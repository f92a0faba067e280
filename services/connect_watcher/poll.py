"""Reconciles the connector with its configuration: once until it runs, or for ever."""

import asyncio
from collections.abc import Mapping

import httpx
import structlog
from openlineage.client.event_v2 import RunState

from chassis.lineage import Failure, WatchedJob
from chassis.ops import needs_operator
from chassis.unit import Unit
from services.connect_watcher import source
from services.connect_watcher.connect import Connect, RejectedError
from services.connect_watcher.metrics import INTERVENTIONS, RUNNING
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import Verdict, hide, verdict

SETTING = "CONNECT_HOST, CONNECT_PORT"
# what lineage says of a run that ended: the action that followed -> the state of the run
ENDED = {"restart": RunState.FAIL, "create": RunState.ABORT}


class NotRunningError(Exception):
    """The connector did not run before the deadline; the message is Connect's reason."""


async def reconcile(connect: Connect, wanted: Mapping[str, str]) -> Verdict:
    """Ask for the status once and act on it: create a missing connector, restart a failed one.

    Raises:
        RejectedError: Connect rejected what was asked of it.
        httpx.TransportError: Connect is unavailable.
    """
    current = verdict(await connect.status())
    if current.action == "create":
        await connect.configure(wanted)
    elif current.action == "restart":
        await connect.restart()
    return current


async def _trouble(settings: WatcherSettings, wanted: Mapping[str, str]) -> str:
    """What is wrong with the source; empty where nothing is."""
    return await source.trouble(settings.postgres, wanted["slot.name"], wanted["publication.name"])


async def deploy(
    connect: Connect, wanted: Mapping[str, str], settings: WatcherSettings, log: structlog.stdlib.BoundLogger
) -> None:
    """Give the connector this configuration and return when connector and task run; retry while Connect is not ready.

    Raises:
        NotRunningError: not before the deadline; at once where the operator must run a task.
    """
    reported = "nothing answered yet"
    configured = False
    try:
        async with asyncio.timeout(settings.deadline_s):
            while True:
                try:
                    if not configured:
                        changed = await connect.configure(wanted)
                        configured = True
                        log.info("configured", connector=settings.connector, changed=changed)
                    current = await reconcile(connect, wanted)
                    if current.action == "none":
                        return
                    why = "; ".join(filter(None, (await _trouble(settings, wanted), current.why)))
                except RejectedError as error:
                    why = str(error)
                except httpx.TransportError as error:
                    why = f"kafka connect at {settings.connect.url} (setting {SETTING}) is unreachable: {error!r}"
                why = hide(why, settings.secret)
                if why != reported:
                    log.warning("not_running_yet", connector=settings.connector, reason=why)
                reported = why
                if needs_operator(why):
                    raise NotRunningError(f"connector {settings.connector} does not run: {why}")
                await asyncio.sleep(1.0)
    except TimeoutError:
        raise NotRunningError(
            f"connector {settings.connector} does not run after {settings.deadline_s:g} s: {reported}"
        ) from None


async def watch(
    unit: Unit,
    settings: WatcherSettings,
    connect: Connect,
    wanted: Mapping[str, str],
    *,
    job: WatchedJob | None = None,
) -> None:
    """Reconcile every interval until cancelled; ready exactly while connector and task run and the source is in order.

    `job` reports the connector's runs to lineage: a run lasts while the connector runs and its source is in order.
    """
    need = f"connector {settings.connector}"
    running: bool | None = None

    async def attempt() -> Verdict:
        try:
            return await reconcile(connect, wanted)
        except httpx.TransportError:
            unit.metrics[RUNNING].set({}, 0)
            raise

    try:
        while True:
            try:
                now = await unit.retry_until_available(
                    "kafka connect", settings.connect.url, SETTING, attempt, httpx.TransportError
                )
            except RejectedError as error:
                now = Verdict("wait", str(error))
            trouble = await _trouble(settings, wanted)
            why = hide("; ".join(filter(None, (trouble, now.why))), settings.secret)
            runs = now.action == "none" and not trouble
            unit.metrics[RUNNING].set({}, int(runs))
            if runs:
                unit.readiness.met(need)
            else:
                unit.readiness.waiting(need, why)
            if now.action in ENDED:
                unit.metrics[INTERVENTIONS].inc({"action": now.action})
                unit.log.warning("intervened", connector=settings.connector, action=now.action, reason=why)
            elif running != runs:
                unit.log.info("connector_state", connector=settings.connector, state=why)
            running = runs
            if job is not None and runs:
                await job.seen(running=True)
            elif job is not None and now.action in ENDED:
                job.ended(ENDED[now.action], Failure(why, "java"))
            await asyncio.sleep(settings.interval_s)
    finally:
        if job is not None:  # the next watcher begins a run of its own
            job.ended(RunState.COMPLETE)
