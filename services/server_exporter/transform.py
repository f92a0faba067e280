"""Consumer lag from offsets. Pure."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from chassis.metrics import Series


def consumer_lag(committed: Mapping[str, Mapping[TopicPartition, int]], ends: Mapping[TopicPartition, int]) -> Series:
    """Offsets between commit and end by group and topic; a partition that is gone or was cut counts as 0."""
    lags: dict[tuple[str, str], int] = {}
    for group, offsets in committed.items():
        for place, offset in offsets.items():
            behind = max(0, ends.get(place, offset) - offset)
            lags[group, place.topic] = lags.get((group, place.topic), 0) + behind
    return [({"group": group, "topic": topic}, lag) for (group, topic), lag in lags.items()]
