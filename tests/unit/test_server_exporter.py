"""The exporter: lag from offsets, and what is left of a server that is unavailable."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import TopicPartition

from chassis.clickhouse import StoreUnavailableError
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from services.server_exporter.app import keep_looking
from services.server_exporter.looks import Found
from services.server_exporter.metrics import METRICS, RANKING_AS_OF
from services.server_exporter.transform import consumer_lag


def test_lag_is_what_lies_between_commit_and_end_by_group_and_topic() -> None:
    """Partitions add up; a topic that was cut or is gone counts as 0, and groups are apart."""
    first, second, other, gone = (TopicPartition(*place) for place in (("a", 0), ("a", 1), ("b", 0), ("c", 0)))
    committed = {"one": {first: 5, second: 7, gone: 3}, "two": {other: 9, first: 0}}
    ends = {first: 10, second: 8, other: 4}
    assert consumer_lag(committed, ends) == [
        ({"group": "one", "topic": "a"}, 6),
        ({"group": "one", "topic": "c"}, 0),
        ({"group": "two", "topic": "b"}, 0),
        ({"group": "two", "topic": "a"}, 10),
    ]


async def scrapes(answers: Sequence[Found | Exception]) -> list[str]:
    """What is exported after each answer of the server."""
    unit = Unit("u", structlog.get_logger("placar"), Metrics("u", METRICS), Readiness())
    seen: list[str] = []
    left = list(answers)
    done = asyncio.Event()

    async def look() -> Found:
        seen.append(unit.metrics.render(["text/plain"])[0].decode())
        if not left:
            done.set()
            await asyncio.Event().wait()
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    looking = asyncio.create_task(keep_looking(unit, "store", look, 0))
    await asyncio.wait_for(done.wait(), 10)
    looking.cancel()
    await asyncio.wait({looking})
    return seen[1:]


async def test_a_server_that_is_away_is_down_and_its_old_values_are_gone() -> None:
    """Its values come back with it, and what it no longer names stays away."""
    city = ({"ranking": "city", "length": "1h"}, 5.0)
    salesman = ({"ranking": "salesman", "length": "1h"}, 6.0)
    here, away, back = await scrapes(
        [{RANKING_AS_OF: [city, salesman]}, StoreUnavailableError("no answer"), {RANKING_AS_OF: [city]}]
    )
    name = RANKING_AS_OF.name
    assert f'{name}{{length="1h",ranking="city",unit="u"}} 5.0' in here
    assert 'placar_server_up{server="store",unit="u"} 1' in here
    assert f"{name}{{" not in away
    assert 'placar_server_up{server="store",unit="u"} 0' in away
    assert 'placar_connection_failures_total{server="store",unit="u"} 1' in away
    assert f'{name}{{length="1h",ranking="city",unit="u"}} 5.0' in back
    assert 'ranking="salesman"' not in back
