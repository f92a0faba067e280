"""Looks at the connector and does what its status asks for: once until it runs, or for ever."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx
import structlog
from openlineage.client.event_v2 import RunState

from chassis.lineage import Failure, WatchedJob
from chassis.unit import Unit
from services.connect_watcher import source
from services.connect_watcher.connect import Connect, RejectedError
from services.connect_watcher.metrics import INTERVENTIONS, RUNNING
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import Verdict, hide, verdict

SETTING = "CONNECT_HOST, CONNECT_PORT"


class NotRunningError(Exception):
    """The connector did not run before the deadline; the message is Connect's reason."""


async def look(connect: Connect, wanted: Mapping[str, str]) -> Verdict:
    """One look, and what it asks for done: a missing connector created, a failed one restarted.

    Raises:
        RejectedError: Connect rejected what was asked of it.
        httpx.TransportError: Connect is unavailable.
    """
    found = verdict(await connect.status())
    if found.action == "create":
        await connect.configure(wanted)
    elif found.action == "restart":
        await connect.restart()
    return found


def _source(wanted: Mapping[str, str]) -> tuple[str, str]:
    """The names of slot and publication."""
    return wanted["slot.name"], wanted["publication.name"]


async def deploy(
    connect: Connect, wanted: Mapping[str, str], settings: WatcherSettings, log: structlog.stdlib.BoundLogger
) -> None:
    """Give the connector this configuration and return when connector and task run; again while Connect is not ready.

    Raises:
        NotRunningError: not before the deadline.
    """
    why = "nothing answered yet"
    secrets = [settings.postgres.password.get_secret_value()]
    try:
        async with asyncio.timeout(settings.deadline_s):
            configured = False
            while True:
                try:
                    if not configured:
                        changed = await connect.configure(wanted)
                        configured = True
                        log.info("configured", connector=settings.connector, changed=changed)
                    found = await look(connect, wanted)
                    if found.action == "none":
                        return
                    said = "; ".join(
                        filter(None, (await source.trouble(settings.postgres, *_source(wanted)), found.why))
                    )
                except RejectedError as error:
                    said = str(error)
                except httpx.TransportError as error:
                    said = f"kafka connect at {settings.connect.url} (setting {SETTING}) is unreachable: {error!r}"
                said = hide(said, secrets)
                if said != why:
                    log.warning("not_running_yet", connector=settings.connector, reason=said)
                why = said
                await asyncio.sleep(1.0)
    except TimeoutError:
        raise NotRunningError(
            f"connector {settings.connector} does not run after {settings.deadline_s:g} s: {why}"
        ) from None


async def tell(job: WatchedJob, found: Verdict, why: str, *, runs: bool) -> None:
    """Lineage: a run of the connector lasts while it is seen to run, and is silent while its source is not in order."""
    if runs:
        await job.seen(running=True)
    elif found.action == "restart":
        job.ended(RunState.FAIL, Failure(why, "java"))
    elif found.action == "create":
        job.ended(RunState.ABORT, Failure(why, "java"))


async def watch(
    unit: Unit,
    settings: WatcherSettings,
    connect: Connect,
    wanted: Mapping[str, str],
    *,
    job: WatchedJob | None = None,
) -> None:
    """Look every interval until cancelled; ready exactly while connector and task run and the source is in order.

    `job` tells of the connector's runs.
    """
    try:
        await _watch(unit, settings, connect, wanted, job=job)
    finally:
        if job is not None:  # whoever watches next begins a run of its own
            job.ended(RunState.COMPLETE)


async def _watch(
    unit: Unit, settings: WatcherSettings, connect: Connect, wanted: Mapping[str, str], *, job: WatchedJob | None
) -> None:
    secrets: Sequence[str] = [settings.postgres.password.get_secret_value()]
    need = f"connector {settings.connector}"
    running: bool | None = None

    async def attempt() -> Verdict:
        try:
            return await look(connect, wanted)
        except httpx.TransportError:
            unit.metrics[RUNNING].set({}, 0)
            raise

    while True:
        try:
            found = await unit.connect("kafka connect", settings.connect.url, SETTING, attempt, httpx.TransportError)
        except RejectedError as error:
            found = Verdict("wait", str(error))
        wrong = await source.trouble(settings.postgres, *_source(wanted))
        why = hide("; ".join(filter(None, (wrong, found.why))), secrets)
        runs = found.action == "none" and not wrong
        unit.metrics[RUNNING].set({}, int(runs))
        if runs:
            unit.readiness.met(need)
        else:
            unit.readiness.waiting(need, why)
        if found.action in ("create", "restart"):
            unit.metrics[INTERVENTIONS].inc({"action": found.action})
            unit.log.warning("intervened", connector=settings.connector, action=found.action, reason=why)
        elif running != runs:
            unit.log.info("connector_state", connector=settings.connector, state=why)
        running = runs
        if job is not None:
            await tell(job, found, why, runs=runs)
        await asyncio.sleep(settings.interval_s)
