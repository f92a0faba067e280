"""Sales of days before that arrive while others are sold now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests import oracle
from tests.histories import HOUR, Change, plain_sale
from tests.rankings import Reader, Sales, assert_whole_and_growing, until_own_right

pytestmark = pytest.mark.timeout(900)

DAYS = (1, 2, 30)
ROUNDS = 5


def _late(days: int, number: int, at: datetime, **fixed: object) -> Change:
    now = datetime.now(UTC)
    return plain_sale(number, at, sale_id=f"late-{days}-{number}", source="files", ingestion_time=now, **fixed)


async def test_no_sale_is_too_late(sales: Sales, reader: Reader) -> None:
    """While sales come at now, those of ended hours, up to 30 days old, correct their rankings; none is dropped."""
    now = datetime.now(UTC)
    hours = {days: oracle.hour_of(now) - timedelta(days=days) for days in DAYS}
    ended = {
        (f"rankings.{ranking}", f"{hour:%Y-%m-%dT%H:%M:%SZ}{country}")
        for hour in hours.values()
        for ranking, country in (("city", ""), ("salesman", "/BR"))
    }

    def statuses() -> set[str]:
        return {reader.newest[key]["status"] if key in reader.newest else "absent" for key in ended}

    await sales.publish([plain_sale(0, now, sale_id="late-now")])
    await sales.publish([_late(days, number, hour) for days, hour in hours.items() for number in range(5)])
    await until_own_right(reader, sales, "the first sales of each hour")
    await reader.until(lambda: "provisional" not in statuses(), "the hours of days before have ended")
    before = {key: reader.newest[key]["revision"] for key in ended}

    for turn in range(1, ROUNDS + 1):
        await sales.publish([plain_sale(0, datetime.now(UTC), sale_id=f"late-now-{turn}")])
        for days, hour in hours.items():
            known = _late(days, turn - 1, hour, version=2)
            await sales.publish(
                [
                    _late(days, turn + 4, hour),
                    replace(known, deleted=True) if turn == 1 else replace(known, amount=Decimal("0.01") * turn),
                ]
            )
    await until_own_right(reader, sales, "the hours of days before with what came late")
    await reader.until(lambda: statuses() == {"corrected"}, "the hours of days before are corrected")
    assert all(reader.newest[key]["revision"] > revision for key, revision in before.items())
    for days, hour in hours.items():
        entries = reader.served()[oracle.SetKey("city", "", hour)]
        assert sum(entry.count for entry in entries) == 5 + ROUNDS - 1, f"{days} days ago, a sale is missing: {entries}"
    assert_whole_and_growing(reader)


async def test_a_late_sale_can_leave_an_ended_hour(sales: Sales, reader: Reader) -> None:
    """The only sale of an ended hour turns out to be of the hour before: that one is corrected, its own is empty."""
    now = datetime.now(UTC)
    at = oracle.hour_of(now) - timedelta(days=3, hours=5)
    only = plain_sale(1, at, sale_id="late-leaves", country="UY")
    keys = [("rankings.salesman", f"{hour:%Y-%m-%dT%H:%M:%SZ}/UY") for hour in (at, at - HOUR)]

    def shown() -> list[tuple[str, int]]:
        return [(one["status"], len(one["entries"])) for key in keys if (one := reader.newest.get(key))]

    before = plain_sale(2, at - HOUR, sale_id="late-stays", country="UY")
    await sales.publish([plain_sale(0, now, sale_id="late-leaves-now"), before, only])
    await reader.until(lambda: shown() == [("final", 1), ("final", 1)], "both hours have ended with a sale")
    await sales.publish([replace(only, version=2, event_time=at - HOUR)])
    await reader.until(lambda: shown() == [("corrected", 0), ("corrected", 2)], "the sale has left for the hour before")
    await until_own_right(reader, sales, "both sales are of the earlier hour")
