"""The part of traffic that arrives by webhooks: deliveries of the simulated shop, one after another."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from chassis.settings import load
from contracts.webhooks import Provider
from tools.traffic.shop.model import ExpectedSale, Key
from tools.traffic.shop.rounds import ORDERS, Rounds
from tools.traffic.shop.sender import Sender
from tools.traffic.shop.settings import WebhooksSettings


class Webhooks:
    """Delivers what the providers send."""

    def __init__(self, rounds: Rounds, sender: Sender) -> None:
        self._rounds, self._sender = rounds, sender

    async def deliver(self, number: int) -> Counter[str]:
        """Deliver so many requests, and return how many of each provider the receiver has acknowledged.

        Raises:
            NotDoneError: the receiver does not take them.
        """
        done: Counter[str] = Counter()
        while (left := number - done.total()) > 0:
            deliveries = self._rounds.take(left)
            await self._sender.send(deliveries)
            self._rounds.acknowledged(deliveries)
            done.update(f"{delivery.provider} webhook" for delivery in deliveries)
        return done

    def outcome(self) -> Mapping[Key, ExpectedSale | None]:
        """Every sale that the acknowledged deliveries are about, as it must be ranked; None where it must not be."""
        return self._rounds.outcome()


@asynccontextmanager
async def open_webhooks(
    seed: int, providers: Collection[Provider], report: Callable[[str], None], *, remember: bool
) -> AsyncIterator[Webhooks]:
    """Deliveries of these providers to the receiver of the settings; with `remember` the outcome is of all rounds.

    Raises:
        NotDoneError: the receiver is not up, or a secret is not set.
    """

    def opened(round_seed: int, start: datetime) -> None:
        which = f"--seed {round_seed} --start {start:%Y-%m-%dT%H:%M:%SZ}"
        report(f"webhooks of the next {ORDERS} orders; what the providers list of them: ./placar shop {which}")

    settings = load(WebhooksSettings)
    rounds = Rounds(seed, providers, lambda: datetime.now(UTC), opened, remember=remember, reporting=settings.reporting)
    async with Sender(settings, providers) as sender:
        yield Webhooks(rounds, sender)
