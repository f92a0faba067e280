"""The sink as a member of its group: what it commits, and when."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from chassis.batches import Batch
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from services.clickhouse_sink import agents
from services.clickhouse_sink.agents import Group
from services.clickhouse_sink.settings import SinkSettings
from tests.batches import message

ZERO, ONE = (TopicPartition("sales.unified", number) for number in range(2))


class Broker:
    """Keeps the commits that it is sent, or raises the next of `errors`."""

    def __init__(self) -> None:
        self.commits: list[dict[TopicPartition, int]] = []
        self.errors: list[Exception] = []

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Take a commit."""
        if self.errors:
            raise self.errors.pop()
        self.commits.append(offsets)


def member() -> tuple[Group, Broker]:
    """A member of a group, and the broker of its commits."""
    unit = Unit("unit", structlog.get_logger("placar"), Metrics("unit"), Readiness())
    group, broker = Group(unit, SinkSettings()), Broker()
    group.joined(cast(AIOKafkaConsumer, broker))
    return group, broker


def batch(tp: TopicPartition, offset: int, generation: int = 0) -> Batch:
    """A batch of one record."""
    return Batch(tp, generation, [cast(Any, message("sales.unified", b"", offset=offset))])


async def test_what_is_written_is_committed_together() -> None:
    """One commit has the newest offset of each partition; nothing is committed twice."""
    group, broker = member()
    await group.acknowledge([batch(ZERO, 4), batch(ONE, 7)])
    await group.acknowledge([batch(ZERO, 5)])
    for _ in range(2):
        await group.commit_if_due()
    assert broker.commits == [{ZERO: 6, ONE: 8}]


async def test_commits_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two commits there is COMMIT_EVERY_S; what is written meanwhile comes with the next."""
    now = 100.0
    monkeypatch.setattr(agents, "time", SimpleNamespace(monotonic=lambda: now))
    group, broker = member()
    for offset in range(3):
        await group.acknowledge([batch(ZERO, offset)])
        await group.commit_if_due()
    assert broker.commits == [{ZERO: 1}]
    now += agents.COMMIT_EVERY_S
    await group.commit_if_due()
    assert broker.commits == [{ZERO: 1}, {ZERO: 3}]


async def test_partitions_are_left_with_their_offsets() -> None:
    """Before partitions go to another member what is written is committed; what was fetched before is never."""
    group, broker = member()
    await group.acknowledge([batch(ZERO, 4)])
    await group.on_partitions_revoked([ZERO])
    assert broker.commits == [{ZERO: 5}]
    await group.on_partitions_assigned([ZERO])
    await group.acknowledge([batch(ZERO, 9)])
    await group.commit_if_due()
    assert broker.commits == [{ZERO: 5}]


async def test_an_unavailable_broker_does_not_hold_up_a_rebalance() -> None:
    """A commit that fails as partitions are revoked is given up, and its offsets are not committed later."""
    group, broker = member()
    await group.acknowledge([batch(ZERO, 4)])
    broker.errors = [KafkaConnectionError()]
    await group.on_partitions_revoked([ZERO])
    await group.commit_if_due()
    assert broker.commits == []


async def test_a_rejected_commit_is_not_repeated() -> None:
    """A broker that takes a commit for one of an earlier generation is not asked again."""
    group, broker = member()
    await group.acknowledge([batch(ZERO, 4)])
    broker.errors = [CommitFailedError()]
    for _ in range(2):
        await group.commit_if_due()
    assert broker.commits == []
    assert broker.errors == []
