"""The live stream of the API against real Kafka, schema registry and ClickHouse, over real sockets."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts import codec
from contracts.catalogue import catalogue
from contracts.rankings import BY_NAME
from contracts.time import instant
from services.api.live import EVENTS_PATH, PATH
from tests.connected.serving import Database, database, ranking_set
from tests.connected.streams import Servers, free_port, until
from tests.connected.unit_process import UnitProcess, unit_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

LENGTH = "16m"  # of this module alone: the topics of the main length hold what other tests have published
START = datetime(2026, 2, 19, 10, 40, tzinfo=UTC)
TOKEN = "0123456789abcdef"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
Frame = dict[str, Any]
Key = tuple[str, str, str]


@dataclass
class Stage:
    """The API as a process, topics of its own, and a database with what was published."""

    url: str
    process: UnitProcess
    db: Database
    producer: AIOKafkaProducer
    encode: codec.Encoder
    session: aiohttp.ClientSession
    revision: int = 0

    async def publish(self, ranking: str, names: list[str], *, window: int = 0, country: str = "BR") -> dict[str, Any]:
        """Publish the next revision of a window, `window` of them after START, and wait for the broker."""
        self.revision += 1
        start = START + window * timedelta(minutes=16)
        of = country if ranking == "salesman" else ""
        record = ranking_set(f"rankings.{ranking}", start, self.revision, names, country=of)
        key = f"{instant(start)}/{of}".encode()
        await self.producer.send_and_wait(f"rankings.{ranking}.{LENGTH}", self.encode(record), key=key)
        return record

    async def store(self, record: Mapping[str, Any]) -> None:
        """Write the record to ClickHouse, as the sink does."""
        await self.db.write(f"rankings.{record['ranking']}.{LENGTH}", record)

    @asynccontextmanager
    async def socket(self, **query: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket that has been greeted."""
        parameters = {"length": LENGTH, **query}
        async with self.session.ws_connect(
            f"{self.url}{PATH}", params=parameters, headers=RIGHT, max_msg_size=0
        ) as socket:
            yield socket

    async def serves(self) -> bool:
        """Whether the topics have been read."""
        return await self.process.ready()

    async def rest(self, one: Frame) -> Frame:
        """What REST answers for the window of a set, as the set it must be."""
        query = {"length": LENGTH, "window": one["window"]["start"]}
        head = {"ranking": one["ranking"], "length": LENGTH}
        if one["ranking"] == "salesman":
            query["country"] = head["country"] = one["country"]
        async with self.session.get(f"{self.url}/api/v1/sales/{BY_NAME[one['ranking']].path}", params=query) as answer:
            assert answer.status == 200, await answer.text()
            return {**head, **await answer.json()}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(servers: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One API for all tests of the module."""
    backends = Servers(servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=backends.kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"rankings.{ranking}.{LENGTH}", 1, 1) for ranking in BY_NAME])
    finally:
        await admin.close()
    port, folder = free_port(), tmp_path_factory.mktemp("live")
    producer = AIOKafkaProducer(bootstrap_servers=backends.kafka.bootstrap)
    await producer.start()
    windows = f"1h,{LENGTH}"
    try:
        async with database(servers, windows) as db, aiohttp.ClientSession() as session:
            settings = {
                "CLICKHOUSE_DB": db.settings.db,
                "API_PORT": str(port),
                "API_SHARE_S": "0",
                "RANKING_WINDOWS": windows,
                "API_LIVE_TOKEN": TOKEN,
                "API_LIVE_SEND_TIMEOUT_S": "4",
                "API_LIVE_HEARTBEAT_S": "1",
                "API_RECEIVE_TIMEOUT_S": "1",
            }
            encode = await codec.encoder(backends.client, catalogue()["rankings.city"])
            log = Path(folder) / "api.log"
            async with unit_process("services.api", {**servers, **settings}, log, wait=True) as process:
                yield Stage(f"http://127.0.0.1:{port}", process, db, producer, encode, session)
    finally:
        await producer.stop()


async def frame(socket: aiohttp.ClientWebSocketResponse, *kinds: str) -> Frame:
    """The next frame of one of these types, with others passed over."""
    while True:
        received: Frame = await socket.receive_json(timeout=60)
        if received["type"] in kinds:
            return received


async def close_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code with which the server closes, whatever comes before."""
    async with asyncio.timeout(60):
        while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            pass
    return socket.close_code


def key(one: Frame) -> Key:
    """Which window a set is of."""
    return one["ranking"], one.get("country", ""), one["window"]["start"]


async def test_snapshot_is_what_rest_answers(stage: Stage) -> None:
    """Every set of the snapshot is REST's answer for its window; a change comes once and is REST's answer too."""
    for record in (
        await stage.publish("city", ["São Paulo", "Recife"]),
        await stage.publish("city", ["Recife"], window=1),
        await stage.publish("salesman", ["Ana", "Rui"]),
        await stage.publish("salesman", ["Eva"], country="PT"),
        await stage.publish("product", ["GPU", "SSD"]),
    ):
        await stage.store(record)
    async with stage.socket(windows="all", countries="BR,PT") as socket:
        hello = await frame(socket, "hello")
        assert hello["subscription"]["countries"] == ["BR", "PT"]

        snapshot = await frame(socket, "snapshot")
        while len(snapshot["sets"]) < 5:  # the API reads on while this asks, slowly enough for its limit
            await asyncio.sleep(0.5)
            await socket.send_json({"type": "subscribe", "length": LENGTH, "windows": "all", "countries": ["BR", "PT"]})
            snapshot = await frame(socket, "snapshot")
        for one in snapshot["sets"]:
            assert one == await stage.rest(one)
        changed = await stage.publish("city", ["Recife", "São Paulo"])
        await stage.store(changed)
        ranking = (await frame(socket, "ranking"))["set"]
        assert ranking["revision"] == changed["revision"]
        assert ranking == await stage.rest(ranking)
        await stage.publish("city", ["Natal"], window=2)
        assert (await frame(socket, "ranking"))["set"]["window"]["start"] == instant(START + timedelta(minutes=32))
    assert (await stage.process.samples())['placar_live_sent_seconds_count{kind="websocket",unit="api"}'] >= 2


async def test_who_may_connect(stage: Stage) -> None:
    """A foreign page is rejected with 403, no token with 401; a browser gives its token as a subprotocol."""
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({**RIGHT, "Origin": "http://evil.example"}, 403),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await stage.session.ws_connect(f"{stage.url}{PATH}", headers=headers)
        assert caught.value.status == status
        async with stage.session.get(f"{stage.url}{EVENTS_PATH}", headers=headers) as answer:
            assert answer.status == status
            assert answer.content_type == "application/problem+json"
    protocols = ("placar.v1", f"bearer.{TOKEN}")
    async with stage.session.ws_connect(
        f"{stage.url}{PATH}", protocols=protocols, headers={"Origin": stage.url}
    ) as socket:
        assert socket.protocol == "placar.v1"
        assert (await frame(socket, "hello"))["protocol"] == 1
    assert TOKEN not in stage.process.logged()


async def test_bad_messages(stage: Stage) -> None:
    """Wrong messages are answered, the fifth ends the connection with 1008, as does one that is too big."""
    async with stage.socket() as socket:
        for _ in range(5):
            await socket.send_str("{")
        codes = [(await frame(socket, "error"))["code"] for _ in range(5)]
        assert codes == ["malformed"] * 5
        assert await close_code(socket) == 1008
    for size, code in ((5000, 1008), (100_000, 1009)):
        async with stage.socket() as socket:
            await socket.send_str("x" * size)
            assert await close_code(socket) == code


async def test_lasts_longer_than_a_request(stage: Stage) -> None:
    """The time within which a request must have come does not end a WebSocket."""
    async with stage.socket() as socket:
        for _ in range(3):  # one each second
            await frame(socket, "heartbeat")


async def test_slow_client(stage: Stage) -> None:
    """A client that stops reading is closed 1013, and others are sent every change meanwhile."""
    names = [f"{n} {'x' * 240}" for n in range(10)]
    async with stage.socket(windows="all", rankings="city") as slow, stage.socket(windows="all") as other:
        await frame(slow, "snapshot")
        await frame(other, "snapshot")
        last = 0

        async def given_up() -> bool:
            nonlocal last
            for _ in range(50):
                last = (await stage.publish("city", names, window=3))["revision"]
            return (await stage.process.samples()).get(
                'placar_live_slow_clients_total{kind="websocket",unit="api"}', 0
            ) >= 1

        publishing = asyncio.create_task(until(given_up, "the slow client is given up"))
        seen = 0
        while not publishing.done() or seen < last:
            revision = (await frame(other, "ranking", "heartbeat")).get("set", {}).get("revision", seen)
            assert revision >= seen
            seen = revision
        await publishing
        assert await close_code(slow) == 1013


async def events(answer: aiohttp.ClientResponse, wanted: str, count: int) -> list[tuple[str, Frame]]:
    """Id and data of the next events of this name."""
    events: list[tuple[str, Frame]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(60):
        while len(events) < count:
            line = (await answer.content.readline()).decode().rstrip("\n")
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line:
                if fields.get("event") == wanted:
                    events.append((fields["id"], json.loads(fields["data"])))
                fields = {}
    return events


async def test_events_resume(stage: Stage) -> None:
    """Server-sent events bring the same sets, and after Last-Event-ID only what changed since."""
    address = f"{stage.url}{EVENTS_PATH}?length={LENGTH}&rankings=city&windows=all"
    async with stage.session.get(address, headers=RIGHT) as answer:
        assert answer.content_type == "text/event-stream"
        ((_, snapshot),) = await events(answer, "snapshot", 1)
        assert snapshot["sets"]
        record = await stage.publish("city", ["Belém"], window=4)
        ((position, ranking),) = await events(answer, "ranking", 1)
        assert ranking["set"]["revision"] == record["revision"]
        assert ranking["seq"] == position
    missed = await stage.publish("city", ["Manaus"], window=5)
    async with stage.session.get(address, headers={**RIGHT, "Last-Event-ID": position}) as answer:
        ((_, resumed),) = await events(answer, "snapshot", 1)
        revisions = [one["revision"] for one in resumed["sets"]]
        if not revisions:  # it was resumed before the API had read on
            revisions = [frame["set"]["revision"] for _, frame in await events(answer, "ranking", 1)]
    assert resumed["resumed"]
    assert revisions == [missed["revision"]]


async def test_stop_closes_everybody(stage: Stage) -> None:
    """At SIGTERM 50 sockets are closed 1012 and events end; the process has ended within seconds, with status 0."""
    sockets = [await stage.session.ws_connect(f"{stage.url}{PATH}", headers=RIGHT) for _ in range(50)]
    async with stage.session.get(f"{stage.url}{EVENTS_PATH}", headers=RIGHT) as answer:
        await answer.content.readline()
        for socket in sockets:
            await frame(socket, "snapshot")
        begun = asyncio.get_running_loop().time()
        ended, *codes = await asyncio.gather(stage.process.end(), *(close_code(socket) for socket in sockets))
        assert ended == 0
        assert set(codes) == {1012}
        async with asyncio.timeout(10):
            assert b"ranking" not in await answer.content.read()
    assert asyncio.get_running_loop().time() - begun < 15
    for socket in sockets:
        await socket.close()
    await stage.process.start()
    await until(stage.serves, "the API is ready again")


class Viewer:
    """A client whose connection is cut again and again: every revision that it saw of each window, in order."""

    def __init__(self) -> None:
        self.seen: dict[Key, list[int]] = {}
        self.newest: dict[Key, Frame] = {}
        self.since: str | None = None
        self.resumed: list[bool] = []

    def take(self, frame: Frame) -> None:
        """Note the sets of a frame."""
        self.since = frame.get("seq", self.since)
        for one in frame.get("sets", [frame["set"]] if "set" in frame else []):
            self.seen.setdefault(key(one), []).append(one["revision"])
            self.newest[key(one)] = one

    async def watch(self, stage: Stage, frames: int) -> None:
        """Connect, take so many frames after the snapshot, and be cut off without a goodbye."""
        resume = {"since": self.since} if self.since else {}
        async with stage.socket(windows="all", **resume) as socket:
            snapshot = await frame(socket, "snapshot")
            self.resumed.append(snapshot["resumed"])
            self.take(snapshot)
            for _ in range(frames):
                self.take(await frame(socket, "ranking", "heartbeat"))
            assert socket._response.connection is not None
            assert socket._response.connection.transport is not None
            socket._response.connection.transport.abort()


async def test_fifty_cuts_and_a_restart(stage: Stage) -> None:
    """Cut off 50 times, also by a kill of the API, a client sees each revision at most once, in order, to the last."""
    chance = random.Random(6)
    written: dict[tuple[str, int], dict[str, Any]] = {}
    stopped = asyncio.Event()

    async def change() -> None:
        while not stopped.is_set():
            ranking, window = chance.choice(tuple(BY_NAME)), chance.randrange(6)
            written[ranking, window] = await stage.publish(ranking, ["Ana", "Rui"], window=window)
            await asyncio.sleep(0.01)

    viewer = Viewer()
    changing = asyncio.create_task(change())
    for cut in range(50):
        await viewer.watch(stage, chance.randrange(6))
        if cut == 25:
            await stage.process.end(signal.SIGKILL)
            await stage.process.start()
            await until(stage.serves, "the API is ready again")
    stopped.set()
    await changing
    for record in written.values():
        await stage.store(record)
    newest = {record["revision"] for record in written.values()}

    async def complete() -> bool:
        await viewer.watch(stage, 0)
        return newest <= {one["revision"] for one in viewer.newest.values()}

    await until(complete, "the client has the newest sets")
    assert viewer.resumed[0] is False
    assert all(viewer.resumed[1:])
    for window, revisions in viewer.seen.items():
        assert revisions == sorted(set(revisions)), window
    touched = [one for one in viewer.newest.values() if one["revision"] in newest]
    assert len(touched) == len(written)
    for one in touched:
        assert one == await stage.rest(one)
