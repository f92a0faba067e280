"""The receiver over HTTP with a broker in memory: statuses, limits, problems, metrics, what is published."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import jsonschema
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from pydantic import SecretStr
from starlette.types import Message

from chassis import kafka, logs
from chassis.kafka import Record
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from contracts.catalogue import catalogue
from contracts.codec import encode_body, parse
from contracts.webhooks import SECRETS, Provider, sign_hubspot, sign_shopify, sign_stripe
from services.webhooks.app import EVENTS
from services.webhooks.metrics import METRICS
from services.webhooks.publisher import Publisher
from services.webhooks.receiver import Receiver
from services.webhooks.requests import RejectedError
from services.webhooks.routes import PATHS, application
from services.webhooks.settings import WebhooksSettings

SECRET, OLD = "the-newest-secret", "the-one-before"
PUBLIC = "https://hooks.example.com/placar"
ORDERS, STRIPE, HUBSPOT = "/webhooks/shopify/orders", "/webhooks/stripe", "/webhooks/hubspot"
ORDER = b'{"id":5678901234567,"note":"do-not-log"}'
CHARGE = b'{"id":"evt_1","type":"charge.succeeded","data":{"object":{"id":"ch_1","object":"charge"}}}'
CONTACT = (
    b'{"eventId":100,"portalId":62515,"occurredAt":1771496102877,"subscriptionType":"contact.creation","objectId":1}'
)
BODIES: dict[Provider, tuple[str, bytes]] = {
    "shopify": (ORDERS, ORDER),
    "stripe": (STRIPE, CHARGE),
    "hubspot": (HUBSPOT, b"[" + CONTACT + b"," + CONTACT + b"]"),
}
Headers = dict[str, str]


def signed(provider: Provider, body: bytes, secret: str = SECRET, path: str = HUBSPOT) -> Headers:
    """The headers with which a provider delivers a body."""
    now = time.time()
    shared = {"content-type": "application/json"}
    if provider == "shopify":
        return shared | {
            "x-shopify-hmac-sha256": sign_shopify(secret, body),
            "x-shopify-topic": "orders/create",
            "x-shopify-event-id": "e-1",
        }
    if provider == "stripe":
        return shared | {"stripe-signature": f"t={int(now)},v1={sign_stripe(secret, int(now), body)}"}
    timestamp = int(now * 1000)
    return shared | {
        "x-hubspot-signature-v3": sign_hubspot(secret, "POST", PUBLIC + path, body, timestamp),
        "x-hubspot-request-timestamp": str(timestamp),
    }


@dataclass
class Broker:
    """Stands for `kafka.publish`: keeps what it acknowledges, which it does while `answers` is set."""

    answers: asyncio.Event = field(default_factory=asyncio.Event)
    publishes: list[list[Record]] = field(default_factory=list)
    error: KafkaError | None = None

    async def publish(self, _: Any, records: Iterable[Record]) -> int:
        """Acknowledge the records."""
        taken = list(records)
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        self.publishes.append(taken)
        return len(taken)

    @property
    def records(self) -> list[Record]:
        """All that was acknowledged."""
        return [record for taken in self.publishes for record in taken]


@dataclass(frozen=True)
class Scene:
    """A running receiver: its client, broker, unit and the task that publishes."""

    client: httpx.AsyncClient
    broker: Broker
    unit: Unit
    publishing: asyncio.Task[None]
    taking: Receiver

    async def deliver(self, provider: Provider, **changed: Any) -> httpx.Response:
        """What the provider is answered; `changed` are other headers, body or path."""
        path, body = BODIES[provider]
        body, path = changed.pop("body", body), changed.pop("path", path)
        headers = signed(provider, body, changed.pop("secret", SECRET)) | changed.pop("headers", {})
        sent = {name: value for name, value in headers.items() if value is not None}
        return await self.client.post(path, content=body, headers=sent, **changed)

    def outcomes(self, provider: Provider = "shopify") -> dict[str, float]:
        """The requests of a provider by outcome."""
        text = self.unit.metrics.render(["text/plain"])[0].decode()
        found = {}
        for line in text.splitlines():
            if line.startswith("placar_webhook_requests_total{") and f'provider="{provider}"' in line:
                found[line.partition('outcome="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
        return found


@asynccontextmanager
async def receiver(monkeypatch: pytest.MonkeyPatch, *, connected: bool = True, **settings: Any) -> AsyncIterator[Scene]:
    """A receiver with secrets for all providers, and a broker that acknowledges."""
    for name in SECRETS.values():
        monkeypatch.setenv(name, f"{SECRET},{OLD}")
    chosen = WebhooksSettings(public_url=PUBLIC, **settings)
    unit = Unit("webhooks", logs.configure("webhooks", "debug"), Metrics("webhooks", METRICS), Readiness())
    broker = Broker()
    broker.answers.set()
    monkeypatch.setattr(kafka, "publish", broker.publish)
    publisher = Publisher(chosen.ack_timeout_s)
    taking = Receiver(unit, chosen, publisher)
    schema = parse(catalogue()["sales.dlq"].avro), parse(catalogue()["webhooks.other"].avro)
    taking.encoders = {
        "sales.dlq": lambda record: encode_body(1, schema[0], record),
        **dict.fromkeys(EVENTS, lambda record: encode_body(1, schema[1], record)),
    }
    client = cast(AIOKafkaProducer, object())
    publishing = asyncio.create_task(publisher.run(client) if connected else asyncio.sleep(0))
    await asyncio.sleep(0)
    transport = httpx.ASGITransport(application(taking, unit.log), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as http:
        yield Scene(http, broker, unit, publishing, taking)
    publishing.cancel()
    with suppress(asyncio.CancelledError, KafkaError):
        await publishing


async def settled() -> None:
    """Return when every task has gone as far as it can without the broker."""
    for _ in range(200):
        await asyncio.sleep(0)


def assert_problem(answer: httpx.Response, status: int, detail: str = "") -> None:
    """An RFC 9457 problem with this status, which says this."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["instance"]) == (status, answer.url.path)
    assert detail in body["detail"]
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("provider", BODIES)
@pytest.mark.parametrize("secret", [SECRET, OLD])
async def test_a_signed_request_is_published_and_then_accepted(
    provider: Provider, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record for each event, keyed by what it is about, and the number of them in the answer."""
    async with receiver(monkeypatch) as scene:
        answer = await scene.deliver(provider, secret=secret)
        count = 2 if provider == "hubspot" else 1
        assert (answer.status_code, answer.json()) == (200, {"accepted": count, "dead_letters": 0})
        topic, key = {
            "shopify": ("shopify.orders", b"5678901234567"),
            "stripe": ("stripe.charges", b"ch_1"),
            "hubspot": ("hubspot.contacts", b"1"),
        }[provider]
        assert [(record.topic, record.key) for record in scene.broker.records] == [(topic, key)] * count
        assert scene.outcomes(provider) == {"accepted": 1}
        assert scene.unit.metrics.recorded(topic, "published") == count


@pytest.mark.parametrize("path", [path for path, provider in PATHS.items() if provider == "shopify"])
async def test_the_event_decides_not_the_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order is an order wherever Shopify delivers it."""
    async with receiver(monkeypatch) as scene:
        assert (await scene.deliver("shopify", path=path)).status_code == 200
        assert [record.topic for record in scene.broker.records] == ["shopify.orders"]


@pytest.mark.parametrize("provider", BODIES)
async def test_nothing_unsigned_is_accepted(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a signature, with another one, or with another body it is 401, whatever the body is."""
    async with receiver(monkeypatch) as scene:
        assert_problem(await scene.deliver(provider, secret="another"), 401)
        name = next(name for name in signed(provider, b"") if "hmac" in name or "signature" in name)
        assert_problem(await scene.deliver(provider, headers={name: None}), 401)
        path, body = BODIES[provider]
        for other in (b"", b"{", body + b" "):
            answer = await scene.client.post(path, content=other, headers=signed(provider, body))
            assert_problem(answer, 401)
            assert "www-authenticate" in answer.headers
        assert scene.broker.records == []
        assert scene.outcomes(provider) == {"unauthorized": 5}


@pytest.mark.parametrize("provider", BODIES)
async def test_a_provider_without_secret_is_rejected(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, as nothing can be checked, with the name of the setting; the others are served."""
    without: dict[str, Any] = {SECRETS[provider]: SecretStr("")}
    async with receiver(monkeypatch, **without) as scene:
        for name in BODIES:
            answer = await scene.deliver(name)
            if name == provider:
                assert_problem(answer, 503, SECRETS[provider])
            else:
                assert answer.status_code == 200
        assert scene.outcomes(provider) == {"unconfigured": 1}
        health = (await scene.client.get("/health")).json()
        assert health == {"status": "UP", "providers": {name: name != provider for name in BODIES}}


@pytest.mark.parametrize(
    ("headers", "status", "outcome"),
    [
        ({"content-type": "text/plain"}, 415, "unsupported"),
        ({"content-type": "application/json; charset=iso-8859-1"}, 415, "unsupported"),
        ({"content-type": "application/json; charset=utf-16"}, 415, "unsupported"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported"),
        ({"content-type": ""}, 415, "unsupported"),
        ({"content-type": None}, 415, "unsupported"),
        ({"content-type": "application/json; charset=UTF-8"}, 200, "accepted"),
        ({"content-type": 'Application/JSON; charset="utf-8"'}, 200, "accepted"),
        ({"content-encoding": "gzip"}, 415, "unsupported"),
        ({"content-encoding": "deflate, gzip"}, 415, "unsupported"),
        ({"content-encoding": "identity"}, 200, "accepted"),
        ({"content-length": "1000001"}, 413, "too_large"),
        ({"content-length": "52428800"}, 413, "too_large"),
        ({"content-length": None, "transfer-encoding": None}, 411, "malformed"),
        ({"x-anything": "x" * 20_000}, 431, "too_large"),
    ],
)
async def test_what_the_headers_say_of_the_body(
    headers: Headers, status: int, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only plain JSON in UTF-8 of a bounded length is read; all else is answered by the headers alone."""
    async with receiver(monkeypatch) as scene:
        sent = {**signed("shopify", ORDER), "content-length": str(len(ORDER)), **headers}
        request = scene.client.build_request(
            "POST", ORDERS, content=ORDER, headers={n: v for n, v in sent.items() if v is not None}
        )
        for name, value in headers.items():
            if value is None:
                request.headers.pop(name, None)
        answer = await scene.client.send(request)
        assert answer.status_code == status, answer.text
        if status != 200:
            assert_problem(answer, status)
        assert scene.outcomes() == {outcome: 1}
        assert (answer.headers.get("connection") == "close") == (status == 413)


async def test_a_body_without_length_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks a body is as good; the first chunk beyond the limit is the last that is read."""
    read, body = 0, b" " * 2000

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 100):
            yield body[begin : begin + 100]

    async def endless() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    async with receiver(monkeypatch, max_request_bytes=10_000) as scene:
        answer = await scene.client.post(ORDERS, content=chunks(), headers=signed("shopify", body))
        assert answer.json() == {"accepted": 0, "dead_letters": 1}
        headers = signed("shopify", body) | {"transfer-encoding": "chunked"}
        scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        with pytest.raises(RejectedError, match="more than 10000 bytes"):
            await scene.taking.take("shopify", scope, endless)
        assert read == 11


@pytest.mark.parametrize(
    ("provider", "name", "status"),
    [
        ("shopify", "x-shopify-hmac-sha256", 401),
        ("stripe", "stripe-signature", 401),
        ("hubspot", "x-hubspot-signature-v3", 401),
        ("hubspot", "x-hubspot-request-timestamp", 401),
        ("shopify", "x-shopify-topic", 400),
        ("shopify", "x-shopify-event-id", 400),
        ("shopify", "content-type", 400),
        ("shopify", "x-forwarded-for", 200),
    ],
)
async def test_a_header_that_is_there_twice(
    provider: Provider, name: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decides something can be there once only, also where both say the same; others do not matter."""
    async with receiver(monkeypatch) as scene:
        path, body = BODIES[provider]
        headers = {"x-forwarded-for": "192.0.2.1", **signed(provider, body)}
        twice = [*headers.items(), (name, headers[name])]
        answer = await scene.client.post(path, content=body, headers=twice)
        assert answer.status_code == status
        assert len(scene.broker.records) == (1 if status == 200 else 0)


@pytest.mark.parametrize("provider", BODIES)
@pytest.mark.parametrize("body", [b"", b"{", b'"x"', b"[]", b"\xff", b'{"id":NaN}', b"[" * 100_000])
async def test_a_signed_body_without_event_is_one_dead_letter(
    provider: Provider, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered with 200, as it would be no better if it were sent again, and its bytes are kept."""
    async with receiver(monkeypatch) as scene:
        answer = await scene.deliver(provider, body=body)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "dead_letters": 1})
        (record,) = scene.broker.records
        assert record.topic == "sales.dlq"
        meant = "shopify.orders" if provider == "shopify" else "webhooks.other"
        assert record.key == meant.encode()
        assert body in (record.value or b"")
        assert b"webhook_malformed" in (record.value or b"")
        assert scene.outcomes(provider) == {"dead_letter": 1}
        assert scene.unit.metrics.recorded(meant, "dead_letter") == 1


async def test_one_bad_element_takes_the_whole_array_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """All events of an array are published, or none: the whole body is one dead letter."""
    async with receiver(monkeypatch) as scene:
        body = b"[" + CONTACT + b"," + CONTACT + b",7]"
        assert (await scene.deliver("hubspot", body=body)).json() == {"accepted": 0, "dead_letters": 1}
        (record,) = scene.broker.records
        assert record.topic == "sales.dlq"
        assert body in (record.value or b"")


async def test_hubspot_is_checked_against_the_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process sees of the address is the path and the query; a proxy changes the rest."""
    async with receiver(monkeypatch) as scene:
        body = b"[" + CONTACT + b"]"
        for path in (HUBSPOT, f"{HUBSPOT}?a=b", f"{HUBSPOT}?to=x%20y"):
            answer = await scene.client.post(path, content=body, headers=signed("hubspot", body, path=path))
            assert answer.status_code == 200, path
        encoded = f"{HUBSPOT}?to=a%40b"
        answer = await scene.client.post(
            encoded, content=body, headers=signed("hubspot", body, path=f"{HUBSPOT}?to=a@b")
        )
        assert answer.status_code == 200
        answer = await scene.client.post(f"{HUBSPOT}?a=c", content=body, headers=signed("hubspot", body))
        assert_problem(answer, 401)


async def test_the_broker_must_acknowledge_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has there is no answer; after the time for that it is 503, and what comes then is 503 at once."""
    async with receiver(monkeypatch, ack_timeout_s=0.3) as scene:
        scene.broker.answers.clear()
        began = time.monotonic()
        first = await asyncio.gather(*(scene.deliver("shopify") for _ in range(20)))
        assert 0.3 <= time.monotonic() - began < 2
        for answer in first:
            assert_problem(answer, 503)
        began = time.monotonic()
        for _ in range(20):
            assert_problem(await scene.deliver("stripe"), 503)
        assert time.monotonic() - began < 0.3
        assert (await scene.client.get("/health")).status_code == 503
        exporting = asyncio.create_task(scene.taking.export())
        await settled()
        exporting.cancel()
        assert scene.outcomes("hubspot") == {"accepted": 0}  # so that its first request is an increase
        assert "KAFKA_HOST" in scene.unit.readiness.missing["acknowledgement"]
        scene.broker.answers.set()
        await settled()
        assert (await scene.deliver("shopify")).status_code == 200
        assert (await scene.client.get("/health")).status_code == 200
        # what was given to the client of the broker is published all the same, what was only waiting is not
        assert 2 <= len(scene.broker.records) <= 21
        assert scene.outcomes() == {"unavailable": 20, "accepted": 1}


async def test_nothing_is_taken_in_before_the_broker_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its start on it answers, with 503."""
    async with receiver(monkeypatch, connected=False) as scene:
        assert_problem(await scene.deliver("shopify"), 503)
        assert_problem(await scene.deliver("shopify", secret="another"), 503)
        assert (await scene.client.get("/health")).json()["status"] == "DOWN"


async def test_a_rejected_record_ends_the_publishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests are answered with 503, and the error is raised: after it the client of the broker cannot go on."""
    async with receiver(monkeypatch) as scene:
        scene.broker.error = KafkaError("rejected")
        for answer in await asyncio.gather(*(scene.deliver("shopify") for _ in range(5))):
            assert_problem(answer, 503)
        with pytest.raises(KafkaError, match="rejected"):
            await scene.publishing


async def test_requests_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than so many, or more bytes, are 503 at once; the others are answered all the same."""
    async with receiver(monkeypatch, max_requests=10, ack_timeout_s=4) as scene:
        scene.broker.answers.clear()
        waiting = [asyncio.create_task(scene.deliver("shopify")) for _ in range(10)]
        await settled()
        assert_problem(await scene.deliver("shopify"), 503, "WEBHOOKS_MAX_REQUESTS")
        scene.broker.answers.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
        assert (await scene.deliver("shopify")).status_code == 200
        assert scene.outcomes() == {"overloaded": 1, "accepted": 11}


async def test_bytes_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that wait and records that the broker has not acknowledged count, however few requests they are."""
    body = b'{"id":1,"x":"' + b"y" * 900_000 + b'"}'
    async with receiver(monkeypatch, max_bytes=4_000_000, ack_timeout_s=0.2) as scene:
        scene.broker.answers.clear()
        answers = await asyncio.gather(*(scene.deliver("shopify", body=body) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {503}
        assert scene.outcomes()["overloaded"] >= 5
        scene.broker.answers.set()


async def test_requests_are_published_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives while a publish is under way goes in the next one, all of it; a lone request does not wait."""
    async with receiver(monkeypatch, ack_timeout_s=4) as scene:
        scene.broker.answers.clear()
        first = asyncio.create_task(scene.deliver("shopify"))
        await settled()
        others = [asyncio.create_task(scene.deliver("hubspot")) for _ in range(50)]
        await settled()
        scene.broker.answers.set()
        answers = await asyncio.gather(first, *others)
        assert {answer.status_code for answer in answers} == {200}
        assert [len(taken) for taken in scene.broker.publishes] == [1, 100]


async def test_a_client_that_goes_away_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that ends before its length is no event."""
    async with receiver(monkeypatch) as scene:
        headers = signed("shopify", ORDER) | {"content-length": str(len(ORDER))}
        scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        messages: list[Message] = [
            {"type": "http.request", "body": ORDER[:10], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Message:
            return messages.pop(0)

        with pytest.raises(RejectedError, match="ended before"):
            await scene.taking.take("shopify", scope, receive)
        assert scene.broker.records == []
        assert scene.outcomes() == {"disconnected": 1}


async def test_nothing_secret_is_logged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines name provider, type and id of an event; none has a body, a signature or a secret, nor has a metric."""
    async with receiver(monkeypatch) as scene:
        for provider, (_, body) in BODIES.items():
            await scene.deliver(provider)
            await scene.deliver(provider, body=body + b"do-not-log")
            await scene.deliver(provider, secret="another")
        shown = capsys.readouterr().err + scene.unit.metrics.render(["text/plain"])[0].decode()
    lines = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    accepted = [line for line in lines if line["event"] == "accepted"]
    assert {"provider": "shopify", "event_type": "orders/create", "event_id": "e-1"}.items() <= accepted[0].items()
    assert {line["event"] for line in lines} >= {"accepted", "dead_letter", "rejected"}
    for secret in ("do-not-log", SECRET, OLD, sign_shopify(SECRET, ORDER)):
        assert secret not in shown


async def test_rejections_are_logged_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strangers decide how many unsigned requests there are, not how many lines."""
    async with receiver(monkeypatch) as scene:
        for _ in range(100):
            await scene.deliver("shopify", secret="another")
    assert capsys.readouterr().err.count('"rejected"') == 1
    logging.getLogger("placar").setLevel(logging.WARNING)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", ORDERS, 405),
        ("PUT", STRIPE, 405),
        ("HEAD", HUBSPOT, 405),
        ("POST", "/webhooks/shopify", 404),
        ("POST", "/webhooks/shopify/orders/", 404),
        ("POST", "/webhooks/shopify/carts", 404),
        ("POST", "/webhooks/github", 404),
        ("POST", "/health", 405),
        ("GET", "/", 404),
    ],
)
async def test_other_paths_and_methods(method: str, path: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are problems too."""
    async with receiver(monkeypatch) as scene:
        answer = await scene.client.request(method, path)
        assert answer.status_code == status
        if method != "HEAD":
            assert_problem(answer, status)


async def test_the_document_describes_every_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path has examples of what is sent there, every answer that there may be, and a schema of each."""
    async with receiver(monkeypatch) as scene:
        document: Mapping[str, Any] = (await scene.client.get("/openapi.json")).json()
    assert set(document["paths"]) == {*PATHS, "/health"}
    for path in PATHS:
        (operation,) = document["paths"][path].values()
        assert set(operation["responses"]) == {"200", "400", "401", "411", "413", "415", "431", "503"}
        content = operation["requestBody"]["content"]["application/json"]
        assert content["examples"]
        for example in content["examples"].values():
            jsonschema.validate(example["value"], content["schema"])
        for status, response in operation["responses"].items():
            for described in response["content"].values():
                if status != "200":
                    jsonschema.validate(described["example"], described["schema"])
