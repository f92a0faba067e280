"""Consumer lag from offsets. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from chassis.metrics import Series


class TopicPartition(NamedTuple):
    """A partition; equal to aiokafka's."""

    topic: str
    partition: int


def consumer_lag(committed: Mapping[str, Mapping[TopicPartition, int]], ends: Mapping[TopicPartition, int]) -> Series:
    """Offsets between commit and end by group and topic; a partition that is gone or was cut counts as 0."""
    lags: dict[tuple[str, str], int] = {}
    for group, offsets in committed.items():
        for partition, offset in offsets.items():
            behind = max(0, ends.get(partition, offset) - offset)
            lags[group, partition.topic] = lags.get((group, partition.topic), 0) + behind
    return [({"group": group, "topic": topic}, lag) for (group, topic), lag in lags.items()]
