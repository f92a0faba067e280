"""What becomes of a batch of records: the one set of rules for every consumer, Faust's agents and the sink alike.

- What an earlier generation of the group fetched is dropped: it comes again, here or at another member.
- Each record becomes something to deliver, a dead letter, or nothing (`Ignored`), and is counted as such.
- If too much of a topic is rejected nothing of the batch is published, and the service halts (chassis/rejections.py).
- Only when everything is delivered, dead letters included, is the batch acknowledged, in order.
- An error that is not a record's fault is raised; the offsets stay and the records come again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chassis import dead_letters
from chassis.dead_letters import attempt_of, dead_letter
from chassis.errors import HaltedError
from chassis.kafka import Record
from chassis.metrics import LEDGER, Metric, Outcome
from chassis.rejections import RejectionGuard, RejectionSettings
from chassis.results import Ignored, Rejected
from chassis.unit import Unit
from contracts.codec import Encoder

HALTED = Metric(
    "placar_consumer_halted",
    "gauge",
    "0 or 1",
    "1 after the unit stopped reading the topic because too many of its records were rejected (REJECTED_*)",
    ("topic",),
    after="the start of a consumer",
)
METRICS = (*LEDGER, HALTED)


@dataclass(frozen=True)
class Batch:
    """Consecutive records of one partition, as aiokafka gives them, and the group generation that fetched them."""

    tp: Any
    """Topic and partition, Faust's or aiokafka's."""
    generation: int
    records: Sequence[Any]


class Source(Protocol):
    """Where batches come from: a member of a consumer group."""

    @property
    def generation(self) -> int:
        """Which of the group's assignments this member has now; another one after each rebalance."""

    async def acknowledge(self, batches: Sequence[Batch]) -> None:
        """The batches are processed: commit their offsets, unless the group was rebalanced since they were fetched."""


class Handler(Protocol):
    """What one kind of consumer does with the messages of its topic."""

    async def process(self, messages: Sequence[Any]) -> Sequence[Any]:
        """For each message, in order, Rejected, Ignored or whatever `deliver` takes; changes nothing outside."""

    async def deliver(self, processed: Sequence[Any], rejected: Sequence[Record]) -> None:
        """Return when all that was processed and the dead letters of the rejected are where they must be."""


class BatchConsumer:
    """Handles the batches of one topic, with a handler's two steps."""

    def __init__(
        self, unit: Unit, topic: str, handler: Handler, rejections: RejectionSettings, encode_dead_letter: Encoder
    ) -> None:
        self._unit = unit
        self._topic = topic
        self._handler = handler
        self._guard = RejectionGuard(topic, rejections)
        self._encode_dead_letter = encode_dead_letter
        unit.metrics[HALTED].set({"topic": topic}, 0)

    async def handle(self, batches: Sequence[Batch], source: Source) -> int:
        """Process, deliver and acknowledge; returns how many records that were.

        Raises:
            HaltedError: too much of the topic is rejected.
            Exception: whatever else kept the batches from being processed.
        """
        current = [batch for batch in batches if batch.generation == source.generation]
        messages = [message for batch in current for message in batch.records]
        if not messages:
            return 0
        topic, metrics = self._topic, self._unit.metrics
        metrics.record(topic, "received", len(messages))
        metrics.in_flight(topic, len(messages))
        results = await self._handler.process(messages)
        try:
            self._guard.check(messages, results)
        except HaltedError:
            metrics[HALTED].set({"topic": topic}, 1)
            raise
        rejected = [(m, r) for m, r in zip(messages, results, strict=True) if isinstance(r, Rejected)]
        await self._handler.deliver(
            [result for result in results if not isinstance(result, Rejected | Ignored)], self._dead_letters(rejected)
        )
        await source.acknowledge(current)
        self._account(results)
        metrics.in_flight(topic, -len(messages))
        return len(messages)

    def _dead_letters(self, rejected: Sequence[tuple[Any, Rejected]]) -> list[Record]:
        """The dead letters of these messages; a dead letter about a dead letter would never end, so that is logged."""
        if self._topic == dead_letters.TOPIC:
            for message, result in rejected:
                self._unit.log.warning(
                    "record_rejected",
                    topic=self._topic,
                    partition=message.partition,
                    offset=message.offset,
                    reason=result.reason,
                    detail=result.detail,
                )
            return []
        return [
            dead_letter(
                self._encode_dead_letter,
                self._unit.name,
                result,
                topic=message.topic,
                key=message.key,
                value=message.value,
                partition=message.partition,
                offset=message.offset,
                attempt=attempt_of(message.headers),
            )
            for message, result in rejected
        ]

    def _account(self, results: Sequence[Any]) -> None:
        """Enter what became of a batch."""
        topic, metrics = self._topic, self._unit.metrics
        rejection: Outcome = "ignored" if topic == dead_letters.TOPIC else "dead_letter"
        for kind, count in Counter(map(type, results)).items():
            metrics.record(topic, {Rejected: rejection, Ignored: "ignored"}.get(kind, "published"), count)
        if rejection == "dead_letter":
            for result in results:
                if isinstance(result, Rejected):
                    metrics.dead_letter(topic, result.reason)
