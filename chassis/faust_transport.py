"""Faust's Kafka transport with one difference: records go to the agent in the batches in which they were fetched.

Faust hands over one record at a time, with a race of four tasks for each, and that is most of what a worker costs. Here
the agent's channel holds a few `Batch`es. Group membership, rebalances, seeks and commits stay Faust's. What else
differs, because a record would be lost or a commit would never come:

- Gaps in the offsets (compaction, control records) end before the record that shows them. Faust's include it, so it
  stands twice among the acknowledged ones and every commit ends there; one right after offset 0 is not seen at all.
- A seek back to the committed offsets takes a partition without one back to its beginning; Faust leaves it where it is,
  behind records that it has just thrown away.
- Records of aborted transactions are not delivered (`read_committed`).
- Faust's watch for partitions that stand still does not end the worker where a seek has not found its position yet.
- While records come the broker gathers them for up to a tenth of a second, so that they come in fewer batches.
- An acknowledgement from before a rebalance counts for nothing; the records come again.
- Nothing is delivered from the beginning of a rebalance's seek until the flow is resumed, which empties the channels.
  Faust stops the flow earlier, when partitions are revoked, but not of a worker that has none, and a rebalance that
  overtakes another finds it resumed.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.tables import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock

from chassis.batches import Batch
from chassis.kafka import gather

FETCH_WAIT_S = 1.0


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread around aiokafka's consumer, which reads committed records only."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust offers it only together with transactions of its own
        return consumer

    async def _fetch_records(self, consumer: AIOKafkaConsumer, *args: Any, **options: Any) -> Any:
        """What is fetched; from the first record on the broker gathers more, until a fetch brings none."""
        records = await super()._fetch_records(consumer, *args, **options)
        gather(consumer, coming=bool(records))
        return records

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Report a partition that stands still; one whose position is still being looked up after a seek does not."""
        with suppress(AssertionError):  # aiokafka asserts that it has a position
            super().verify_event_path(now, tp)


class Consumer(driver.Consumer):
    """Puts `Batch`es into the channels of the agents, and takes acknowledgements of whole batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._room = asyncio.Event()
        self._room.set()
        self._stops = 0  # of the flow: what was fetched before the newest must not be delivered

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def stop_flow(self) -> None:
        """Deliver nothing until the flow is resumed, and then nothing that was fetched before."""
        super().stop_flow()
        self._stops += 1

    async def perform_seek(self) -> None:
        """Stop the flow and seek back, at the end of a rebalance; Faust resumes the flow then."""
        self.stop_flow()
        self.app.flow_control.suspend()
        await self._seek_back()

    async def _seek_back(self) -> None:
        """Seek every partition to its committed offset, or to its beginning where it has none."""
        await super().perform_seek()
        self._gap.clear()  # what lies behind is read again, gaps included
        fresh = [tp for tp in self.assignment() if not self._committed_offset[tp]]
        if fresh:
            await self._thread.seek_to_beginning(*(TopicPartition(*tp) for tp in fresh))
            self._read_offset.update(dict.fromkeys(fresh))

    @property
    def generation(self) -> int:
        """The group's generation."""
        generation: int = self.app.consumer_generation_id
        return generation

    async def acknowledge(self, batches: Sequence[Batch]) -> None:
        """The batches are processed: Faust may commit their offsets, unless the group was rebalanced meanwhile."""
        for batch in batches:
            if batch.generation != self.generation:
                continue
            tp = batch.tp
            with ack_lock:
                committed, index = self._committed_offset[tp] or 0, self._acked_index[tp]
                offsets = [record.offset for record in batch.records]
                new = [offset for offset in offsets if offset >= committed and offset not in index]
                index.update(new)
                self._acked[tp].extend(new)
            self.app.monitor.stream_inbound_time[tp] = monotonic()  # Faust's watch reports what stands still

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and deliver until the consumer or its fetcher is stopped.

        Whatever is fetched and not delivered lies behind the position, so a seek to the committed offsets follows.
        """
        behind = False
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait())
                    continue
                if behind:
                    behind = not await self._sought_back()
                    continue
                stops = self._stops
                records, active = await self._wait_next_records(FETCH_WAIT_S)
                if records and not self.should_stop:
                    behind = not await self._delivered(records, active or set(), stops)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _sought_back(self) -> bool:
        """Seek to the committed offsets; whether it was possible, for another rebalance may have begun."""
        stops = self._stops
        try:
            await self._seek_back()
        except (KafkaError, AssertionError):  # aiokafka asserts that it has partitions
            if self._flowing_since(stops):
                raise
            return False
        return self._flowing_since(stops)

    def _flowing_since(self, stops: int) -> bool:
        """Whether the flow is on and was not stopped since it had been stopped so often."""
        return self.flow_active and stops == self._stops

    async def _delivered(self, records: Any, active: set[TP], stops: int) -> bool:
        """Put the records into the channels, waiting while these are full; whether no rebalance came between.

        `stops` is how often the flow had been stopped when the fetch began.
        """
        generation = self.generation
        for key, messages in records.items():
            tp = TP(*key)
            await self.app.flow_control.acquire()  # a resumed flow empties the channels first
            if not self._room.is_set():
                await self.wait(self._room.wait())
            if tp not in active or not self._flowing_since(stops):
                return False
            self._note_gaps(tp, messages)
            batch = Batch(tp, generation, messages)
            for channel in self.app.topics:
                if tp.topic in channel.topics:
                    channel.queue.put_nowait_enhanced(
                        batch, on_pressure_high=self._room.clear, on_pressure_drop=self._room.set
                    )
        return True

    def _note_gaps(self, tp: TP, messages: Sequence[Any]) -> None:
        """Remember offsets that no record has, so that commits can pass them."""
        first, last = messages[0].offset, messages[-1].offset
        read = self._read_offset[tp]
        if read is None:
            read = first - 1
        if last - read != len(messages):
            for message in messages:
                if message.offset > read + 1:
                    self._gap[tp].addi(read + 1, message.offset)
                read = message.offset
        self._read_offset[tp] = last


class Transport(driver.Transport):
    """Faust's transport with this consumer."""

    Consumer = Consumer


class NoTables(TableManager):
    """Faust's manager of tables where there are none: a worker joins its group a second sooner."""

    async def on_start(self) -> None:
        """Start the recovery at once; Faust's own waits a second for tables to be declared."""
        await self._update_channels()
        await self.recovery.start()
