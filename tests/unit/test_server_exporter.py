"""The exporter: consumer lag from offsets, and the metrics of an unavailable server."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import TopicPartition

from chassis.clickhouse import StoreUnavailableError
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from services.server_exporter.app import export
from services.server_exporter.collect import Collected, consumer_lag
from services.server_exporter.metrics import METRICS, RANKING_AS_OF


def test_consumer_lag_is_between_commit_and_end_by_group_and_topic() -> None:
    """Partitions add up; a truncated or deleted topic counts as 0, and groups are separate."""
    first, second, other, deleted = (TopicPartition(*key) for key in (("a", 0), ("a", 1), ("b", 0), ("c", 0)))
    committed = {"one": {first: 5, second: 7, deleted: 3}, "two": {other: 9, first: 0}}
    ends = {first: 10, second: 8, other: 4}
    assert consumer_lag(committed, ends) == [
        ({"group": "one", "topic": "a"}, 6),
        ({"group": "one", "topic": "c"}, 0),
        ({"group": "two", "topic": "b"}, 0),
        ({"group": "two", "topic": "a"}, 10),
    ]


async def scrapes(answers: Sequence[Collected | Exception]) -> list[str]:
    """The exported text after each answer of the server."""
    unit = Unit("u", structlog.get_logger("placar"), Metrics("u", METRICS), Readiness())
    texts: list[str] = []
    left = list(answers)
    done = asyncio.Event()

    async def collecting() -> Collected:
        texts.append(unit.metrics.render(["text/plain"])[0].decode())
        if not left:
            done.set()
            await asyncio.Event().wait()
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    exporting = asyncio.create_task(export(unit, "store", collecting, 0))
    await asyncio.wait_for(done.wait(), 10)
    exporting.cancel()
    await asyncio.wait({exporting})
    return texts[1:]


async def test_an_unavailable_server_is_down_and_its_old_values_are_removed() -> None:
    """Its values return with it, except those of series that it no longer has."""
    city = ({"ranking": "city", "length": "1h"}, 5.0)
    salesman = ({"ranking": "salesman", "length": "1h"}, 6.0)
    up, down, back = await scrapes(
        [{RANKING_AS_OF: [city, salesman]}, StoreUnavailableError("no answer"), {RANKING_AS_OF: [city]}]
    )
    name = RANKING_AS_OF.name
    assert f'{name}{{length="1h",ranking="city",unit="u"}} 5.0' in up
    assert 'placar_server_up{server="store",unit="u"} 1' in up
    assert f"{name}{{" not in down
    assert 'placar_server_up{server="store",unit="u"} 0' in down
    assert 'placar_connection_failures_total{server="store",unit="u"} 1' in down
    assert f'{name}{{length="1h",ranking="city",unit="u"}} 5.0' in back
    assert 'ranking="salesman"' not in back
