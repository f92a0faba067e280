"""Sends deliveries to the webhook receiver as providers do: signed, and again until they are acknowledged."""

import asyncio
import time
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Self

import httpx
import tenacity

from chassis.errors import NotDoneError
from contracts.text import one_line
from contracts.webhooks import Provider
from tools.traffic.shop.delivery import Delivery, signed
from tools.traffic.shop.settings import WebhooksSettings

SETTING = "WEBHOOKS_HOST, WEBHOOKS_PORT"
PARALLEL = 16
ANSWER_S = 5.0  # as long as Shopify waits
DEADLINE_S = 120.0


class _UnacknowledgedError(Exception):
    """The receiver did not take a request; the provider sends it again."""


def _report(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 3 and state.outcome is not None:
        print(f"webhooks wait: {state.outcome.exception()}", flush=True)


class Sender:
    """Posts to the receiver; each delivery until it is acknowledged, for up to `deadline_s` seconds.

    Raises:
        NotDoneError: the receiver is not up, a secret is missing or is not the receiver's, or the deadline has passed.
    """

    def __init__(
        self, settings: WebhooksSettings, providers: Collection[Provider], deadline_s: float = DEADLINE_S
    ) -> None:
        self._settings, self._deadline_s = settings, deadline_s
        self._secrets = {provider: settings.secrets(provider) for provider in providers}
        self._client = httpx.AsyncClient(base_url=settings.url, timeout=ANSWER_S, trust_env=False)
        self._gate = asyncio.Semaphore(PARALLEL)

    async def __aenter__(self) -> Self:
        try:
            await self._client.get("/health")
        except httpx.TransportError as error:
            await self._client.aclose()
            why = f"no webhook receiver at {self._settings.url} (settings {SETTING}): {error!r}"
            raise NotDoneError(f"{why}; ./taskw up -- webhooks starts it") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(self, deliveries: Iterable[Delivery]) -> None:
        """Send at once, some at a time, and return when all are acknowledged."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for delivery in deliveries:
                    tasks.create_task(self._deliver(delivery))
        except* NotDoneError as errors:
            raise NotDoneError(str(errors.exceptions[0])) from errors

    async def _deliver(self, delivery: Delivery) -> None:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_delay(self._deadline_s),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
            retry=tenacity.retry_if_exception_type((_UnacknowledgedError, httpx.TransportError)),
            before_sleep=_report,
        )
        async with self._gate:
            try:
                await retrying(self._attempt, delivery)
            except tenacity.RetryError as error:
                last = error.last_attempt.exception()
                why = f"{self._settings.url} (settings {SETTING}) took no webhook for {self._deadline_s:.0f} s"
                raise NotDoneError(f"{why}: {last!r}") from last

    async def _attempt(self, delivery: Delivery) -> None:
        """One request, signed now.

        Raises:
            NotDoneError: the receiver rejects it for good.
        """
        request = signed(
            delivery, self._secrets[delivery.provider], self._settings.public_url, time.time_ns() // 1_000_000
        )
        answer = await self._client.post(request.path, content=request.body, headers=dict(request.headers))
        if answer.is_success:
            return
        what = f"{request.path} answered {answer.status_code}: {one_line(answer.content, 200)}"
        if answer.is_server_error or answer.status_code == 429:
            raise _UnacknowledgedError(what)
        raise NotDoneError(f"{what} (are secrets and WEBHOOKS_PUBLIC_URL those of the receiver?)")
