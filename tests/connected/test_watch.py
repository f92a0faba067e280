"""`placar watch` against a real API: printed once, and in a terminal."""

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from contracts import codec
from contracts.catalogue import catalogue
from contracts.codec import Encoder
from contracts.rankings import RANKINGS, ranking_windows
from contracts.time import to_ms
from contracts.windows import window_length
from tests.connected.commands import Run, process
from tests.connected.serving import ranking_set, service
from tests.connected.streams import Servers, free_port, until
from tests.connected.unit_process import UnitProcess

# newer than every other window in the topics, which all connected tests share, and one for each test
ONCE = datetime(2095, 1, 1, 10, tzinfo=UTC)
FOLLOWED = ONCE + timedelta(hours=1)


@dataclass
class Scene:
    """An API over real servers, and what publishes rankings as the job does."""

    api: UnitProcess
    environment: Mapping[str, str]
    producer: AIOKafkaProducer
    encoders: Mapping[str, Encoder]

    async def publish(self, start: datetime, revision: int, name: str, total: str) -> None:
        """A revision of every ranking, with one name: that of the ranking and `name`."""
        for window in ranking_windows((window_length("1h"),)):
            country = "BR" if window.ranking.per_country else ""
            record = ranking_set(window.topic, start, revision, [f"{window.ranking.name} {name}"], country=country)
            record["entries"][0]["total_sales"] = Decimal(total)
            key = window.record_key(country, to_ms(start)).encode()
            await self.producer.send_and_wait(window.topic, self.encoders[window.topic](record), key=key)

    async def watch(self, *arguments: str, **more: str) -> Run:
        """Run `placar watch`."""
        return await process("tools", {**self.environment, **more}, "watch", *arguments)


@pytest.fixture
async def scene(servers: Mapping[str, str], tmp_path: Path) -> AsyncIterator[Scene]:
    """An API of the test's own."""
    reached = Servers(servers)
    environment = {**servers, "API_PORT": str(free_port()), "API_LIVE_HEARTBEAT_S": "2"}
    producer = AIOKafkaProducer(bootstrap_servers=reached.kafka.bootstrap)
    await producer.start()
    try:
        encoders = {one.topic: await codec.encoder(reached.client, catalogue()[one.topic]) for one in RANKINGS}
        async with service("api", environment, tmp_path) as api:
            await until(api.ready, "the API is ready")
            yield Scene(api, environment, producer, encoders)
    finally:
        await producer.stop()


async def test_watch_once(scene: Scene) -> None:
    """--once prints every ranking; an API that is down, or rejects, is named in one line, with status 2."""
    await scene.publish(ONCE, 1, "once", "184230.55")

    async def current() -> bool:
        out = (await scene.watch("--once")).out
        return all(f"{ranking.name} once" in out for ranking in RANKINGS)

    await until(current, "watch prints the newest window")
    run = await scene.watch()  # without a terminal, too
    assert (run.status, run.err) == (0, "")
    assert run.out.count("184,230.55") == len(RANKINGS)
    assert all(ranking.title["en"] in run.out for ranking in RANKINGS)
    down = await scene.watch("--once", API_PORT=str(free_port()))
    wrong = await scene.watch("--length", "9h")
    other = await scene.watch("--once", "--country", "XYZ")
    for failed, message in ((down, "does not answer"), (wrong, "RANKING_WINDOWS"), (other, "countries")):
        assert (failed.status, failed.out, failed.err.count("\n")) == (2, "", 1)
        assert failed.err.startswith("watch not done: the API at 127.0.0.1:")
        assert message in failed.err


async def test_watch_in_a_terminal(scene: Scene) -> None:
    """In a terminal changes are followed over a restart of the API, until q is pressed."""
    await scene.publish(FOLLOWED, 1, "first", "100000.25")
    ours, theirs = pty.openpty()
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools", "watch",
        env={**os.environ, **scene.environment, "TERM": "xterm-256color", "COLUMNS": "170", "LINES": "50"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)

    async def shows(text: str) -> None:
        output = ""

        async def there() -> bool:
            nonlocal output
            with suppress(BlockingIOError):
                output += os.read(ours, 1 << 20).decode(errors="replace")
            return text in output

        await until(there, f"watch shows {text!r}")

    try:
        await shows("100,000.25")
        await scene.publish(FOLLOWED, 2, "first", "200000.25")
        await shows("+100,000.00")
        await scene.api.end()
        await shows("reconnecting")
        await scene.publish(FOLLOWED, 3, "first", "300000.25")
        await scene.api.start()
        await shows("300,000.25")
        os.write(ours, b"q")

        async def ended() -> bool:
            with suppress(OSError):
                os.read(ours, 1 << 20)
            return started.returncode is not None

        await until(ended, "q ends it")
        assert started.returncode == 0
    finally:
        if started.returncode is None:
            started.kill()
        os.close(ours)
