"""The live stream over ASGI, without network and Kafka: handshake, frames, errors, limits, slow clients, the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from starlette.types import ASGIApp

from chassis import kafka, logs
from chassis.asgi import ABORT
from chassis.clickhouse import ClickHouse
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.unit import Unit
from contracts.catalogue import catalogue
from contracts.codec import Decoder, encode_body, parse
from contracts.json_avro import typed
from contracts.rankings import BY_NAME
from services.api import hub, live
from services.api.app import application
from services.api.health import Check
from services.api.hub import NEED, Hub, Source
from services.api.live_rankings import LiveRankings
from services.api.protocol import from_query
from services.api.settings import ApiSettings
from tests.contract.registry import MemoryRegistry
from tests.unit.test_api_live_rankings import BRAZIL, PARTITIONS, one

TOKEN = "0123456789abcdef"
GIVE_UP_S = 10.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    end = asyncio.get_running_loop().time() + GIVE_UP_S
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


async def up() -> str:
    """A check that finds its server."""
    return "1.2.3"


class Api:
    """The application over live rankings in memory, and what its hub is sent."""

    def __init__(self, **settings: Any) -> None:
        self.unit = Unit("api", logs.configure("api", "error"), Metrics("api"), Readiness())
        chosen = ApiSettings(**{"live_send_timeout_s": 0.05, **settings})
        self.hub = Hub(self.unit, chosen)
        self.hub.rankings = LiveRankings(PARTITIONS, 100)
        self.hub.synced = True
        check = Check(up)
        self.app: ASGIApp = application(
            self.unit,
            cast(ClickHouse, None),
            chosen,
            check,
            check,
            stream=live.Live(self.hub, chosen),
        )

    def metrics(self) -> str:
        """The metrics as they are scraped."""
        return self.unit.metrics.render([])[0].decode()


class Peer:
    """One connection: what the client sent, what it was sent, and a `taking` that stops it from taking more."""

    def __init__(self, api: Api, path: str = live.PATH, **scope: Any) -> None:
        path, _, query = path.partition("?")
        headers = {"host": "placar:8080", **scope.pop("headers", {})}
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outgoing: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.taking = asyncio.Event()
        self.taking.set()
        self.aborted = asyncio.Event()
        self.scope = {
            "type": "websocket" if path == live.PATH else "http",
            "method": "GET",
            "path": scope.pop("prefix", "") + path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": [],
            "client": ("192.0.2.1", 5000),
            "extensions": {ABORT: self.aborted.set, "websocket.http.response": {}},
            **scope,
        }
        websocket = self.scope["type"] == "websocket"
        self.say({"type": "websocket.connect"} if websocket else {"type": "http.request", "body": b""})
        running = cast(Coroutine[Any, Any, None], api.app(self.scope, self.incoming.get, self._take))
        self.task = asyncio.create_task(running)

    async def _take(self, message: Any) -> None:
        await self.taking.wait()
        self.outgoing.put_nowait(message)

    def say(self, message: dict[str, Any]) -> None:
        """An ASGI message from the client."""
        self.incoming.put_nowait(message)

    def text(self, text: str) -> None:
        """A text message from the client."""
        self.say({"type": "websocket.receive", "text": text})

    async def next(self) -> Mapping[str, Any]:
        """The next ASGI message to the client."""
        async with asyncio.timeout(GIVE_UP_S):
            return await self.outgoing.get()

    async def frame(self) -> dict[str, Any]:
        """The next frame, which is a text."""
        message = await self.next()
        assert message["type"] == "websocket.send", message
        frame: dict[str, Any] = json.loads(message["text"])
        return frame

    async def opened(self) -> dict[str, Any]:
        """The snapshot after acceptance and hello."""
        assert (await self.next())["type"] == "websocket.accept"
        assert (await self.frame())["type"] == "hello"
        snapshot = await self.frame()
        assert snapshot["type"] == "snapshot"
        return snapshot

    async def closed(self) -> int:
        """The code of the close that comes next, with a reason."""
        message = await self.next()
        assert message["type"] == "websocket.close", message
        assert message["reason"]
        code: int = message["code"]
        return code

    async def event(self) -> dict[str, str]:
        """The next server-sent event by field."""
        message = await self.next()
        assert message["type"] == "http.response.body", message
        assert message["body"].endswith(b"\n\n"), message
        return dict(line.split(": ", 1) for line in message["body"].decode().splitlines() if line)


@asynccontextmanager
async def peer(api: Api, path: str = live.PATH, **scope: Any) -> AsyncIterator[Peer]:
    """A connection, gone at the end."""
    made = Peer(api, path, **scope)
    try:
        yield made
    finally:
        made.taking.set()
        made.say({"type": "websocket.disconnect", "code": 1001} if path.startswith(live.PATH) else {})
        made.task.cancel()
        with suppress(asyncio.CancelledError):
            await made.task


async def rejected(api: Api, **scope: Any) -> tuple[int, dict[str, Any]]:
    """Status and problem of a handshake that is rejected before it is accepted."""
    async with peer(api, **scope) as client:
        start, body = await client.next(), await client.next()
    assert start["type"] == "websocket.http.response.start"
    assert (b"content-type", b"application/problem+json") in start["headers"]
    return start["status"], json.loads(body["body"])


async def test_hello_snapshot_then_each_change_once() -> None:
    """A client is greeted, given what is wanted, and then told of each wanted change once."""
    api = Api()
    api.hub.apply(one(1, 0))
    async with peer(api) as client:
        snapshot = await client.opened()
        assert [each["revision"] for each in snapshot["sets"]] == [1]
        for change in (one(2, 1), one(2, 2), one(1, 3), one(7, 4, hour=-1), one(3, 5, hour=1), one(4, 0, BRAZIL)):
            api.hub.apply(change)
        frames = [await client.frame() for _ in range(3)]
    assert [frame["set"]["revision"] for frame in frames] == [2, 3, 4]
    assert frames[-1]["seq"] == api.hub.rankings.seq
    assert 'placar_live_frames_sent_total{kind="websocket",type="ranking",unit="api"} 3' in api.metrics()
    assert 'placar_live_sent_seconds_count{kind="websocket",unit="api"} 3' in api.metrics()


async def test_frame_is_encoded_once_for_all() -> None:
    """Clients of one set are sent the same object."""
    api = Api()
    async with peer(api) as first, peer(api) as second:
        await first.opened()
        await second.opened()
        api.hub.apply(one(1, 0))
        sent = [await first.next(), await second.next()]
    assert sent[0]["text"] is sent[1]["text"]


async def test_what_waits_is_the_newest_of_each_window() -> None:
    """A client that takes slowly is sent the newest set of each window, in the order of their positions."""
    api = Api(live_send_timeout_s=GIVE_UP_S)
    async with peer(api) as client:
        await client.opened()
        client.taking.clear()
        api.hub.apply(one(1, 0, BRAZIL))
        await asyncio.sleep(0.01)  # the first frame is being taken
        for change in (one(2, 0), one(3, 1, BRAZIL), one(4, 1)):
            api.hub.apply(change)
        client.taking.set()
        frames = [await client.frame() for _ in range(3)]
    assert [frame["set"]["revision"] for frame in frames] == [1, 3, 4]
    assert [frame["seq"].split(".")[1:] for frame in frames] == [["0", "1", "0"], ["1", "2", "0"], ["2", "2", "0"]]


async def test_subscribe_replaces_the_subscription() -> None:
    """A subscribe message is answered by a snapshot, and what was wanted before is sent no more."""
    api = Api()
    api.hub.apply(one(1, 0))
    api.hub.apply(one(2, 0, BRAZIL))
    async with peer(api) as client:
        await client.opened()
        client.text('{"type":"subscribe","rankings":["salesman"]}')
        assert [each["revision"] for each in (await client.frame())["sets"]] == [2]
        api.hub.apply(one(3, 1))
        api.hub.apply(one(4, 1, BRAZIL))
        assert (await client.frame())["set"]["revision"] == 4
        client.text(json.dumps({"type": "subscribe", "since": api.hub.rankings.seq}))
        resumed = await client.frame()
    assert (resumed["resumed"], resumed["sets"]) == (True, [])
    assert 'placar_live_resumes_total{resumed="true",unit="api"} 1' in api.metrics()


async def test_subscribe_leaves_out_what_waits() -> None:
    """What still waits of the subscription before is left out when another replaces it."""
    api = Api(live_send_timeout_s=GIVE_UP_S)
    async with peer(api) as client:
        await client.opened()
        client.taking.clear()
        api.hub.apply(one(1, 0))
        await asyncio.sleep(0.01)  # the first frame is being taken
        api.hub.apply(one(2, 1))
        client.text('{"type":"subscribe","rankings":["salesman"]}')
        await eventually(client.incoming.empty)
        client.taking.set()
        frames = [await client.frame(), await client.frame()]
    assert [frame["type"] for frame in frames] == ["ranking", "snapshot"]
    assert frames[0]["set"]["revision"] == 1


async def test_ping_and_heartbeats() -> None:
    """A ping is answered by a heartbeat; without one heartbeats come by themselves."""
    api = Api(live_heartbeat_s=0.01)
    async with peer(api) as client:
        await client.opened()
        client.text('{"type":"ping"}')
        assert (await client.frame())["type"] == "heartbeat"
        beating = asyncio.create_task(api.hub.beat())
        assert (await client.frame())["seq"] == api.hub.rankings.seq
        beating.cancel()


async def test_errors_then_closed() -> None:
    """Wrong messages are answered by errors, the fifth also by 1008; a right one between changes nothing."""
    api = Api()
    async with peer(api) as client:
        await client.opened()
        for text in ("{", '{"type":"x"}', '{"type":"subscribe","length":"9h"}', '{"type":"ping"}'):
            client.text(text)
            await client.frame()
        client.say({"type": "websocket.receive", "bytes": b"\x00"})
        client.text("{")
        client.text("{")
        frames = [await client.frame(), await client.frame()]
        assert await client.closed() == 1008
    assert [frame["code"] for frame in frames] == ["malformed", "malformed"]
    assert "binary" in frames[0]["detail"]
    assert 'placar_live_connections{kind="websocket",unit="api"} 0' in api.metrics()


async def test_wrong_subscription_in_the_address() -> None:
    """A wrong address is told with an error frame and closed 1008."""
    async with peer(Api(), f"{live.PATH}?length=9h&since=x") as client:
        await client.next()
        assert {error["field"] for error in (await client.frame())["errors"]} == {"length", "since"}
        assert await client.closed() == 1008


@pytest.mark.parametrize("text", ["x" * 4097, '{"type":"ping"}'])
async def test_too_big_or_too_many_messages(text: str) -> None:
    """A message that is too big is closed 1008, and so is one message too many."""
    async with peer(Api(live_messages_per_minute=1 if len(text) < 99 else 60)) as client:
        await client.opened()
        client.text(text)
        client.text(text)
        message = await client.next()
        if message["type"] == "websocket.send":  # the ping that was allowed, unless the close came first
            message = await client.next()
    assert (message["type"], message["code"]) == ("websocket.close", 1008)


async def test_client_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not take a frame in time is closed 1013 when it takes again, and else cut off."""
    monkeypatch.setattr(live, "CLOSE_S", 0.2)
    api = Api()
    async with peer(api) as late, peer(api) as never:
        for client in (late, never):
            await client.opened()
            client.taking.clear()
        api.hub.apply(one(1, 0))
        await eventually(lambda: 'placar_live_slow_clients_total{kind="websocket",unit="api"} 2' in api.metrics())
        late.taking.set()
        assert await late.closed() == 1013
        assert not never.aborted.is_set()
        async with asyncio.timeout(GIVE_UP_S):
            await never.aborted.wait()
    assert 'placar_live_connections{kind="websocket",unit="api"} 0' in api.metrics()


async def test_client_with_too_much_waiting() -> None:
    """A client for whom more sets wait than may is closed 1013."""
    api = Api(live_queue=3, live_send_timeout_s=GIVE_UP_S)
    async with peer(api, f"{live.PATH}?windows=all") as client:
        await client.opened()
        client.taking.clear()
        for hour in range(5):
            api.hub.apply(one(1, hour, hour=hour))
            await asyncio.sleep(0)
        client.taking.set()
        while (message := await client.next())["type"] == "websocket.send":
            pass
    assert message["code"] == 1013


@pytest.mark.parametrize("settings", [{"live_connections": 2}, {"live_connections_per_address": 2}])
async def test_too_many_connections(settings: dict[str, int]) -> None:
    """One connection too many, over either way in, is told to come again; when one has gone it may."""
    api = Api(**settings)
    async with peer(api) as first, peer(api, live.EVENTS_PATH) as second:
        await first.opened()
        assert (await second.next())["status"] == 200
        async with peer(api) as third, peer(api, live.EVENTS_PATH) as fourth:
            assert (await third.next())["type"] == "websocket.accept"
            assert await third.closed() == 1013
            start = await fourth.next()
            assert start["status"] == 503
            assert dict(start["headers"])[b"retry-after"]
        first.say({"type": "websocket.disconnect", "code": 1000})
        await first.task
        async with peer(api) as again:
            await again.opened()
    assert 'placar_live_rejected_total{reason="connections",unit="api"} 2' in api.metrics()


async def test_not_synced() -> None:
    """Before the topics have been read clients are told to come again."""
    api = Api()
    api.hub.synced = False
    async with peer(api) as client, peer(api, live.EVENTS_PATH) as reader:
        await client.next()
        assert await client.closed() == 1013
        assert (await reader.next())["status"] == 503


async def test_origin_and_token_before_acceptance() -> None:
    """A foreign page is rejected with 403 and a client without the token with 401, before the handshake is accepted."""
    api = Api(live_token=TOKEN, live_origins="http://board.example,http://x.example")
    right = {"authorization": f"Bearer {TOKEN}"}
    status, problem = await rejected(api, headers={**right, "origin": "http://evil.example"})
    assert (status, problem["status"]) == (403, 403)
    assert "API_LIVE_ORIGINS" in problem["detail"]
    for headers in ({}, {"authorization": "Bearer wrong"}, {"origin": "http://placar:8080"}):
        assert (await rejected(api, headers=headers))[0] == 401
    for scope in (
        {"headers": {**right, "origin": "http://board.example"}},
        {"headers": {"origin": "http://placar:8080"}, "subprotocols": ["placar.v1", f"bearer.{TOKEN}"]},
    ):
        async with peer(api, **scope) as client:
            accepted = await client.next()
        assert accepted["type"] == "websocket.accept"
        assert accepted["subprotocol"] == ("placar.v1" if "subprotocols" in scope else None)
    for headers, status in (({"origin": "http://evil.example", **right}, 403), ({}, 401), (right, 200)):
        async with peer(api, live.EVENTS_PATH, headers=headers) as reader:
            assert (await reader.next())["status"] == status


async def test_events() -> None:
    """Server-sent events carry the same frames, with the position as id, and resume after Last-Event-ID."""
    api = Api(live_heartbeat_s=0.01)
    api.hub.apply(one(1, 0))
    async with peer(api, f"{live.EVENTS_PATH}?rankings=city") as reader:
        start = await reader.next()
        assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
        assert await reader.event() == {"retry": str(live.RETRY_MS)}
        snapshot = await reader.event()
        api.hub.apply(one(2, 1))
        ranking = await reader.event()
        beating = asyncio.create_task(api.hub.beat())
        beat = await reader.event()
        assert (snapshot["event"], ranking["event"], beat["event"]) == ("snapshot", "ranking", "heartbeat")
        assert ranking["id"] == beat["id"] == api.hub.rankings.seq
        assert json.loads(ranking["data"])["set"] == {"revision": 2}
    api.hub.apply(one(3, 2))
    async with peer(api, f"{live.EVENTS_PATH}?since=wrong", headers={"last-event-id": ranking["id"]}) as reader:
        await reader.next()
        await reader.event()
        resumed = json.loads((await reader.event())["data"])
    beating.cancel()
    counted = api.metrics()
    assert f'placar_http_requests_total{{method="GET",route="{live.EVENTS_PATH}",status="200",unit="api"}} 2' in counted
    assert "placar_http_request_seconds_count" not in counted
    assert (resumed["resumed"], resumed["sets"]) == (True, [{"revision": 3}])


async def test_events_with_wrong_parameters() -> None:
    """What is wrong in the address of the events is a 422 problem that names it."""
    async with peer(Api(), f"{live.EVENTS_PATH}?length=9h") as reader:
        assert (await reader.next())["status"] == 422
        problem = json.loads((await reader.next())["body"])
    assert problem["errors"][0]["field"] == "length"


async def test_stop() -> None:
    """When the process stops sockets are closed 1012 and events end, also for who comes then."""
    api = Api()
    async with peer(api) as client, peer(api, live.EVENTS_PATH) as reader:
        await client.opened()
        for _ in range(3):
            await reader.next()
        beating = asyncio.create_task(api.hub.beat())
        await asyncio.sleep(0)
        beating.cancel()
        assert await client.closed() == 1012
        assert await reader.next() == {"type": "http.response.body", "body": b"", "more_body": False}
        async with peer(api) as late:
            await late.next()
            assert await late.closed() == 1012


async def test_bounded_work() -> None:
    """An address that had more sets than its share must wait, whether it subscribes, connects or reads events."""
    api = Api(live_sets_per_s=0.01, live_sets_burst=10, live_send_timeout_s=GIVE_UP_S)
    for hour in range(9):
        api.hub.apply(one(1, hour, hour=hour))
    async with peer(api, f"{live.PATH}?windows=all") as client, peer(api, client=("192.0.2.2", 1)) as other:
        await client.opened()  # 9 of 10
        await other.opened()
        client.text('{"type":"subscribe","windows":"all"}')
        assert len((await client.frame())["sets"]) == 9  # more than is left, once
        client.text('{"type":"subscribe"}')
        assert await client.closed() == 1013
        async with peer(api) as again, peer(api, live.EVENTS_PATH) as reader:
            assert (await again.next())["type"] == "websocket.accept"
            message = await again.next()
            assert (message["type"], message["code"]) == ("websocket.close", 1013)
            assert "API_LIVE_SETS_PER_S" in message["reason"]
            start = await reader.next()
            assert start["status"] == 503
            assert int(dict(start["headers"])[b"retry-after"]) > 800
        other.text('{"type":"subscribe"}')  # of another address
        assert (await other.frame())["type"] == "snapshot"
    counted = api.metrics()
    assert 'placar_live_rejected_total{reason="sets",unit="api"} 3' in counted
    assert 'placar_live_connections{kind="sse",unit="api"}' not in counted


async def test_events_reject_parameters_like_rest() -> None:
    """Unknown and repeated parameters of the events are a 422 problem, as they are in REST."""
    for query, field in (("country=PT", "country"), ("length=1h&length=1h", "length")):
        async with peer(Api(), f"{live.EVENTS_PATH}?{query}") as reader:
            assert (await reader.next())["status"] == 422
            problem = json.loads((await reader.next())["body"])
        assert [error["field"] for error in problem["errors"]] == [field]


async def test_head_of_the_events() -> None:
    """HEAD tells whether the events would come, and ends."""
    async with peer(Api(), live.EVENTS_PATH, method="HEAD") as reader:
        assert (await reader.next())["status"] == 200
        assert await reader.next() == {"type": "http.response.body", "body": b""}
        async with asyncio.timeout(GIVE_UP_S):
            await reader.task


async def test_below_a_path() -> None:
    """The WebSocket is found below the path that a proxy leaves in the address, and without it."""
    api = Api(root_path="/placar")
    for prefix in ("/placar", ""):
        async with peer(api, prefix=prefix) as client:
            await client.opened()


class Script:
    """A consumer that gives what it was told to: batches of records, or an error."""

    def __init__(self, steps: list[Any], end: int) -> None:
        self.steps = steps
        self.end = end
        self.sought: dict[TopicPartition, int] = {}
        self.at = 0

    def assignment(self) -> set[TopicPartition]:
        """The partition of cities."""
        return {TopicPartition("rankings.city", 0)}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The end as it is now."""
        return dict.fromkeys(partitions, self.end)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Remember where it was told to begin."""
        self.sought[tp] = offset

    async def position(self, _: TopicPartition) -> int:
        """Behind the last record that was given."""
        return self.at

    def highwater(self, _: TopicPartition) -> int:
        """The end."""
        return self.end

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        """The next step; then nothing more for ever."""
        if not self.steps:
            await asyncio.Event().wait()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        self.at = step[-1].offset + 1
        return {TopicPartition("rankings.city", 0): step}


class Message:
    """A Kafka record of the topic of cities."""

    def __init__(self, offset: int, value: bytes | None) -> None:
        self.topic, self.partition, self.offset, self.value = "rankings.city", 0, offset, value


async def test_backoff_begins_again_after_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures in a row wait longer and longer; once something was read the next failure waits as the first did."""
    batches: list[list[Any]] = [[KafkaError("gone")]] * 3 + [[[Message(0, None)], KafkaError("gone")]] * 3
    scripts = [Script(list(steps), 1) for steps in batches]

    @asynccontextmanager
    async def consumer(*_: Any) -> AsyncIterator[Script]:
        if not scripts:
            await asyncio.Event().wait()
        yield scripts.pop(0)

    failures: list[int] = []

    def backoff(count: int) -> float:
        failures.append(count)
        return 0.0

    monkeypatch.setattr(kafka, "consumer", consumer)
    monkeypatch.setattr(hub, "backoff_s", backoff)
    following = asyncio.create_task(Api().hub.run())
    await eventually(lambda: len(failures) == 6)
    following.cancel()
    assert failures == [1, 2, 3, 1, 1, 1]


@pytest.mark.parametrize(("failures", "least"), [(1, 0.2), (2, 0.4), (6, 6.4), (7, 10.0), (10_000, 10.0)])
def test_backoff(failures: int, least: float) -> None:
    """The wait doubles up to ten seconds, with up to a second at random beside it."""
    assert least <= hub.backoff_s(failures) < least + 1


async def test_follows_again_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure of Kafka or registry reading goes on where it was; what cannot be read is counted and passed."""
    topic = catalogue()["rankings.city"]
    example = typed(topic.avro, topic.examples()["final"])
    registry = MemoryRegistry(topic)

    def payload(revision: int) -> bytes:
        return encode_body(1, parse(topic.avro), {**example, "revision": revision})

    class Away:
        """A decoder whose registry is unavailable the first time, at the third record."""

        def __init__(self, decoder: Any) -> None:
            self.decoder, self.failures = decoder, 1

        async def decode(self, value: bytes) -> Any:
            """As the decoder."""
            if value == payload(3) and self.failures:
                self.failures -= 1
                raise httpx.ConnectError("the registry is unavailable")
            return await self.decoder.decode(value)

    scripts = [
        Script([[Message(0, payload(1)), Message(1, b"\x01garbage"), Message(2, None)], KafkaError("gone")], 4),
        Script([[Message(3, payload(3))]], 4),
        Script([[Message(3, payload(3))], [Message(4, payload(2))]], 4),
    ]
    used = []

    @asynccontextmanager
    async def consumer(*_: Any) -> AsyncIterator[Script]:
        used.append(scripts.pop(0))
        yield used[-1]

    monkeypatch.setattr(kafka, "consumer", consumer)
    api = Api()
    own = api.hub
    own.synced = False
    own._sources = {name: source for name, source in own._sources.items() if name == "rankings.city"}
    own._sources["rankings.city"] = Source(BY_NAME["city"], "1h", Away(Decoder(registry.client, topic)))  # type: ignore[arg-type]
    following = asyncio.create_task(own.run())
    await eventually(lambda: own.rankings.partitions != tuple(PARTITIONS) and own.rankings.position(0) == 5)
    following.cancel()
    assert [script.sought.get(TopicPartition("rankings.city", 0)) for script in used] == [None, 3, 3]
    assert [each.revision for each in own.rankings.wanted(from_query([], own.labels))] == [3]
    assert own.synced
    assert NEED not in api.unit.readiness.missing
    counted = api.metrics()
    for outcome, count in {"applied": 2, "older": 1, "empty": 1, "undecodable": 1}.items():
        assert f'placar_live_records_total{{outcome="{outcome}",topic="rankings.city",unit="api"}} {count}' in counted
    assert 'placar_live_lag_records{topic="rankings.city",unit="api"}' in counted
