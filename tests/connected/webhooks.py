"""Helpers of the webhook tests: requests signed as the providers sign them, and a receiver as a process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import aiohttp
import psutil

from contracts.webhooks import SECRETS, Provider, sign_hubspot, sign_shopify, sign_stripe
from tests.connected.serving import service
from tests.connected.streams import Servers, free_port, until
from tests.connected.unit_process import UnitProcess

SECRET = "connected-tests-secret"
PUBLIC_URL = "https://hooks.example.com"
PATHS: Mapping[Provider, str] = {
    "shopify": "/webhooks/shopify/orders",
    "stripe": "/webhooks/stripe",
    "hubspot": "/webhooks/hubspot",
}
TIMEOUT = aiohttp.ClientTimeout(10)
RETRY_S = 0.5
Headers = dict[str, str]


@dataclass(frozen=True)
class Delivery:
    """What a provider sends: a body, the events in it by topic and identity, and its headers besides the signature."""

    provider: Provider
    body: bytes
    events: Sequence[tuple[str, str]] = ()
    headers: Headers = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it is delivered."""
        return PATHS[self.provider]

    def signed(self, secret: str = SECRET, at: float | None = None) -> Headers:
        """The headers of one attempt; each is signed anew."""
        now = time.time() if at is None else at
        headers = {"content-type": "application/json", **self.headers}
        match self.provider:
            case "shopify":
                return headers | {"x-shopify-hmac-sha256": sign_shopify(secret, self.body)}
            case "stripe":
                return headers | {"stripe-signature": f"t={int(now)},v1={sign_stripe(secret, int(now), self.body)}"}
            case "hubspot":
                timestamp = int(now * 1000)
                signature = sign_hubspot(secret, "POST", PUBLIC_URL + self.path, self.body, timestamp)
                timed = {"x-hubspot-request-timestamp": str(timestamp)}
                return headers | timed | {"x-hubspot-signature-v3": signature}


def order(identity: str, number: int = 1, pad: int = 0) -> Delivery:
    """An order of Shopify with this identity of the event; `pad` makes its body so many bytes longer."""
    body = json.dumps({"id": number, "name": f"#{number}", "note": "x" * pad}).encode()
    headers = {"x-shopify-topic": "orders/create", "x-shopify-event-id": identity}
    return Delivery("shopify", body, [("shopify.orders", identity)], headers)


def charge(identity: str, number: int = 1) -> Delivery:
    """A charge of Stripe."""
    about = {"object": {"id": f"ch_{number}", "object": "charge", "amount": 18450, "currency": "brl"}}
    event = {"id": identity, "object": "event", "type": "charge.succeeded", "created": 1771496102, "data": about}
    return Delivery("stripe", json.dumps(event).encode(), [("stripe.charges", identity)])


def contacts(portal: int, numbers: Sequence[int]) -> Delivery:
    """Changes of contacts of HubSpot, one event for each number, in one request."""
    events = [
        {
            "eventId": number,
            "portalId": portal,
            "occurredAt": 1771496102877,
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": number,
            "propertyName": "city",
            "propertyValue": "São Paulo",
        }
        for number in numbers
    ]
    identities = [("hubspot.contacts", f"{portal}:{number}:{number}:city:1771496102877") for number in numbers]
    return Delivery("hubspot", json.dumps(events, ensure_ascii=False).encode(), identities)


def mixed(prefix: str, portal: int) -> Iterator[Delivery]:
    """Endless deliveries of all providers; HubSpot sends three events at once."""
    for number, provider in enumerate(cycle(PATHS), 1):
        match provider:
            case "shopify":
                yield order(f"{prefix}-{number}", number)
            case "stripe":
                yield charge(f"evt_{prefix}_{number}", number)
            case _:
                yield contacts(portal, range(3 * number, 3 * number + 3))


@dataclass
class Receiver:
    """A receiver as a process; it keeps its port when it is started again."""

    process: UnitProcess
    url: str
    port: int
    session: aiohttp.ClientSession

    async def send(self, delivery: Delivery, headers: Headers | None = None) -> int:
        """The status of one attempt."""
        signed = delivery.signed() if headers is None else headers
        async with self.session.post(delivery.path, data=delivery.body, headers=signed) as answer:
            await answer.read()
            return answer.status

    async def deliver(self, delivery: Delivery) -> int:
        """Send until it is accepted, as providers do, and return the number of attempts."""
        attempts = 0
        while True:
            attempts += 1
            try:
                status = await self.send(delivery)
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            if status == 200:
                return attempts
            assert status in (0, 503), status
            await asyncio.sleep(RETRY_S)

    async def up(self) -> bool:
        """Whether it takes events in."""
        try:
            async with self.session.get("/health") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def receiver(servers: Mapping[str, str], folder: Path, **more: str) -> AsyncIterator[Receiver]:
    """A started receiver with a secret for each provider, that takes events in."""
    port = free_port()
    environment = {
        "WEBHOOKS_PORT": str(port),
        "WEBHOOKS_PUBLIC_URL": PUBLIC_URL,
        **dict.fromkeys(SECRETS.values(), SECRET),
        **more,
    }
    url = f"http://127.0.0.1:{port}"
    async with (
        service("webhooks", servers, folder, **environment) as process,
        aiohttp.ClientSession(url, timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        started = Receiver(process, url, port, session)
        await until(started.up, "the receiver takes events in")
        yield started


async def in_flight(taking: Receiver, count: int) -> bool:
    """Whether so many requests have no answer yet."""
    return (await taking.process.samples())['placar_webhook_requests_in_flight{unit="webhooks"}'] == count


def broker(reached: Servers) -> psutil.Process:
    """The process of the broker."""
    (pid,) = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == "LISTEN" and one.laddr and one.laddr.port == reached.kafka.port
    }
    return psutil.Process(pid)


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """A process that stands still: its connections stay open, and it answers nothing."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
