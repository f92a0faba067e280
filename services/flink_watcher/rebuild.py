"""Follows a shadow job, which recomputes everything beside the running one, until it has caught up with the sales."""

import asyncio
from collections.abc import Callable
from time import monotonic

from services.flink_watcher.log import SalesLog
from services.flink_watcher.rest import Flink
from services.flink_watcher.transform import SHADOW_NAME, NotDoneError, progress, reached

CLOSE_S = 60.0
"""Caught up: what was in the log at most so long ago is in a checkpoint of the shadow (it makes one each 10 s)."""

POLL_S = 1.0


class RebuildError(NotDoneError):
    """The rebuild ended without a switch and the old job goes on; the message is the reason."""


async def caught_up(
    flink: Flink, sales: SalesLog, shadow: str, group: str, *, emit: Callable[[str], None], patience_s: float
) -> None:
    """Wait until the shadow has read what is in the log, while sales keep arriving.

    What the group has committed is in a checkpoint, so it is counted already.

    Raises:
        RebuildError: the shadow ended, or came no further within `patience_s` seconds.
        NotDoneError | httpx.TransportError: the broker or Flink does not answer.
    """
    before, moved = -1, monotonic()
    goal, begun = {part.number: part.end for part in await sales.parts(group)}, monotonic()
    while True:
        alive = [job for job in await flink.jobs(SHADOW_NAME) if job.job_id == shadow and job.alive]
        parts = await sales.parts(group)
        now, read = monotonic(), sum(part.read for part in parts)
        if read != before:  # whatever arrives meanwhile
            emit(progress(parts))
            before, moved = read, now
        if reached(parts, goal) and alive and alive[0].running:
            if now - begun <= CLOSE_S:
                return
            # reading it took long: what has arrived meanwhile is the next, smaller goal
            goal, begun, moved = {part.number: part.end for part in parts}, now, now
            continue
        if not alive or now - moved > patience_s:
            what = f"is {alive[0].status} and came no further for {patience_s:g} s" if alive else "has ended"
            failed = (await flink.exceptions(shadow)).partition("\n")[0]
            raise RebuildError(
                f"job {SHADOW_NAME} {shadow} {what} ({progress(parts)}); {failed or 'Flink lists no exception'}"
            )
        await asyncio.sleep(POLL_S)
