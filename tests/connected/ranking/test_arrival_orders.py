"""One history of 100,000 changes in every order of arrival, from `sales.unified` to the topics, ClickHouse and REST."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from contracts.rankings import RANKINGS
from tests import oracle
from tests.histories import ORDERS, Change, history, moved, plain_sale
from tests.rankings import Reader, assert_whole_and_growing, publisher, until_equal
from tests.runtime import Runtime
from tests.served import Answers, Tables, entries_of, from_record, unlike

pytestmark = pytest.mark.timeout(900)

START = datetime(2024, 2, 1, tzinfo=UTC)
DAYS_APART = 10
AT_LEAST = 100_000
COUNTRIES = ("BR", "PT", "AR")
SETS_OF_AN_HOUR = [(r.name, country) for r in RANKINGS for country in (COUNTRIES if r.per_country else ("",))]


@pytest.fixture(scope="module")
def changes() -> Sequence[Change]:
    """The history that arrives in every order."""
    made = history(11, 46_500, START)
    assert len(made) >= AT_LEAST
    return made


@pytest.mark.parametrize(("day", "order"), list(enumerate(ORDERS)))
async def test_every_arrival_order_is_served_as_the_oracle_says(
    *,
    runtime: Runtime,
    reader: Reader,
    store: Tables,
    rest: Answers,
    settled: dict[oracle.SetKey, tuple[oracle.Entry, ...]],
    changes: Sequence[Change],
    day: int,
    order: str,
) -> None:
    """100,000 changes in this order: topics, tables and REST end with the oracle's rankings of all windows, exactly."""
    arriving = ORDERS[order](moved(changes, order, timedelta(days=DAYS_APART * day)))
    async with publisher(runtime, []) as sales:
        await sales.publish(arriving)
    want, hours = oracle.expected(sales.published), oracle.hours(sales.published)
    settled.update(want)
    await until_equal(reader, want, f"the rankings of the history in {order} order", hours=hours, deadline_s=400)
    every = [oracle.SetKey(ranking, country, hour) for hour, (ranking, country) in product(hours, SETS_OF_AN_HOUR)]

    async def unlike_the_topics() -> list[str]:
        """What the tables or, once these are right, REST hold otherwise."""
        await reader.poll()
        topics = dict(from_record(one) for one in reader.newest.values() if one["window_start"] in hours)
        return unlike(topics, await store.read_all(hours)) or unlike(topics, await rest.read(every))

    deadline = time.monotonic() + 400
    while differences := await unlike_the_topics():
        assert time.monotonic() < deadline, f"{len(differences)} sets differ in the end, for example {differences[:2]}"
    assert not oracle.differences(want, entries_of(await store.read_all(hours)))
    assert not oracle.differences(want, entries_of(await rest.read(every)))
    assert_whole_and_growing(reader)


async def test_a_window_ends_by_silence_alone(
    runtime: Runtime, reader: Reader, settled: dict[oracle.SetKey, tuple[oracle.Entry, ...]]
) -> None:
    """The newest hour of all is provisional; seconds of silence end it and every window before, without a sale."""
    at = START + timedelta(days=DAYS_APART * len(ORDERS))
    key = ("rankings.city", f"{at:%Y-%m-%dT%H:%M:%SZ}")
    async with publisher(runtime, []) as sales:
        await sales.publish([plain_sale(1, at, sale_id="silence")])
    settled.update(oracle.expected(sales.published))
    await reader.until(lambda: reader.newest.get(key, {}).get("status") == "final", "the silent hour is final")
    provisional, final = reader.sets[key]
    assert provisional["status"] == "provisional"
    assert final["as_of"] - provisional["as_of"] >= timedelta(seconds=2)
    await reader.until(
        lambda: all(one["status"] in ("final", "corrected") for one in reader.last()), "every past window has ended"
    )
