"""The webhook receiver against a real broker and registry: what is accepted, rejected, and dead-lettered."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from contracts.catalogue import catalogue
from contracts.json_avro import typed
from services.webhooks.app import EVENTS
from tests import invalid
from tests.connected.streams import Published, Servers, unique, until
from tests.connected.webhooks import SECRET, Delivery, broker, charge, contacts, in_flight, order, receiver, suspended

LARGE = 50 * 1024 * 1024


async def raw(port: int, head: str, body: bytes = b"", *, end: bool = False) -> int:
    """The status that a request of these bytes gets; with `end` nothing is sent after them. 0: there is no answer.

    What the server answers before it has read everything comes although the connection is then reset.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
        for begin in range(0, len(body), 65536):
            writer.write(body[begin : begin + 65536])
            await writer.drain()
        if end:
            writer.write_eof()

    sending, received = asyncio.create_task(send()), b""
    try:
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                while not received.endswith(b"}") and (part := await reader.read(65536)):
                    received += part
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.close()
    return int(received.split()[1]) if received else 0


def dead_letters(published: Published) -> list[bytes]:
    """The bodies that the receiver has dead-lettered."""
    return [
        value["value"] for topic, _, value in published.records if topic == "sales.dlq" and value["unit"] == "webhooks"
    ]


async def test_every_example_is_delivered(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Each example of each topic, delivered as its provider would, is on its topic as the contract has it."""
    reached = Servers(servers)
    async with reached.published(*EVENTS) as (published, read), receiver(servers, tmp_path) as taking:
        expected = []
        for topic in EVENTS:
            for example in catalogue()[topic].examples().values():
                record = typed(catalogue()[topic].avro, example)
                headers = {header["name"]: header["value"] for header in record["headers"]}
                body = b"[" + record["body"] + b"]" if record["provider"] == "hubspot" else record["body"]
                assert await taking.send(Delivery(record["provider"], body, headers=headers)) == 200
                expected.append((topic, record))

        async def complete() -> bool:
            await read()
            return len(published.records) >= len(expected)

        await until(complete, "every example is on its topic")
        samples = await taking.process.samples()
    for (topic, key, value), (wanted_topic, wanted) in zip(
        sorted(published.records, key=lambda one: (one[0], one[2]["event_id"], one[2]["body"])),
        sorted(expected, key=lambda one: (one[0], one[1]["event_id"], one[1]["body"])),
        strict=True,
    ):
        given_headers = {header["name"]: header["value"] for header in value["headers"]}
        kept = {header["name"]: header["value"] for header in wanted["headers"]}
        assert topic == wanted_topic
        assert key == wanted["object_id"].encode()
        assert {**value, "headers": 0, "received_at": 0} == {**wanted, "headers": 0, "received_at": 0}
        assert kept.items() <= given_headers.items()
        assert not [name for name in given_headers if "hmac" in name or "signature" in name]
    assert sum(value for name, value in samples.items() if 'outcome="published"' in name) == len(expected)
    assert not [value for name, value in samples.items() if "records_unaccounted" in name and value]


async def test_every_delivery_without_event_is_one_dead_letter(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Each named case is answered with 200 and is one dead letter, with its reason, its topic and all of its bytes."""
    reached, expected = Servers(servers), Counter[tuple[str, str, bytes]]()
    async with reached.published() as (published, read), receiver(servers, tmp_path) as taking:
        for topic in EVENTS:
            for case in catalogue()[topic].examples("invalid").values():
                if "delivery" in case:
                    body = invalid.content(case)
                    assert await taking.send(Delivery(case["provider"], body, headers=case["headers"])) == 200
                    expected[topic, case["reason"], body] += 1

        def found() -> Counter[tuple[str, str, bytes]]:
            mine = [value for _, _, value in published.records if value.get("unit") == "webhooks"]
            return Counter((value["topic"], value["reason"], value["value"]) for value in mine)

        async def complete() -> bool:
            await read()
            return found().total() >= expected.total()

        await until(complete, "every case is a dead letter")
        assert await taking.send(order(unique("good"))) == 200
        await read()
    assert expected.total() > 20
    assert found() == expected


GOOD = order("bad-input")
ABSENT, ITS_OWN = -1, -2


@dataclass(frozen=True)
class Bad:
    """What is wrong with a signed request, and the status that it gets; 0: the connection is closed.

    `more` are further headers, `without` is one that is left out, `length` what Content-Length says.
    """

    status: int
    more: str = ""
    without: str = ""
    body: bytes = GOOD.body
    length: int = ITS_OWN

    def head(self) -> str:
        """Its request line and headers."""
        lines = [f"{name}: {value}" for name, value in GOOD.signed().items() if name != self.without]
        if self.length != ABSENT:
            lines.append(f"Content-Length: {len(self.body) if self.length == ITS_OWN else self.length}")
        return "\n".join((f"POST {GOOD.path} HTTP/1.1", "Host: x", *lines, *([self.more] if self.more else [])))


SIGNATURE = "x-shopify-hmac-sha256"
TYPE = "content-type"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
DEEP = b'{"id":1,"x":' + b"[" * 200_000
BAD: Mapping[str, Bad] = {
    "wrong signature": Bad(401, body=GOOD.body + b" "),
    "no signature": Bad(401, without=SIGNATURE),
    "signature twice": Bad(401, f"X-Shopify-Hmac-Sha256: {GOOD.signed()[SIGNATURE]}"),
    "topic twice": Bad(400, "X-Shopify-Topic: orders/create"),
    "content type twice": Bad(400, "Content-Type: application/json"),
    "two lengths": Bad(400, "Content-Length: 1"),
    "length that is none": Bad(400, "Content-Length: many", length=ABSENT),
    "negative length": Bad(400, "Content-Length: -5", length=ABSENT),
    "no length": Bad(411, body=b"", length=ABSENT),
    "truncated body": Bad(0, length=len(GOOD.body) + 100),
    "50 MiB": Bad(413, body=b" " * LARGE),
    "50 MiB in chunks": Bad(413, "Transfer-Encoding: chunked", body=CHUNK * 800, length=ABSENT),
    "chunks that are none": Bad(0, "Transfer-Encoding: chunked", body=b"zz\r\n", length=ABSENT),
    "packed": Bad(415, "Content-Encoding: gzip"),
    "form": Bad(415, "Content-Type: application/x-www-form-urlencoded", without=TYPE),
    "wrong charset": Bad(415, "Content-Type: application/json; charset=iso-8859-1", without=TYPE),
    "headers of 100 KB": Bad(431, f"X-Shopify-Long: {'x' * 100_000}"),
}


async def test_bad_requests_are_rejected_and_leave_nothing(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Each kind of bad request gets its status, none becomes a record, and what comes after them is served."""
    reached = Servers(servers)
    async with (
        reached.published("sales.dlq", *EVENTS) as (published, read),
        receiver(servers, tmp_path, WEBHOOKS_ACK_TIMEOUT_S="4") as taking,
    ):
        statuses = {
            name: await raw(taking.port, bad.head(), bad.body, end=name == "truncated body")
            for name, bad in BAD.items()
        }
        for stale in (charge("evt_stale"), contacts(1, [1])):
            for age in (-400, 400):
                statuses[f"{stale.provider} {age}"] = await taking.send(stale, stale.signed(at=time.time() - age))
        identity = unique("good")
        assert await taking.send(order(identity)) == 200

        async def good() -> bool:
            await read()
            return any(value.get("event_id") == identity for _, _, value in published.records)

        await until(good, "the good one is there")
        log = taking.process.logged()
    wanted = {name: bad.status for name, bad in BAD.items()}
    wanted |= {f"{provider} {age}": 401 for provider in ("stripe", "hubspot") for age in (-400, 400)}
    assert statuses == wanted
    assert [value["event_id"] for _, _, value in published.records if "event_id" in value] == [identity]
    assert dead_letters(published) == []
    assert SECRET not in log
    assert "request_failed" not in log
    assert "uncaught" not in log


# what is signed and odd, and whether it is an event
ODD = {
    "equal keys": (b'{"id":1,"id":2}', True),
    "huge number": (b'{"id":3,"x":1e999999,"y":' + b"9" * 4000 + b"}", True),
    "longest body": (b'{"id":4,"x":"' + b"x" * (1_000_000 - 15) + b'"}', True),
    "NaN": (b'{"id":5,"x":NaN}', False),
    "number of 5000 digits": (b'{"id":6,"x":' + b"9" * 5000 + b"}", False),
    "deep nesting": (DEEP, False),
    "truncated": (GOOD.body[:-5], False),
    "Latin-1": ('{"id":7,"x":"São Paulo"}'.encode("latin-1"), False),
    "longest without event": (b"x" * 1_000_000, False),
}


async def test_signed_bodies_of_any_kind(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Whatever is signed is answered with 200: it is one record with its bytes, on its topic or in the dead letters."""
    reached = Servers(servers)
    async with (
        reached.published("sales.dlq", "shopify.orders") as (published, read),
        receiver(servers, tmp_path, WEBHOOKS_ACK_TIMEOUT_S="4") as taking,
    ):
        for body, _ in ODD.values():
            assert await taking.send(Delivery("shopify", body, headers=order(unique("odd")).headers)) == 200

        async def complete() -> bool:
            await read()
            return len(published.records) >= len(ODD)

        await until(complete, "every body is a record")
    events = [value["body"] for topic, _, value in published.records if topic == "shopify.orders"]
    assert sorted(events) == sorted(body for body, event in ODD.values() if event)
    assert sorted(dead_letters(published)) == sorted(body for body, event in ODD.values() if not event)


async def test_a_repeated_request_is_accepted_again(servers: Mapping[str, str], tmp_path: Path) -> None:
    """The same bytes again, with their old signature or signed anew, are a record again, with the same identity."""
    reached, prefix = Servers(servers), unique("repeated")
    sent = [order(prefix), charge(f"evt_{prefix}"), contacts(7, [1, 2])]
    topics = ("shopify.orders", "stripe.charges", "hubspot.contacts")
    async with reached.published(*topics) as (published, read), receiver(servers, tmp_path) as taking:
        for delivery in sent:
            headers = delivery.signed()
            for attempt in (headers, headers, delivery.signed()):
                assert await taking.send(delivery, attempt) == 200

        async def complete() -> bool:
            await read()
            return len(published.records) >= 12

        await until(complete, "every repeat is there")
    found = Counter((topic, value["event_id"]) for topic, _, value in published.records)
    assert found == {event: 3 for delivery in sent for event in delivery.events}
    bodies = {value["event_id"]: value["body"] for _, _, value in published.records}
    assert {json.loads(bodies[identity])["eventId"] for _, identity in sent[2].events} == {1, 2}


@pytest.mark.parametrize("name", ["STRIPE_WEBHOOK_SECRETS", "HUBSPOT_CLIENT_SECRETS"])
async def test_a_secret_can_be_replaced(name: str, servers: Mapping[str, str], tmp_path: Path) -> None:
    """While both are set either is accepted; afterwards the old one is not; without any it is 503."""
    delivery = charge(unique("evt")) if name.startswith("STRIPE") else contacts(8, [1])
    for secrets, statuses in (("new,old", (200, 200, 401)), ("new", (200, 401, 401)), ("", (503, 503, 503))):
        async with receiver(servers, tmp_path, **{name: secrets}) as taking:
            for secret, status in zip(("new", "old", SECRET), statuses, strict=True):
                assert await taking.send(delivery, delivery.signed(secret)) == status


async def test_a_stop_answers_what_was_taken_in(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Requests that wait for the broker when the stop comes are answered with 200, and are there."""
    reached, prefix = Servers(servers), unique("stop")
    async with (
        reached.published("shopify.orders") as (published, read),
        receiver(servers, tmp_path, WEBHOOKS_ACK_TIMEOUT_S="4.5") as taking,
    ):

        async def stopping() -> bool:
            return "start" in (await taking.process.missing() or {})

        with suspended(broker(reached)):
            sending = [asyncio.create_task(taking.send(order(f"{prefix}-{n}"))) for n in range(50)]
            await until(lambda: in_flight(taking, 50), "all wait for the broker")
            ending = asyncio.create_task(taking.process.end())
            await until(stopping, "the stop has come")
        assert set(await asyncio.gather(*sending)) == {200}
        assert await ending == 0

        async def complete() -> bool:
            await read()
            return len(published.records) >= 50

        await until(complete, "all are there")
    assert {value["event_id"] for _, _, value in published.records} == {f"{prefix}-{n}" for n in range(50)}
