"""`task bench:webhooks`: what one webhook receiver takes in, on a broker of its own.

Requests are signed beforehand and sent by raw connections of one process, which shares the machine with the receiver
and the broker; half of them are orders of Shopify, a third charges of Stripe, the others three events of HubSpot each.

rate: `--connections` send one request after the other for `--seconds`; how many are acknowledged a second.
latency: an open load of `--latency-rate` requests a second; each counts from the moment when it was due.
memory: `--requests` at full rate; the receiver's memory after each tenth of them.

Ends with 1 when a request is not accepted or a target is missed.
"""

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

import psutil

from tests.connected.streams import Servers
from tests.connected.webhooks import Delivery, broker, charge, contacts, order, receiver
from tests.runtime import start_runtime

WARM_UP_S = 5.0
DISTINCT = 600  # requests that are prepared, and sent again and again
SIGNED_FOR_S = 200.0  # after so long they are signed anew
RETRY_S = 0.3  # after which another request follows one that was not accepted
MIB = 1024 * 1024


def say(line: str) -> None:
    """One line of the command's output."""
    print(line, flush=True)  # noqa: T201 - a command's output


def deliveries(pad: int) -> Iterator[Delivery]:
    """The mix; an order is `pad` bytes longer than it must be."""
    for number in range(1, DISTINCT + 1):
        match number % 6:
            case 0 | 1 | 2:
                yield order(f"bench-{number}", number, pad)
            case 3 | 4:
                yield charge(f"evt_bench_{number}", number)
            case _:
                yield contacts(62515, range(3 * number, 3 * number + 3))


def prepared(pad: int) -> list[bytes]:
    """The bytes of every request, signed now."""
    requests = []
    for delivery in deliveries(pad):
        headers = {"Host": "hooks.example.com", **delivery.signed(), "Content-Length": str(len(delivery.body))}
        lines = [f"POST {delivery.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        requests.append("\r\n".join(lines).encode() + b"\r\n\r\n" + delivery.body)
    return requests


class Connection(asyncio.Protocol):
    """A connection with one request at a time; `answered` is told whether it was accepted."""

    def __init__(self, answered: Callable[["Connection", bool], None]) -> None:
        self._answered = answered
        self._received = b""
        self.due = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Send a request, that was due at this moment."""
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer is complete with its JSON object."""
        self._received += data
        if self._received.endswith(b"}"):
            accepted = self._received.startswith(b"HTTP/1.1 200")
            self._received = b""
            self._answered(self, accepted)

    def connection_lost(self, exc: Exception | None) -> None:
        """The receiver closes none that is in use."""
        self.lost = True
        if not self._transport.is_closing() or exc is not None:
            self._answered(self, False)

    def close(self) -> None:
        """Close it."""
        self._transport.close()


class Load:
    """Sends prepared requests over connections; what came of them."""

    def __init__(self, port: int, pad: int) -> None:
        self._port, self._pad = port, pad
        self._sign()
        self.accepted = self.failed = 0
        self.seconds: list[float] = []

    def _sign(self) -> None:
        self._requests, self._signed_at = cycle(prepared(self._pad)), time.monotonic()

    def _next(self) -> bytes:
        if time.monotonic() - self._signed_at > SIGNED_FOR_S:
            self._sign()
        return next(self._requests)

    def _count(self, connection: Connection, accepted: bool) -> None:
        self.accepted += accepted
        self.failed += not accepted
        self.seconds.append(asyncio.get_running_loop().time() - connection.due)

    async def _connected(self, count: int, answered: Callable[[Connection, bool], None]) -> list[Connection]:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Connection(answered), "127.0.0.1", self._port) for _ in range(count)
        ]
        return [connection for _, connection in made]

    async def closed(self, connections: int, going_on: Callable[[], bool]) -> float:
        """Send one after the other on each connection while `going_on`; the seconds that it took."""
        loop = asyncio.get_running_loop()
        busy, done = connections, asyncio.Event()

        def answered(connection: Connection, accepted: bool) -> None:
            nonlocal busy
            self._count(connection, accepted)
            if going_on() and not connection.lost:
                if accepted:
                    connection.send(self._next(), loop.time())
                else:
                    loop.call_later(RETRY_S, lambda: connection.send(self._next(), loop.time()))
                return
            busy -= 1
            if busy == 0:
                done.set()

        opened = await self._connected(connections, answered)
        began = loop.time()
        for connection in opened:
            connection.send(self._next(), began)
        await done.wait()
        for connection in opened:
            connection.close()
        return loop.time() - began

    async def open(self, rate: float, seconds: float) -> float:
        """Send at a rate, however the requests before fare, over as many connections as that takes."""
        loop = asyncio.get_running_loop()
        idle: deque[Connection] = deque()
        began, count, done = loop.time(), int(rate * seconds), asyncio.Event()

        def answered(connection: Connection, accepted: bool) -> None:
            self._count(connection, accepted)
            idle.append(connection)
            if len(self.seconds) == count:
                done.set()

        for number in range(count):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not idle:
                idle += await self._connected(1, answered)
            idle.popleft().send(self._next(), due)
        await done.wait()
        for connection in idle:
            connection.close()
        return loop.time() - began


def milliseconds(seconds: Sequence[float]) -> str:
    """p50, p95, p99 and the maximum of a sample."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return " ".join(f"{1000 * value:.1f}" for value in (cuts[49], cuts[94], cuts[98], max(seconds)))


class Used:
    """CPU of the three processes since it was made."""

    def __init__(self, receiver: psutil.Process, broker: psutil.Process) -> None:
        self.receiver = receiver
        self._processes = {"receiver": receiver, "broker": broker, "load": psutil.Process()}
        self._before = self._seconds()
        self._began = time.monotonic()

    def _seconds(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}

    def __str__(self) -> str:
        took = time.monotonic() - self._began
        return ", ".join(f"{name} {(s - self._before[name]) / took:.0%}" for name, s in self._seconds().items())


async def rate(load: Load, used: Used, arguments: argparse.Namespace) -> bool:
    """How many are acknowledged a second; whether that meets the target."""
    before, end = os.getloadavg()[0], time.monotonic() + arguments.seconds
    took = await load.closed(arguments.connections, lambda: time.monotonic() < end)
    reached = load.accepted / took
    say(f"rate: {reached:.0f} requests/s acknowledged for {took:.0f} s on {arguments.connections} connections")
    say(f"  {load.failed} failed; ms p50 p95 p99 max {milliseconds(load.seconds)}; cores: {used}; load {before:.1f}")
    return load.failed == 0 and reached >= arguments.target_rate


async def latency(load: Load, used: Used, arguments: argparse.Namespace) -> bool:
    """How long they take at a rate; whether that meets the target."""
    before = os.getloadavg()[0]
    took = await load.open(arguments.latency_rate, arguments.seconds)
    say(f"latency: {load.accepted / took:.0f} requests/s acknowledged for {took:.0f} s")
    say(f"  {load.failed} failed; ms p50 p95 p99 max {milliseconds(load.seconds)}; cores: {used}; load {before:.1f}")
    p99_ms = 1000 * statistics.quantiles(load.seconds, n=100, method="inclusive")[98]
    return load.failed == 0 and p99_ms <= arguments.target_ms


async def memory(load: Load, used: Used, arguments: argparse.Namespace) -> bool:
    """The receiver's memory over many requests; whether all were accepted."""
    say(f"memory: {used.receiver.memory_info().rss / MIB:.0f} MiB before")

    def fewer_than(number: int) -> Callable[[], bool]:
        return lambda: load.accepted < number

    for tenth in range(1, 11):
        await load.closed(arguments.connections, fewer_than(arguments.requests * tenth // 10))
        load.seconds.clear()
        say(f"  {load.accepted:,} requests: {used.receiver.memory_info().rss / MIB:.0f} MiB, {load.failed} failed")
    return load.failed == 0


PARTS = {"rate": rate, "latency": latency, "memory": memory}


async def measure(arguments: argparse.Namespace) -> bool:
    """The chosen parts; whether all met their targets."""
    met = True
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runtime = stack.enter_context(start_runtime(folder / "state", ("contracts",)))
        servers = {"KAFKA_HOST": "127.0.0.1", "SCHEMA_REGISTRY_HOST": "127.0.0.1", **runtime.env}
        taking = await stack.enter_async_context(receiver(servers, folder))
        sizes = [len(request) for request in prepared(arguments.pad)]
        say(f"requests of {statistics.mean(sizes):.0f} bytes on average; {os.cpu_count()} cores")
        gc.freeze()
        end = time.monotonic() + WARM_UP_S
        await Load(taking.port, arguments.pad).closed(arguments.connections, lambda: time.monotonic() < end)
        for name in (arguments.only,) if arguments.only else PARTS:
            used = Used(psutil.Process(taking.process.pid), broker(Servers(servers)))
            met &= await PARTS[name](Load(taking.port, arguments.pad), used, arguments)
    say("targets met" if met else "targets NOT MET")
    return met


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part; all without it")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--latency-rate", type=float, default=500.0, help="requests a second of the open load")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the memory part")
    parser.add_argument("--pad", type=int, default=2000, help="bytes that an order is longer than it must be")
    parser.add_argument("--target-rate", type=float, default=1500.0, help="requests a second")
    parser.add_argument("--target-ms", type=float, default=50.0, help="of the 99th percentile")
    sys.exit(0 if asyncio.run(measure(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
