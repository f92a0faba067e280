"""What `task bench:rankings` sells before it measures: changes of every kind, or many windows."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

HOURS = 37
CITIES, PEOPLE = 400, 1000
KEPT_HOURS = 33 * 24
NAMES = 10
DELAYS = {"postgres": timedelta(seconds=1), "legacy": timedelta(hours=3), "files": timedelta(hours=36)}


def changes(count: int, seed: int, start: datetime) -> Iterator[dict[str, Any]]:
    """`count` changes in the order of their arrival, evenly over HOURS hours from `start`.

    80 % inserts, 12 % updates, 5 % deletes, 3 % repeats. Three sources tell of their sales after DELAYS; two changes of
    three come to one of the last thousand sales, the third to any sale.
    """
    chance = random.Random(seed)
    step = timedelta(hours=HOURS) / count
    sales: list[dict[str, Any]] = []
    for number in range(count):
        draw = chance.random()
        arrived = start + number * step
        if draw >= 0.2 or not sales:
            source = chance.choices(list(DELAYS), (55, 20, 25))[0]
            sale = {
                "sale_id": str(number),
                "source": source,
                "salesman_name": f"Vendedor {chance.randrange(PEOPLE):04}",
                "city": f"Cidade {chance.randrange(CITIES):03}",
                "country": chance.choices(("BR", "PT"), (9, 1))[0],
                "amount": Decimal(chance.randrange(100, 1_000_000)).scaleb(-2),
                "product": "Laptop",
                "event_time": arrived - DELAYS[source],
                "ingestion_time": arrived,
                "version": 1,
                "deleted": False,
            }
            sales.append(sale)
            yield sale
            continue
        first = max(0, len(sales) - 1000) if chance.random() < 2 / 3 else 0
        index = chance.randrange(first, len(sales))
        if draw >= 0.17:
            yield sales[index]
            continue
        sale = {
            **sales[index],
            "ingestion_time": arrived,
            "version": sales[index]["version"] + 1,
            "deleted": draw < 0.05,
        }
        if draw >= 0.05:
            sale["amount"] = Decimal(chance.randrange(100, 1_000_000)).scaleb(-2)
            sale["city"] = f"Cidade {chance.randrange(CITIES):03}"
        sales[index] = sale
        yield sale


def spread(windows: int, now: datetime) -> Iterator[dict[str, Any]]:
    """Sales of NAMES salespeople, cities and products in each window, in the order of the hours up to `now`.

    Each hour has one window of cities, one of products and one for each country: about `windows` altogether, which the
    state keeps.
    """
    countries = max(1, -(-windows // KEPT_HOURS) - 2)
    hours = max(1, windows // (countries + 2))
    for number in range(hours * countries * NAMES):
        hour, index = divmod(number, countries * NAMES)
        country, name = divmod(index, NAMES)
        event_time = now - timedelta(hours=hours - hour, minutes=-name)
        yield {
            "sale_id": f"spread-{number}",
            "source": "postgres",
            "salesman_name": f"Vendedor {name:04}",
            "city": f"Cidade {name:03}",
            "country": f"{chr(65 + country // 26)}{chr(65 + country % 26)}",
            "amount": Decimal(100 + number % 999_900).scaleb(-2),
            "product": f"Produto {name}",
            "event_time": event_time,
            "ingestion_time": event_time,
            "version": 1,
            "deleted": False,
        }
