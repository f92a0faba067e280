"""What the agents' transport would commit, without a broker."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from time import monotonic
from types import SimpleNamespace
from typing import cast

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import TopicPartitionState
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from chassis.batches import Batch
from chassis.faust_transport import Consumer, Transport
from chassis.kafka import AT_ONCE, GATHERED

PARTITION = TP("raw", 0)
GENERATION = 7


@pytest.fixture
async def consumer() -> Consumer:
    """A consumer that is not started, of a worker in its seventh group generation."""
    app = faust.App("transport-test", broker="kafka://127.0.0.1:1")
    app.transport = Transport(app.conf.broker_consumer, app)
    app.consumer_generation_id = GENERATION
    return cast(Consumer, app.consumer)


def batch(offsets: Iterable[int], generation: int = GENERATION) -> Batch:
    """A batch of records with these offsets."""
    return Batch(PARTITION, generation, [SimpleNamespace(offset=offset) for offset in offsets])


@pytest.mark.parametrize(
    ("fetches", "offset"),
    [
        ([range(5)], 5),
        ([range(100, 105)], 105),
        ([[0, 4, 5, 9]], 10),
        ([[0], [4], [5, 9]], 10),
        ([[3, 7], [8], [20, 21, 40]], 41),
    ],
    ids=["dense", "begins late", "gaps", "gaps between fetches", "both"],
)
async def test_gaps_do_not_hold_up_the_commit(consumer: Consumer, fetches: Sequence[list[int]], offset: int) -> None:
    """What is committed is behind the last acknowledged record, at once, whatever offsets have no record."""
    for offsets in fetches:
        one = batch(offsets)
        consumer._note_gaps(PARTITION, one.records)
        await consumer.acknowledge([one])
    assert consumer._new_offset(PARTITION) == offset
    assert not consumer._acked[PARTITION]


async def test_nothing_is_committed_before_it_is_acknowledged(consumer: Consumer) -> None:
    """Records that were fetched and not acknowledged hold up the commit, also where a gap follows them."""
    first, second = batch([0, 1]), batch([5, 6])
    for one in (first, second):
        consumer._note_gaps(PARTITION, one.records)
    await consumer.acknowledge([first])
    assert consumer._new_offset(PARTITION) == 2


async def test_acknowledged_before_a_rebalance(consumer: Consumer) -> None:
    """An acknowledgement of an earlier generation counts for nothing."""
    await consumer.acknowledge([batch([0, 1], GENERATION - 1)])
    assert consumer._new_offset(PARTITION) is None


async def test_read_again_after_a_seek(consumer: Consumer) -> None:
    """Records that come again after a seek back are committed once, and what is committed already stays so."""
    consumer._committed_offset[PARTITION] = consumer._read_offset[PARTITION] = 10
    for offsets in ([10, 11], [10, 11, 15], [8, 9, 10]):
        one = batch(offsets)
        consumer._note_gaps(PARTITION, one.records)
        await consumer.acknowledge([one])
    assert consumer._new_offset(PARTITION) == 16
    assert not consumer._acked[PARTITION]


class Log:
    """Stands for the thread around aiokafka: one partition, and fetches of ten records that the test lets out."""

    def __init__(self) -> None:
        self.position = 0
        self.fetches = asyncio.Semaphore(0)
        self.waiting = asyncio.Event()
        self.seeks = asyncio.Event()
        self.seeks.set()

    async def getmany(self, *_: object) -> dict[TP, list[SimpleNamespace]]:
        """The next ten records, once the test lets them out."""
        self.waiting.set()
        await self.fetches.acquire()
        self.waiting.clear()
        offsets = range(self.position, self.position + 10)
        self.position = offsets.stop
        return {PARTITION: [SimpleNamespace(offset=offset) for offset in offsets]}

    async def seek_to_committed(self) -> dict[TP, int | None]:
        """Nothing is committed."""
        return {PARTITION: None}

    async def seek_to_beginning(self, *_: object) -> None:
        """Go there; returns once the test lets it."""
        self.position = 0
        await self.seeks.wait()

    def assignment(self) -> set[TP]:
        """The one partition."""
        return {PARTITION}


async def test_nothing_is_lost_where_a_fetch_meets_the_seek_of_a_rebalance(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fetched while a rebalance seeks back is not thrown away by the flow's resumption: it is read again."""
    app, log = consumer.app, Log()
    queue = app.FlowControlQueue(maxsize=4, clear_on_resume=True)
    monkeypatch.setattr(consumer, "_thread", log)
    monkeypatch.setattr(app, "topics", [SimpleNamespace(topics=["raw"], queue=queue)])
    consumer._set_active_tps({PARTITION})
    app.flow_control.resume()
    consumer.resume_flow()
    draining = asyncio.create_task(consumer._drain_messages(SimpleNamespace(should_stop=False)))
    try:
        async with asyncio.timeout(10):
            await log.waiting.wait()
            log.seeks.clear()
            seeking = asyncio.create_task(consumer.perform_seek())
            while log.position == 0:  # the seek is under way: the fetch comes back, and as many more as come
                log.fetches.release()
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            log.seeks.set()
            await seeking
            app.flow_control.resume()
            consumer.resume_flow()
            log.fetches.release()
            first = await queue.get()
    finally:
        draining.cancel()
        await asyncio.wait([draining])
    assert [record.offset for record in first.records] == list(range(10))


async def test_fetches_gather_while_records_come(consumer: Consumer) -> None:
    """The first record after a silence is asked for at once, and what follows it in one answer a tenth of a second."""
    thread, fetched = consumer._new_consumer_thread(), [{PARTITION: [1]}, {PARTITION: [2]}, {}]

    async def fetched_records(*_: object, **__: object) -> dict[TP, list[int]]:
        return fetched.pop(0)

    fetcher = SimpleNamespace(
        _closed=False, fetched_records=fetched_records, _subscriptions=SimpleNamespace(fetch_context=nullcontext)
    )
    requests = []
    consumer.app.flow_control.resume()
    consumer.resume_flow()
    while fetched:
        await thread._fetch_records(
            cast(AIOKafkaConsumer, SimpleNamespace(_closed=False, _fetcher=fetcher)), {PARTITION}
        )
        requests.append((fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms))
    assert requests == [GATHERED, GATHERED, AT_ONCE]


async def test_position_that_is_not_known_yet(consumer: Consumer) -> None:
    """Faust's watch passes over a partition between its seek and the position that comes of it."""
    state = TopicPartitionState(SimpleNamespace())
    state.timestamp = monotonic() * 1000
    state.highwater = 7
    assert not state.has_valid_position
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    fetcher = SimpleNamespace(_subscriptions=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
    thread = consumer._new_consumer_thread()
    thread._consumer = SimpleNamespace(_fetcher=fetcher)
    thread.time_started = monotonic()
    thread.verify_event_path(monotonic(), PARTITION)
    with pytest.raises(AssertionError):
        AIOKafkaConsumerThread.verify_event_path(thread, monotonic(), PARTITION)
