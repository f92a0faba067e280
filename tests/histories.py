"""Seeded histories of sales: what three sources with different delays would publish to `sales.unified`."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

HOUR = timedelta(hours=1)
DELAYS = {"postgres": timedelta(seconds=1), "legacy": timedelta(hours=3), "files": timedelta(hours=36)}


@dataclass(frozen=True)
class Change:
    """One version of a sale, in the fields of SaleEvent."""

    sale_id: str
    source: str
    salesman_name: str
    city: str
    country: str
    amount: Decimal
    product: str
    event_time: datetime
    ingestion_time: datetime
    version: int
    deleted: bool

    def record(self) -> Mapping[str, Any]:
        """The change as the record of the contract."""
        return dict(vars(self))


class _Teller:
    """Makes sales and their later changes from one seeded source of chance."""

    def __init__(self, seed: int, start: datetime, hours: int, names: int) -> None:
        self.chance = random.Random(seed)
        self.start = start
        self.hours = hours
        self.cities = [f"Cidade {number:03}" for number in range(names)]
        self.people = [f"Vendedor {number:03}" for number in range(names)]
        self.count = 0

    def time(self) -> datetime:
        return self.start + timedelta(milliseconds=self.chance.randrange(self.hours * 3_600_000))

    def sale(self, **fixed: Any) -> Change:
        self.count += 1
        source = self.chance.choice(list(DELAYS))
        at = fixed.get("event_time") or self.time()
        made = Change(
            sale_id=f"s{self.count}",
            source=source,
            salesman_name=self.chance.choice(self.people),
            city=self.chance.choice(self.cities),
            country=self.chance.choice(["BR", "BR", "BR", "PT", "AR"]),
            amount=Decimal(self.chance.randrange(1, 2_000_000)).scaleb(-2),
            product="Laptop",
            event_time=at,
            ingestion_time=at + DELAYS[source],
            version=self.chance.randrange(1, 1000),
            deleted=False,
        )
        return replace(made, **fixed)

    def changed(self, sale: Change) -> Change:
        later = replace(
            sale,
            version=sale.version + self.chance.randrange(1, 1000),
            ingestion_time=sale.ingestion_time + timedelta(seconds=self.chance.randrange(1, 7200)),
            deleted=False,
        )
        kind = self.chance.choice(["amount", "city", "person", "hour", "delete", "nothing"])
        if kind == "amount":
            return replace(later, amount=Decimal(self.chance.randrange(1, 2_000_000)).scaleb(-2))
        if kind == "city":
            return replace(later, city=self.chance.choice(self.cities))
        if kind == "person":
            return replace(later, salesman_name=self.chance.choice(self.people))
        if kind == "hour":
            return replace(later, event_time=self.time())
        return replace(later, deleted=kind == "delete")


def history(seed: int, sales: int, start: datetime, hours: int = 24, names: int = 40) -> list[Change]:
    """About twice `sales` changes in order of ingestion: inserts, updates, moves, deletes, re-inserts, exact repeats.

    The hour after the last one has twelve equal totals (a tie beyond the tenth place), the next shrinks from twelve
    names to seven, and the one after it loses all its sales.
    """
    teller = _Teller(seed, start, hours, names)
    changes: list[Change] = []
    for _ in range(sales):
        sale = teller.sale()
        changes.append(sale)
        while teller.chance.random() < 0.4:
            sale = teller.changed(sale)
            changes.append(sale)
    special = start + hours * HOUR
    for number in range(12):
        same = {"country": "BR", "city": f"Empate {number:02}", "salesman_name": f"Empate {number:02}"}
        changes.append(teller.sale(event_time=special + timedelta(minutes=number), amount=Decimal("10.00"), **same))
        for hour, survivors in ((1, 7), (2, 0)):
            sale = teller.sale(event_time=special + hour * HOUR + timedelta(minutes=number), **same)
            changes.append(sale)
            if number >= survivors:
                changes.append(
                    replace(sale, version=sale.version + 1, deleted=True, ingestion_time=sale.ingestion_time + HOUR)
                )
    repeats = teller.chance.sample(changes, len(changes) // 30)
    changes += [replace(repeat, ingestion_time=repeat.ingestion_time + HOUR) for repeat in repeats]
    return sorted(changes, key=lambda change: change.ingestion_time)
