"""A steady load of changed sales that outlives the broker: what is not acknowledged is sent again."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

from contracts import codec
from contracts.catalogue import catalogue
from tests.chaos.sender import sender
from tests.histories import HOUR, Change, history
from tests.rankings import SALES, registry_of
from tests.runtime import Runtime

RATE = 300  # changes a second
BATCH = 30  # changes that are acknowledged before the next are sent
START = datetime(2026, 1, 1, tzinfo=UTC)


def changes(seed: int) -> Iterator[Change]:
    """Endless seeded changes: short histories of a few hours each, the next one an hour later with sales of its own."""
    for number in count():
        for change in history(seed * 100_000 + number, 300, START + number * HOUR, hours=4):
            yield replace(change, sale_id=f"{seed}-{number}-{change.sale_id}")


@dataclass
class Load:
    """Publishes until told to stop, and remembers in `published` all that the broker has acknowledged."""

    runtime: Runtime
    seed: int
    published: list[Mapping[str, Any]] = field(default_factory=list)
    stopping: bool = False

    async def run(self) -> None:
        """Publish `RATE` changes a second; after an outage what is late follows at once."""
        encode = await codec.encoder(registry_of(self.runtime), catalogue()[SALES])
        source = changes(self.seed)
        clock = asyncio.get_running_loop().time
        due = clock()
        async with sender(self.runtime, SALES) as sending:
            while not self.stopping:
                batch = [(change, change.record()) for change in islice(source, BATCH)]
                await sending.deliver(
                    [(f"{change.source}:{change.sale_id}".encode(), encode(record)) for change, record in batch]
                )
                self.published += [record for _, record in batch]
                due += BATCH / RATE
                await asyncio.sleep(max(0.0, due - clock()))
