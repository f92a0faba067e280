"""What the agents' transport would commit, without a broker."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import cast

import faust
import pytest
from faust.types import TP

from chassis.faust_transport import Batch, Consumer, Transport

PARTITION = TP("raw", 0)
GENERATION = 7


@pytest.fixture
def consumer() -> Consumer:
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
        consumer.acknowledge(one)
    assert consumer._new_offset(PARTITION) == offset
    assert not consumer._acked[PARTITION]


async def test_nothing_is_committed_before_it_is_acknowledged(consumer: Consumer) -> None:
    """Records that were fetched and not acknowledged hold up the commit, also where a gap follows them."""
    first, second = batch([0, 1]), batch([5, 6])
    for one in (first, second):
        consumer._note_gaps(PARTITION, one.records)
    consumer.acknowledge(first)
    assert consumer._new_offset(PARTITION) == 2


async def test_acknowledged_before_a_rebalance(consumer: Consumer) -> None:
    """An acknowledgement of an earlier generation counts for nothing."""
    consumer.acknowledge(batch([0, 1], GENERATION - 1))
    assert consumer._new_offset(PARTITION) is None


async def test_read_again_after_a_seek(consumer: Consumer) -> None:
    """Records that come again after a seek back are committed once, and what is committed already stays so."""
    consumer._committed_offset[PARTITION] = consumer._read_offset[PARTITION] = 10
    for offsets in ([10, 11], [10, 11, 15], [8, 9, 10]):
        one = batch(offsets)
        consumer._note_gaps(PARTITION, one.records)
        consumer.acknowledge(one)
    assert consumer._new_offset(PARTITION) == 16
    assert not consumer._acked[PARTITION]
