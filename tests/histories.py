"""Seeded histories of sales: what three sources with different delays and clocks would publish to `sales.unified`."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

HOUR = timedelta(hours=1)
DELAYS = {
    "postgres": (timedelta(seconds=1),),
    "legacy": (timedelta(hours=3),),
    "files": (timedelta(hours=2), timedelta(hours=12), timedelta(hours=36), timedelta(hours=84)),
}
"""How long after its event a source hands a sale over; some files are days late."""

SKEWS = {"postgres": timedelta(seconds=-90), "legacy": timedelta(seconds=40), "files": timedelta(minutes=-10)}
"""How far each source's clock is ahead: a sale of Postgres seems to be ingested before it happened."""

HUGE = Decimal("700000000000000.00")
"""A float of this size knows no cents."""

NEUTRAL = {"salesman_name": "", "city": "", "country": "", "amount": Decimal("0.00"), "product": ""}
NEUTRAL_TIME = datetime(1970, 1, 1, tzinfo=UTC)


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

    @property
    def identity(self) -> tuple[str, str]:
        """Source and sale id: which sale this is a version of."""
        return self.source, self.sale_id

    def record(self) -> Mapping[str, Any]:
        """The change as the record of the contract."""
        return dict(vars(self))


def plain_sale(number: int, at: datetime, **fixed: Any) -> Change:
    """A Brazilian sale, new at `at`, with names of its own everywhere; the higher its number, the larger."""
    sale = Change(
        sale_id=f"plain-{number}",
        source="postgres",
        salesman_name=f"Vendedor {number:02}",
        city=f"Cidade {number:02}",
        country="BR",
        amount=Decimal("10.00") + number,
        product=f"Produto {number:02}",
        event_time=at,
        ingestion_time=at,
        version=1,
        deleted=False,
    )
    return replace(sale, **fixed)


class _Generator:
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

    def amount(self) -> Decimal:
        return Decimal(self.chance.randrange(1, 2_000_000)).scaleb(-2)

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
            amount=self.amount(),
            product=f"Produto {self.count % 23:02}",
            event_time=at,
            ingestion_time=at + self.chance.choice(DELAYS[source]) + SKEWS[source],
            version=self.chance.randrange(1, 1000),
            deleted=False,
        )
        return replace(made, **fixed)

    def changed(self, sale: Change, last_valid: Change) -> Change:
        """A later version of `sale`; what was deleted comes back with its last valid values, one of them changed."""
        later = replace(
            last_valid,
            version=sale.version + self.chance.randrange(1, 1000),
            ingestion_time=sale.ingestion_time + timedelta(seconds=self.chance.randrange(1, 7200)),
        )
        change: Mapping[str, Any] = self.chance.choice(
            [
                {"amount": self.amount()},
                {"city": self.chance.choice(self.cities)},
                {"salesman_name": self.chance.choice(self.people)},
                {"event_time": self.time()},
                {"city": self.chance.choice(self.cities), "amount": self.amount(), "event_time": self.time()},
                {"deleted": True},
                {"deleted": True, "event_time": NEUTRAL_TIME, **NEUTRAL},
                {},
            ]
        )
        return replace(later, **change)


def history(seed: int, sales: int, start: datetime, hours: int = 24, names: int = 40) -> list[Change]:
    """About 2.2 times `sales` changes in order of ingestion.

    Inserts, changed amounts, moves to another city, salesperson or hour, deletes (half of them with neutral values),
    re-inserts, exact repeats, files that come days late, and one new snapshot: halfway, every sale that exists comes
    again with the version it has.

    Behind the last hour come four more: one with twelve equal totals (a tie beyond the tenth rank), one that shrinks
    from twelve names to seven, one that loses all its sales, and one with totals that no float tells apart.
    """
    generator = _Generator(seed, start, hours, names)
    changes: list[Change] = []
    for _ in range(sales):
        sale = last_valid = generator.sale()
        changes.append(sale)
        while generator.chance.random() < 0.4:
            sale = generator.changed(sale, last_valid)
            last_valid = last_valid if sale.deleted else sale
            changes.append(sale)
    special = start + hours * HOUR
    for number in range(12):
        same = {"country": "BR", "city": f"Empate {number:02}", "salesman_name": f"Empate {number:02}"}
        changes.append(generator.sale(event_time=special + timedelta(minutes=number), amount=Decimal("10.00"), **same))
        for hour, survivors in ((1, 7), (2, 0)):
            sale = generator.sale(event_time=special + hour * HOUR + timedelta(minutes=number), **same)
            changes.append(sale)
            if number >= survivors:
                changes.append(
                    replace(sale, version=sale.version + 1, deleted=True, ingestion_time=sale.ingestion_time + HOUR)
                )
        exact = HUGE + Decimal(number).scaleb(-2)
        changes.append(generator.sale(event_time=special + 3 * HOUR + timedelta(minutes=number), amount=exact, **same))
    repeats = generator.chance.sample(changes, len(changes) // 30)
    changes += [replace(repeat, ingestion_time=repeat.ingestion_time + HOUR) for repeat in repeats]
    changes.sort(key=lambda change: change.ingestion_time)
    return _with_snapshot(changes)


def _with_snapshot(changes: list[Change]) -> list[Change]:
    """The changes with a snapshot of the sales that exist after the first half, in the middle."""
    first, rest = changes[: len(changes) // 2], changes[len(changes) // 2 :]
    newest: dict[tuple[str, str], Change] = {}
    for change in first:
        if change.identity not in newest or change.version > newest[change.identity].version:
            newest[change.identity] = change
    at = first[-1].ingestion_time
    return [*first, *(replace(sale, ingestion_time=at) for sale in newest.values() if not sale.deleted), *rest]


EFFECTS = (
    "insert",
    "amount",
    "city",
    "salesperson",
    "hour",
    "delete",
    "re-insert",
    "exact repeat",
    "version that is older than one before",
)
"""What a change can do to what has arrived before it."""


def effects(changes: Iterable[Change]) -> Counter[str]:
    """How often each of EFFECTS occurs in this order of arrival; also changes of a version that has come before."""
    counts: Counter[str] = Counter()
    newest: dict[tuple[str, str], Change] = {}
    for change in changes:
        before = newest.get(change.identity)
        counts.update(_effects_on(before, change))
        if before is None or change.version > before.version:
            newest[change.identity] = change
    return counts


def _effects_on(before: Change | None, change: Change) -> list[str]:
    if before is None:
        return [] if change.deleted else ["insert"]
    if change.version < before.version:
        return ["version that is older than one before"]
    if change.version == before.version:
        same = replace(change, ingestion_time=before.ingestion_time) == before
        return ["exact repeat" if same else "version again with other values"]
    if before.deleted:
        return [] if change.deleted else ["re-insert"]
    if change.deleted:
        return ["delete"]
    differs = {
        "amount": change.amount != before.amount,
        "city": change.city != before.city,
        "salesperson": change.salesman_name != before.salesman_name,
        "hour": change.event_time.replace(minute=0, second=0, microsecond=0)
        != before.event_time.replace(minute=0, second=0, microsecond=0),
    }
    return [name for name, there in differs.items() if there]


def moved(changes: Sequence[Change], name: str, by: timedelta) -> list[Change]:
    """The same history of other sales (`name` is put before their ids) at another time; neutral times stay."""
    return [
        replace(
            change,
            sale_id=f"{name}-{change.sale_id}",
            event_time=change.event_time if change.event_time == NEUTRAL_TIME else change.event_time + by,
            ingestion_time=change.ingestion_time + by,
        )
        for change in changes
    ]


Order = Callable[[Sequence[Change]], list[Change]]


def _shuffled(changes: Sequence[Change]) -> list[Change]:
    return random.Random(5).sample(changes, len(changes))


def _newest_version_first(changes: Sequence[Change]) -> list[Change]:
    """Sale by sale as they first appear, each from its newest version to its oldest."""
    first: dict[tuple[str, str], int] = {}
    for index, change in enumerate(changes):
        first.setdefault(change.identity, index)
    return sorted(changes, key=lambda change: (first[change.identity], -change.version))


def _twice(changes: Sequence[Change]) -> list[Change]:
    """Everything, and while the second half comes the first half again, in turns; then the second half again."""
    half = len(changes) // 2
    turns = [change for pair in zip(changes[half:], changes, strict=False) for change in pair]
    return [*changes[:half], *turns, *changes[half:]]


ORDERS: Mapping[str, Order] = {
    "ingestion": list,
    "shuffled": _shuffled,
    "reversed": lambda changes: list(reversed(changes)),
    "newest_version_first": _newest_version_first,
    "files_last": lambda changes: sorted(changes, key=lambda change: change.source == "files"),
    "source_by_source": lambda changes: sorted(changes, key=lambda change: change.source),
    "twice": _twice,
}
"""Orders in which the changes of one history may arrive; all of them end in the same rankings."""
