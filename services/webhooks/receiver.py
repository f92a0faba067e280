"""What becomes of one request: checked, signed, parsed, published, and only then answered."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.types import Receive, Scope

from chassis import dead_letters, kafka
from chassis.kafka import Record
from chassis.results import Rejected
from chassis.unit import Unit
from contracts.codec import Encoder
from contracts.webhooks import SECRETS, Provider
from services.webhooks import signatures
from services.webhooks.metrics import ACKNOWLEDGED_SECONDS, BYTES_IN_FLIGHT, REQUESTS, REQUESTS_IN_FLIGHT
from services.webhooks.publisher import Publisher, UnavailableError
from services.webhooks.requests import RejectedError, body, check_body, head, unauthorized, unavailable
from services.webhooks.settings import WebhooksSettings
from services.webhooks.signatures import Signed, UnauthorizedError
from services.webhooks.transform import Delivery, MalformedError, events, meant_for

MALFORMED = "webhook_malformed"
EXPORT_S = 1.0
SHOWN = 80  # characters of a header in a log line
REPORT_S = 10.0  # between two log lines of a provider about one outcome


@dataclass(frozen=True)
class Receipt:
    """How many events a request brought, or dead letters it became."""

    accepted: int = 0
    dead_letters: int = 0


@dataclass(frozen=True)
class Content:
    """What a request holds: its records, and topic, type and identity of each event that it is accepted with.

    Where it holds none, `rejected` has what its headers tell of the same. `whole_at` is when all of it was here, on the
    clock of `time.perf_counter`.
    """

    whole_at: float
    records: list[Record]
    accepted: Sequence[tuple[str, str, str]] = ()
    rejected: tuple[str, ...] | None = None


class Receiver:
    """Takes requests in; `encoders` has those of every topic once the registry was reached."""

    def __init__(self, unit: Unit, settings: WebhooksSettings, publisher: Publisher) -> None:
        self.encoders: Mapping[str, Encoder] = {}
        self._unit, self._settings, self._publisher = unit, settings, publisher
        self._secrets = {provider: settings.secrets(provider) for provider in SECRETS}
        self._requests = 0
        self._bytes = 0
        self._reported: dict[tuple[str, str], float] = {}

    @property
    def available(self) -> bool:
        """Whether events are taken in."""
        return self._publisher.available

    def configured(self) -> dict[Provider, bool]:
        """Of which providers a secret is set."""
        return {provider: bool(secrets) for provider, secrets in self._secrets.items()}

    async def export(self) -> None:
        """Keep the gauges and the readiness true until cancelled."""
        late = f"the broker takes longer than {self._settings.ack_timeout_s:g} s to acknowledge ({kafka.SETTING})"
        for provider in self._secrets:  # from 0 on: Prometheus takes the first value of a series for no increase
            self._unit.metrics[REQUESTS].add({"provider": provider, "outcome": "accepted"}, 0)
        while True:
            if self._publisher.stalled:
                self._unit.readiness.waiting("acknowledgement", late)
            else:
                self._unit.readiness.met("acknowledgement")
            self._unit.metrics[REQUESTS_IN_FLIGHT].set({}, self._requests)
            self._unit.metrics[BYTES_IN_FLIGHT].set({}, self._bytes + self._publisher.bytes_published)
            await asyncio.sleep(EXPORT_S)

    async def take(self, provider: Provider, scope: Scope, receive: Receive) -> Receipt:
        """Take one request in; it returns when the broker has acknowledged everything that became of it.

        Raises:
            RejectedError: it is answered with a problem, and nothing was published, or not all of it acknowledged.
        """
        try:
            receipt = await self._take(provider, scope, receive)
        except RejectedError as rejection:
            self._unit.metrics[REQUESTS].inc({"provider": provider, "outcome": rejection.outcome})
            self._report(provider, rejection)
            raise
        outcome = "dead_letter" if receipt.dead_letters else "accepted"
        self._unit.metrics[REQUESTS].inc({"provider": provider, "outcome": outcome})
        return receipt

    async def _take(self, provider: Provider, scope: Scope, receive: Receive) -> Receipt:
        if not self._secrets[provider]:
            raise unavailable("unconfigured", f"the setting {SECRETS[provider]} is empty: nothing can be checked")
        headers = head(provider, scope)
        check_body(headers.plain, self._settings.max_request_bytes)
        with self._admitted() as arrived:
            # of the body nothing is kept but the records while the broker is waited for
            content = await self._content(provider, headers.own, scope, receive, arrived)
            await self._acknowledged(content.records)
        return self._counted(provider, content)

    async def _content(
        self, provider: Provider, own: Mapping[str, str], scope: Scope, receive: Receive, arrived: Callable[[int], None]
    ) -> Content:
        """Read, check and parse a request."""
        raw = await body(receive, self._settings.max_request_bytes, arrived)
        whole_at, received_at = time.perf_counter(), datetime.now(UTC)
        signed = Signed(scope["method"], self._uri(scope), raw, own)
        try:
            signatures.check(provider, signed, self._secrets[provider], received_at.timestamp())
        except UnauthorizedError as error:
            raise unauthorized(str(error)) from error
        delivery = Delivery(provider, own, raw, received_at)
        try:
            outputs = events(delivery)
        except MalformedError as error:
            topic = meant_for(provider, own)
            rejected = Rejected(MALFORMED, f"{provider}: {error}")
            encode = self.encoders[dead_letters.TOPIC]
            record = dead_letters.dead_letter(encode, self._unit.name, rejected, topic=topic, key=None, value=raw)
            named = (own.get(name, "")[:SHOWN] for name in ("x-shopify-topic", "x-shopify-event-id"))
            return Content(whole_at, [record], rejected=(topic, *named))
        records, accepted = [], []
        for output in outputs:
            topic, event_type, event_id = (output.value[name] for name in ("topic", "event_type", "event_id"))
            records.append(Record(topic, output.key, self.encoders[topic](output.value)))
            accepted.append((topic, event_type, event_id))
        return Content(whole_at, records, accepted)

    def _uri(self, scope: Scope) -> str:
        """The address of a request as its provider sees it."""
        query = scope["query_string"].decode("latin-1")
        path: str = scope["raw_path"].decode("latin-1")
        return f"{self._settings.public_url}{path}?{query}" if query else f"{self._settings.public_url}{path}"

    def _counted(self, provider: Provider, content: Content) -> Receipt:
        """What became of an acknowledged request, counted and logged."""
        metrics, log = self._unit.metrics, self._unit.log
        metrics.observe(ACKNOWLEDGED_SECONDS, {"provider": provider}, [time.perf_counter() - content.whole_at])
        if content.rejected is not None:
            topic, event_type, event_id = content.rejected
            metrics.record(topic, "received")
            metrics.record(topic, "dead_letter")
            metrics.dead_letter(topic, MALFORMED)
            log.warning("dead_letter", provider=provider, topic=topic, event_type=event_type, event_id=event_id)
            return Receipt(dead_letters=1)
        for topic, count in Counter(topic for topic, _, _ in content.accepted).items():
            metrics.record(topic, "received", count)
            metrics.record(topic, "published", count)
        for topic, event_type, event_id in content.accepted:
            log.debug("accepted", provider=provider, topic=topic, event_type=event_type, event_id=event_id)
        return Receipt(accepted=len(content.accepted))

    async def _acknowledged(self, records: list[Record]) -> None:
        try:
            await self._publisher.publish(records)
        except UnavailableError as error:
            raise unavailable("unavailable", "the events could not be stored now; send the request again") from error

    @contextmanager
    def _admitted(self) -> Iterator[Callable[[int], None]]:
        """A request in flight; the function counts its bytes.

        Raises:
            RejectedError: there are too many, or the broker is known to be unavailable.
        """
        if not self._publisher.available:
            raise unavailable("unavailable", "events cannot be stored now; send the request again")
        if self._requests >= self._settings.max_requests:
            raise unavailable("overloaded", f"{self._requests} requests are in flight (WEBHOOKS_MAX_REQUESTS)")
        held = 0

        def arrived(size: int) -> None:
            nonlocal held
            if self._bytes + self._publisher.bytes_published + size > self._settings.max_bytes:
                raise unavailable("overloaded", "too many bytes are in flight (WEBHOOKS_MAX_BYTES)")
            held += size
            self._bytes += size

        self._requests += 1
        try:
            yield arrived
        finally:
            self._requests -= 1
            self._bytes -= held

    def _report(self, provider: Provider, rejection: RejectedError) -> None:
        """Log a rejection, unless one like it was logged just now: strangers decide how many there are."""
        kind, now = (provider, rejection.outcome), time.monotonic()
        if now - self._reported.get(kind, float("-inf")) >= REPORT_S:
            self._reported[kind] = now
            why = {"outcome": rejection.outcome, "status": rejection.status, "why": str(rejection)}
            self._unit.log.warning("rejected", provider=provider, **why)
