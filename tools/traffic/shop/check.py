"""Compares the sales that ClickHouse has of the simulated shop with what they must be."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from chassis.clickhouse import ClickHouse, clickhouse
from chassis.settings import ClickHouseSettings
from tools.traffic.shop.model import ExpectedSale, Key

PAGE, TIMEOUT_S, AGAIN_S, SHOWN = 2000, 60.0, 1.0, 20
_STORED = """
SELECT source, sale_id, amount, city, country, salesman_name, product, event_time_ms FROM sales FINAL
WHERE deleted = 0 AND source = %(source)s AND sale_id IN %(ids)s
"""


def differences(due: Mapping[Key, ExpectedSale | None], stored: Mapping[Key, ExpectedSale]) -> Iterator[str]:
    """A line for each sale that is not as it must be."""
    for key, sale in sorted(due.items()):
        found = stored.get(key)
        if found != sale:
            yield f"{':'.join(key)} is {found or 'no sale'}, must be {sale or 'no sale'}"


async def _stored(store: ClickHouse, keys: Sequence[Key]) -> dict[Key, ExpectedSale]:
    found: dict[Key, ExpectedSale] = {}
    for source in sorted({source for source, _ in keys}):
        ids = tuple(sale_id for of, sale_id in keys if of == source)
        for first in range(0, len(ids), PAGE):
            rows: list[tuple[Any, ...]] = await store.select(
                _STORED, {"source": source, "ids": ids[first : first + PAGE]}
            )
            for _, sale_id, amount, city, country, salesperson, product, sold_ms in rows:
                moment = datetime.fromtimestamp(sold_ms // 1000, UTC)
                found[source, sale_id] = ExpectedSale(amount, city, country, salesperson, product, moment)
    return found


async def check(settings: ClickHouseSettings, due: Mapping[Key, ExpectedSale | None], settle_s: float) -> list[str]:
    """The differences that are left after `settle_s` seconds; it returns as soon as there are none.

    Raises:
        StoreUnavailableError: ClickHouse is unreachable.
    """
    deadline = time.monotonic() + settle_s
    async with clickhouse(settings, 1, TIMEOUT_S) as store:
        while True:
            left = list(differences(due, await _stored(store, list(due))))
            if not left or time.monotonic() >= deadline:
                return left
            await asyncio.sleep(AGAIN_S)


def report(due: Mapping[Key, ExpectedSale | None], left: Sequence[str]) -> Iterator[str]:
    """What the check found, in lines: the first differences, and how many there are."""
    yield from left[:SHOWN]
    ranked = sum(sale is not None for sale in due.values())
    what = f"{ranked} sales of the simulated shop must be ranked, {len(due) - ranked} must not"
    yield f"{what}: {f'{len(left)} of them differ' if left else 'all as it must be'}"
