"""The webhook receiver while it or the broker dies or stands still: nothing that was accepted is lost."""

import asyncio
import signal
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import psutil
import pytest

from tests.connected.streams import Servers, unique, until
from tests.connected.webhooks import Delivery, Receiver, broker, in_flight, mixed, order, receiver, suspended

RATE = 200
ATTEMPTS = 100  # at once
SECONDS = 20
TOPICS = ("shopify.orders", "stripe.charges", "hubspot.contacts")
MIB = 1024 * 1024


async def at_rate(taking: Receiver, deliveries: list[Delivery], accepted: set[tuple[str, str]]) -> None:
    """Deliver at RATE a second, each as often as it takes; `accepted` gets the events of those that are.

    As a provider's, the attempts are bounded: what is sent again must not keep out what is sent first.
    """
    attempts = asyncio.Semaphore(ATTEMPTS)

    async def deliver(delivery: Delivery) -> None:
        async with attempts:
            await taking.deliver(delivery)
        accepted.update(delivery.events)

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number, delivery in enumerate(deliveries):
            await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))
            tasks.create_task(deliver(delivery))


@pytest.mark.timeout(400)
async def test_receiver_and_broker_are_killed(servers: Mapping[str, str], tmp_path: Path) -> None:
    """kill -9 of the receiver, then of the broker, at 200 requests a second: every accepted event is on its topic.

    The providers send again what was not accepted, so in the end every event is.
    """
    reached, prefix = Servers(servers), unique("kill")
    deliveries = list(islice(mixed(prefix, int.from_bytes(prefix.encode()[-4:])), RATE * SECONDS))
    wanted = {event for delivery in deliveries for event in delivery.events}
    accepted: set[tuple[str, str]] = set()
    found: set[tuple[str, str]] = set()
    async with reached.published(*TOPICS) as (published, read), receiver(servers, tmp_path) as taking:

        async def caught_up(events: set[tuple[str, str]]) -> bool:
            await read()
            found.update((topic, value["event_id"]) for topic, _, value in published.records)
            return events <= found

        async def progressed(share: float) -> bool:
            return len(accepted) >= share * len(wanted)

        sending = asyncio.create_task(at_rate(taking, deliveries, accepted))
        await until(lambda: progressed(0.2), "the load is on its way")
        await taking.process.end(signal.SIGKILL)
        killed = set(accepted)
        assert killed < wanted
        await taking.process.start()
        await until(lambda: caught_up(killed), "what was accepted before the kill is there")
        await until(lambda: progressed(0.5), "the load is on its way again", 120)
        process = broker(reached)
        process.kill()
        await asyncio.to_thread(process.wait, 30)
        before = set(accepted)
        assert before < wanted
        await sending
        await until(lambda: caught_up(wanted), "every event is there", 120)
        assert before <= accepted == wanted
        await until(taking.process.ready, "the receiver is ready")
        assert await taking.process.end() == 0


@pytest.mark.timeout(400)
async def test_broker_stands_still(servers: Mapping[str, str], tmp_path: Path) -> None:
    """While the broker does not answer every request is 503 within a second or two, and memory stays bounded.

    Requests of 100 KB come at 200 a second all the while. When the broker answers again so does the receiver.
    """
    reached, prefix = Servers(servers), unique("still")
    took: list[float] = []
    statuses: set[int] = set()

    async def attempt(taking: Receiver, number: int) -> None:
        began = time.monotonic()
        statuses.add(await taking.send(order(f"{prefix}-{number}", number, pad=100_000)))
        took.append(time.monotonic() - began)

    async with receiver(servers, tmp_path, WEBHOOKS_MAX_BYTES=str(16 * MIB)) as taking:
        for number in range(200):
            await attempt(taking, number)
        assert statuses == {200}
        memory = psutil.Process(taking.process.pid).memory_info
        before, peak = memory().rss, 0
        statuses.clear()
        took.clear()
        with suspended(broker(reached)):
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with asyncio.TaskGroup() as tasks:
                for number in range(RATE * SECONDS):
                    await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))
                    tasks.create_task(attempt(taking, number))
                    peak = max(peak, memory().rss)
            assert statuses == {503}
            assert max(took) < 5
            took.sort()
            assert took[len(took) // 2] < 1
            assert peak - before < 64 * MIB, f"{(peak - before) / MIB:.0f} MiB more"
        await until(taking.up, "the receiver takes events in again", 30)
        assert await taking.deliver(order(f"{prefix}-last")) >= 1


async def test_stop_without_broker(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A receiver that cannot reach the broker says so, answers 503, and can be stopped with requests in flight."""
    reached = Servers(servers)
    async with receiver(servers, tmp_path, WEBHOOKS_ACK_TIMEOUT_S="4") as taking:
        with suspended(broker(reached)):
            sending = asyncio.create_task(taking.send(order(unique("stop"))))
            await until(lambda: in_flight(taking, 1), "the request waits for the broker")
            began = time.monotonic()
            assert await taking.process.end() == 0
            assert time.monotonic() - began < 25
            assert await sending == 503


async def test_start_without_broker(servers: Mapping[str, str], tmp_path: Path) -> None:
    """From its start on it answers, with 503 until the broker is there."""
    reached = Servers(servers)
    async with receiver(servers, tmp_path) as taking:
        await taking.process.end(signal.SIGKILL)
        with suspended(broker(reached)):
            await taking.process.start()

            async def answers() -> bool:
                try:
                    return await taking.send(order(unique("early"))) == 503
                except OSError:
                    return False

            await until(answers, "it answers")
            assert not await taking.up()
        await until(taking.up, "it takes events in")
        assert await taking.send(order(unique("early"))) == 200
