"""When so many records of a topic are rejected that something else than the records must be wrong. No I/O."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.errors import HaltedError
from chassis.results import Rejected
from contracts.reasons import remedy
from contracts.text import shortened


class RejectionSettings(BaseSettings):
    """Environment variables REJECTED_*: how much of a topic may be rejected; 0 of either limit turns it off.

    `share_max` is the part of the last `window` records, `run_max` the number of records one after the other.
    """

    model_config = SettingsConfigDict(env_prefix="REJECTED_")
    share_max: Annotated[float, Field(ge=0, le=1)] = 0.5
    window: Annotated[int, Field(ge=1)] = 20_000
    run_max: Annotated[int, Field(ge=0)] = 10_000


class RejectionGuard:
    """Counts what of one topic is rejected, and says when it is too much."""

    def __init__(self, topic: str, settings: RejectionSettings) -> None:
        self._topic = topic
        self._settings = settings
        self._run = 0
        self._window: deque[tuple[int, int]] = deque()  # records and how many of them were rejected, batch by batch
        self._records = 0
        self._rejected = 0

    def check(self, messages: Sequence[Any], results: Sequence[Any]) -> None:
        """Count a batch, each message with its result, before anything that it became is published.

        Raises:
            HaltedError: too much is rejected, the batch included.
        """
        rejected = [isinstance(result, Rejected) for result in results]
        self._enter(len(rejected), sum(rejected))
        longest = self._longest_run(rejected)
        share = self._rejected / self._records if self._records >= self._settings.window else 0.0
        if self._settings.run_max and longest >= self._settings.run_max:
            raise self._halted(f"{longest} records in a row", "REJECTED_RUN_MAX", messages, results)
        if self._settings.share_max and share > self._settings.share_max:
            much = f"{share:.0%} of the last {self._records} records"
            raise self._halted(much, "REJECTED_SHARE_MAX", messages, results)

    def _enter(self, records: int, rejected: int) -> None:
        self._window.append((records, rejected))
        self._records += records
        self._rejected += rejected
        while self._records - self._window[0][0] >= self._settings.window:
            oldest, oldest_rejected = self._window.popleft()
            self._records -= oldest
            self._rejected -= oldest_rejected

    def _longest_run(self, rejected: Sequence[bool]) -> int:
        if not any(rejected):
            self._run = 0
            return 0
        longest = 0
        for each in rejected:
            self._run = self._run + 1 if each else 0
            longest = max(longest, self._run)
        return longest

    def _halted(self, much: str, setting: str, messages: Sequence[Any], results: Sequence[Any]) -> HaltedError:
        pairs = [(m, r) for m, r in zip(messages, results, strict=True) if isinstance(r, Rejected)]
        ((reason, count),) = Counter(result.reason for _, result in pairs).most_common(1)
        sample, result = next((m, r) for m, r in pairs if r.reason == reason)
        return HaltedError(
            f"topic {self._topic}: {much} rejected; of this batch {count} of {len(results)} as {reason}, such as "
            f"partition {sample.partition} offset {sample.offset} ({shortened(result.detail, 160)}). Nothing of the "
            f"batch is published, its offsets stay. Correct the deployment or the producer that is wrong "
            f"({remedy(reason)}) and restart; {setting}=0 dead-letters the records instead"
        )
