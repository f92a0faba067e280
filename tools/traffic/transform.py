"""Pure rules of the traffic generator: what is sold, changed and cancelled, and how many are due."""

import csv
import io
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Literal

from contracts.reference import COUNTRY
from contracts.time import iso_ms, to_ms
from tools.traffic import retail
from tools.traffic.channels import PROVIDERS, Channel
from tools.traffic.retail import Sold

HEADER = ("sale_id", "salesman_name", "city", "country", "amount", "product", "sale_date")
UPDATES, DELETES = 0.12, 0.06  # shares of what happens in Postgres
REMEMBERED = 5_000  # newest sales of this run that may still be changed or cancelled
BACKLOG_S = 10.0


@dataclass(frozen=True)
class Action:
    """Something that happens to sale `number` of this run: it is sold, changed to `sold`, or cancelled (None).

    Of a provider: one more of its webhooks is delivered (None); which, is the simulated shop's business.
    """

    source: Channel
    kind: Literal["insert", "update", "delete", "webhook"]
    number: int
    sold: Sold | None


def actions(rng: random.Random, sources: Sequence[Channel]) -> Iterator[Action]:
    """What happens, endlessly; the same generator state gives the same sales."""
    alive: list[int] = []
    for number in count(1):
        source = rng.choice(sources)
        if source in PROVIDERS:
            yield Action(source, "webhook", number, None)
            continue
        draw = rng.random()
        if source != Channel.POSTGRES or draw >= UPDATES + DELETES or not alive:
            if source == Channel.POSTGRES:
                alive.append(number)
                if len(alive) > REMEMBERED:
                    alive.pop(0)
            yield Action(source, "insert", number, retail.sell(rng))
        elif draw < UPDATES:
            yield Action(source, "update", rng.choice(alive), retail.sell(rng))
        else:
            yield Action(source, "delete", alive.pop(rng.randrange(len(alive))), None)


def due(elapsed_s: float, rate: float, done: int) -> int:
    """How many actions are due after `elapsed_s` seconds at `rate` a second, when `done` have happened.

    What was missed while a server was slow is caught up, so that the rate is what was asked for.
    """
    return max(0, int(elapsed_s * rate) - done)


def missed(backlog: int, rate: float) -> int:
    """How many of a backlog are given up: more than some seconds' worth would be a flood, not a rate."""
    return max(0, backlog - max(1, int(rate * BACKLOG_S)))


def spread(rng: random.Random, number: int, now: datetime, back: timedelta) -> list[datetime]:
    """`number` instants within `back` up to now, oldest first."""
    return sorted(now - back * rng.random() for _ in range(number))


def csv_file(rows: Iterable[tuple[str, Sold, datetime]]) -> bytes:
    """A CSV file of sales: id, what was sold, when."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for sale_id, sold, moment in rows:
        person, amount = sold.person.name, format(sold.amount, "f")
        writer.writerow([sale_id, person, sold.city, COUNTRY, amount, sold.product, iso_ms(to_ms(moment))])
    return text.getvalue().encode()


def summary(done: Counter[str], elapsed_s: float) -> str:
    """One line of progress."""
    total = sum(done.values())
    parts = ", ".join(f"{name} {number}" for name, number in sorted(done.items()))
    return f"{total} in {elapsed_s:.0f} s ({total / max(elapsed_s, 0.001):.1f}/s): {parts or 'nothing yet'}"
