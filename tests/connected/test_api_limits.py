"""Clients that mean no good, and a stop, against the API as a process."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.connected.serving import database, ranking_set, service
from tests.connected.streams import free_port, until
from tests.connected.test_api import CITY, START, api

HEAD = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n"
RECEIVE_S = 2
MAX_HEAD = 4096


@dataclass(frozen=True)
class Answer:
    """What came on a connection until the server closed it, and how many seconds that took."""

    status: int
    headers: str
    body: bytes
    seconds: float

    def problem(self) -> int:
        """The status that its problem names."""
        assert "content-type: application/problem+json" in self.headers.lower()
        status: int = json.loads(self.body)["status"]
        return status


async def talk(port: int, first: bytes, drip: bytes = b"", drips: int = 0, skip: int = 0) -> Answer:
    """Send `first`, then `drip` so many times a tenth of a second apart, and read until the server closes.

    `skip` answers before the last are left out. A server that closes while bytes of the request are still unread resets
    the connection; what it has answered before came all the same, and is read here.
    """
    began = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(first)
        for _ in range(drips):
            await asyncio.sleep(0.1)
            writer.write(drip)

    sending, received = asyncio.create_task(send()), b""
    try:
        async with asyncio.timeout(30):
            with suppress(ConnectionResetError):
                while part := await reader.read(65536):
                    received += part
    finally:
        sending.cancel()
        writer.close()
    for _ in range(skip):
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        received = rest[length:]
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return Answer(status, head.decode(), body, asyncio.get_running_loop().time() - began)


async def test_slow_and_large_requests(tmp_path: Path) -> None:
    """Whoever sends too slowly or too much gets a problem and a closed connection, while others are served."""
    port, away = free_port(), str(free_port())
    servers = {"CLICKHOUSE_NATIVE_PORT": away, "KAFKA_PORT": away, "API_PORT": str(port)}
    limits = {
        "API_RECEIVE_TIMEOUT_S": str(RECEIVE_S),
        "API_MAX_HEAD_BYTES": str(MAX_HEAD),
        "API_MAX_BODY_BYTES": "100",
    }
    async with service("api", servers, tmp_path, **limits) as process:

        async def listens() -> bool:
            try:
                return (await talk(port, HEAD + b"Connection: close\r\n\r\n")).status == 404
            except OSError:
                return False

        await until(listens, "the API listens")
        long = 10 * RECEIVE_S * 10
        slow = {
            "says nothing": talk(port, b""),
            "trickles its headers": talk(port, HEAD, b"X-A: b\r\n", long),
            "trickles a second request": talk(port, HEAD + b"\r\n", b"GET ", long, skip=1),
        }
        large = {
            "an endless header": talk(port, HEAD + b"X-Long: ", b"x" * 1000, 50),
            "headers in one piece": talk(port, HEAD + b"X-Long: " + b"x" * 2 * MAX_HEAD + b"\r\n\r\n"),
            "an endless address": talk(port, b"GET /", b"x" * 1000, 50),
            "an address in one piece": talk(port, b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
            "a body": talk(port, HEAD.replace(b"GET", b"POST") + b"Content-Length: 101\r\n\r\n"),
            "no HTTP": talk(port, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
        }
        body = talk(port, HEAD.replace(b"GET", b"POST") + b"Content-Length: 99\r\n\r\n", b"x", 98)
        chunks = talk(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", long)
        good = talk(port, HEAD + b"Connection: close\r\n\r\n")
        answers = await asyncio.gather(*slow.values(), *large.values(), body, chunks, good)
        output = process.logged()
    by_name = dict(zip([*slow, *large], answers, strict=False))
    for name in slow:
        assert by_name[name].problem() == by_name[name].status == 408, name
        assert RECEIVE_S <= by_name[name].seconds < 3 * RECEIVE_S, name
    statuses = [431, 431, 431, 414, 413, 400]
    assert [by_name[name].problem() for name in large] == statuses
    assert [by_name[name].status for name in large] == statuses
    for trickled in answers[-3:-1]:  # answered at once, as nobody needs the body, and closed at the deadline
        assert trickled.status in (404, 405)
        assert trickled.seconds < 3 * RECEIVE_S
    assert answers[-1].status == 404
    assert "Traceback" not in output


@asynccontextmanager
async def gate(target: int, holds: Callable[[bytes], bool]) -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Event]]:
    """A port that leads to `target`: what `holds` is true of waits there. Also when it does, and to let it through."""
    waits, opened = asyncio.Event(), asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)

        async def there() -> None:
            while data := await reader.read(65536):
                if holds(data):
                    waits.set()
                    await opened.wait()
                far_writer.write(data)
            far_writer.close()

        async def back() -> None:
            while data := await far_reader.read(65536):
                writer.write(data)
            writer.close()

        await asyncio.gather(there(), back())

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], waits, opened
        opened.set()


async def test_stop_answers_what_runs(servers: Mapping[str, str], tmp_path: Path) -> None:
    """After SIGTERM nobody new is let in, the request that runs is answered, and the exit status is 0."""
    async with database(servers) as db:
        await db.write("rankings.city", ranking_set("rankings.city", START, 1, ["x"]))
        async with gate(int(servers["CLICKHOUSE_NATIVE_PORT"]), lambda sent: b"FROM top_sales_city" in sent) as made:
            port, waits, opened = made
            moved = {**servers, "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_NATIVE_PORT": str(port)}
            async with api(moved, db, tmp_path) as (client, process):
                running = asyncio.create_task(client.get(CITY))
                await waits.wait()
                stopping = asyncio.create_task(process.end())

                async def rejects() -> bool:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port or 0)
                    except ConnectionRefusedError:
                        return True
                    writer.close()
                    return False

                await until(rejects, "the API listens no more")
                assert not running.done()
                opened.set()
                answer = await running
                assert answer.status_code == 200
                assert answer.json()["rankings"][0]["city"] == "x"
                assert await stopping == 0
