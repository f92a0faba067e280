"""Known sales for the end-to-end test, and the rankings that follow from them, worked out in plain Python."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

CITIES = (
    "São Paulo",
    "Rio de Janeiro",
    "Belo Horizonte",
    "Curitiba",
    "Porto Alegre",
    "Salvador",
    "Brasília",
    "Florianópolis",
    "Recife",
    "Fortaleza",
    "Manaus",
    "Belém",
)


@dataclass(frozen=True)
class Sale:
    """A sale as its source holds it in the end."""

    sale_id: str
    salesman: str
    city: str
    country: str
    amount: Decimal
    product: str
    time: datetime


def window_three_days_ago() -> datetime:
    """Start of the hour under test: far enough back that nothing else sells in it."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=72)


def known_sales(source: str, count: int, window: datetime, country: str = "BR") -> list[Sale]:
    """`count` distinct sales inside the window; amounts, cities and names differ by source and number."""
    salt = {"postgres": 3, "files": 5, "legacy": 7}[source]
    return [
        Sale(
            sale_id=f"{source}-{number}",
            salesman=f"Vendedora {chr(65 + (number * salt) % 13)}",
            city=CITIES[(number * salt) % len(CITIES)],
            country=country,
            amount=Decimal(10_000 + 137 * number * salt) / 100,
            product="Laptop",
            time=window + timedelta(minutes=(number * salt) % 60),
        )
        for number in range(count)
    ]


def ranking(sales: Iterable[Sale], name: Callable[[Sale], str]) -> list[tuple[int, str, Decimal, int]]:
    """Top ten as (rank, name, total, count): total descending, then name."""
    totals: dict[str, list[Decimal]] = defaultdict(list)
    for sale in sales:
        totals[name(sale)].append(sale.amount)
    ordered = sorted(
        ((key, sum(amounts, Decimal(0)), len(amounts)) for key, amounts in totals.items()), key=lambda e: (-e[1], e[0])
    )
    return [(rank, key, total, count) for rank, (key, total, count) in enumerate(ordered[:10], start=1)]
