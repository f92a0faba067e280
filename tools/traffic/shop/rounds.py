"""Round after round of the simulated shop: what is delivered next, and what must be ranked of what was delivered."""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from itertools import count

from contracts.webhooks import Provider
from tools.traffic.shop.delivery import Delivery, plan
from tools.traffic.shop.history import History, history
from tools.traffic.shop.model import Event, ExpectedSale, Key, outcome

SPAN = timedelta(days=1)
PEOPLE, ORDERS = 60, 200
SEEDS_BITS = 20  # rounds of one seed


def round_history(seed: int, start: datetime, orders: int = ORDERS, reporting: str = "BRL") -> History:
    """The history of one round, by its own seed, in the currency in which sales are ranked."""
    return history(seed, people=PEOPLE, orders=orders, start=start, span=SPAN, reporting=reporting)


class Rounds:
    """Endless deliveries of some providers; a round is about the last SPAN of time, and begins when the last one ends.

    `opened` is told seed and start of each. `acknowledged` takes what the receiver has taken; with `remember` the
    outcome of all of it is kept, otherwise of no round but the last.
    """

    def __init__(
        self,
        seed: int,
        providers: Collection[Provider],
        now: Callable[[], datetime],
        opened: Callable[[int, datetime], None],
        *,
        remember: bool,
        reporting: str = "BRL",
    ) -> None:
        self._seeds = count(seed << SEEDS_BITS)
        self._providers, self._now, self._opened = providers, now, opened
        self._remember, self._reporting = remember, reporting
        self._waiting: deque[Delivery] = deque()
        self._events: tuple[Event, ...] = ()
        self._arrived: set[str] = set()
        self._sales: dict[Key, ExpectedSale | None] = {}

    def take(self, number: int) -> list[Delivery]:
        """The next so many deliveries, fewer at the end of a round."""
        if not self._waiting:
            self._open()
        return [self._waiting.popleft() for _ in range(min(number, len(self._waiting)))]

    def acknowledged(self, deliveries: Iterable[Delivery]) -> None:
        """The receiver has answered these with 2xx."""
        self._arrived.update(event.event_id for delivery in deliveries for event in delivery.events)

    def outcome(self) -> dict[Key, ExpectedSale | None]:
        """Every sale that is known by what was acknowledged, as it must be ranked; None where it must not be."""
        return self._sales | outcome(event for event in self._events if event.event_id in self._arrived)

    def _open(self) -> None:
        if self._remember:
            self._sales = self.outcome()
        seed, start = next(self._seeds), self._now().replace(microsecond=0) - SPAN
        self._opened(seed, start)
        simulated = round_history(seed, start, reporting=self._reporting)
        self._events = tuple(event for event in simulated.events if event.provider in self._providers)
        self._arrived = set()
        self._waiting.extend(plan(self._events, seed))
