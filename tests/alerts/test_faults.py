"""Alerts under injected faults, on a runtime of its own: each fires, reaches the webhook, and resolves afterwards.

Durations and windows are shortened in the rendered rules, so that an alert fires within seconds; thresholds
are the real ones, except the age of a ranking.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer

from chassis.settings import load
from deploy.native import supervise
from deploy.native.settings import NativeSettings
from tests.e2e.scrape import Prometheus, within
from tests.runtime import Runtime, start_runtime

pytestmark = pytest.mark.timeout(2400)

PATIENCE_S = 400  # of a shared machine; on two idle cores each takes seconds
SHORTER = {
    "prometheus/prometheus.yml": (
        (r"(scrape_interval|scrape_timeout|evaluation_interval): \d+s", r"\1: 3s"),
    ),
    "prometheus/recording.yml": ((r"\[5m\]", "[30s]"),),
    "prometheus/alerts.yml": ((r"for: \d+m", "for: 3s"), (r"\[[35]m\]", "[30s]"), (r"max > 300", "max > 20")),
    "alertmanager/alertmanager.yml": ((r"group_(wait|interval): \w+", r"group_\1: 1s"),),
}  # fmt: skip


class Webhook(ThreadingHTTPServer):
    """Receives Alertmanager's posts; `statuses` has the last status of each alert: firing or resolved."""

    def __init__(self) -> None:
        self.statuses: dict[str, str] = {}
        server = self

        class Receiver(BaseHTTPRequestHandler):
            """Stores the alerts of a post."""

            def do_POST(self) -> None:
                """Receive one notification."""
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.statuses[body["groupLabels"]["alertname"]] = body["status"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        super().__init__(("127.0.0.1", 0), Receiver)


@dataclass(frozen=True)
class Scene:
    """The running pipeline with traffic, and where its alerts are observed."""

    runtime: Runtime
    settings: NativeSettings
    prometheus: Prometheus
    webhook: Webhook

    def pid(self, process: str) -> int:
        """The process id of a supervised process."""
        return int(supervise.info(self.settings)[process]["pid"])

    @contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """These processes are stopped meanwhile."""
        supervise.stop(self.settings, names)
        try:
            yield
        finally:
            for name in names:
                supervise.start(self.settings, name)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """The process neither ends nor does anything meanwhile."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def calm(self, *alerts: str) -> None:
        """Wait until none of these fires: one that fires before its fault would prove nothing."""
        async for attempt in within(PATIENCE_S):
            with attempt:
                assert not set(alerts) & await self.prometheus.firing()

    async def fire(self, *alerts: str) -> None:
        """Wait until these fire and the webhook has received them."""
        begun = time.monotonic()
        async for attempt in within(PATIENCE_S):
            with attempt:
                assert set(alerts) <= await self.prometheus.firing()
                assert {self.webhook.statuses.get(alert) for alert in alerts} == {"firing"}
        print(f"{', '.join(alerts)}: firing after {time.monotonic() - begun:.0f} s")  # noqa: T201 - seen with -s

    async def resolve(self, *alerts: str) -> None:
        """Wait until these no longer fire and the webhook has received that."""
        begun = time.monotonic()
        async for attempt in within(PATIENCE_S):
            with attempt:
                assert not set(alerts) & await self.prometheus.firing()
                assert {self.webhook.statuses.get(alert) for alert in alerts} == {"resolved"}
        print(f"{', '.join(alerts)}: resolved after {time.monotonic() - begun:.0f} s")  # noqa: T201 - seen with -s


def shorten(state_dir: Path) -> None:
    """Rewrite the rendered rules."""
    for name, changes in SHORTER.items():
        path = state_dir / "conf" / name
        text = path.read_text("utf-8")
        for pattern, short in changes:
            text, count = re.subn(pattern, short, text)
            assert count, pattern
        path.write_text(text, "utf-8")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The whole pipeline with quick alerts, ten sales a second, and a webhook."""
    webhook = Webhook()
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    extra = {"ALERT_WEBHOOK_URL": f"http://127.0.0.1:{webhook.server_port}/", "LINEAGE_INTERVAL_S": "2"}
    extra |= {"LINEAGE_TRANSPORT": "http", "SERVER_EXPORTER_INTERVAL_S": "2"}
    with start_runtime(tmp_path_factory.mktemp("alerts"), extra_env=extra) as runtime:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in runtime.env.items():
                patch.setenv(name, value)
            settings = load(NativeSettings)
        shorten(runtime.state_dir)
        scene = Scene(runtime, settings, Prometheus(runtime.env), webhook)
        for name in ("prometheus", "alertmanager"):
            os.kill(scene.pid(name), signal.SIGHUP)
        with subprocess.Popen(
            [sys.executable, "-m", "tools", "traffic", "--rate", "10"], env=dict(runtime.env), stdout=subprocess.DEVNULL
        ) as traffic:
            try:
                yield scene
            finally:
                traffic.terminate()
    webhook.shutdown()


async def database(scene: Scene, name: str) -> asyncpg.Connection:
    """A connection to a database of the running Postgres."""
    port = int(scene.runtime.env["POSTGRES_PORT"])
    return await asyncpg.connect(host="127.0.0.1", port=port, user="placar", password="placar", database=name)


@asynccontextmanager
async def api_clients(env: Callable[[str], str]) -> AsyncIterator[None]:
    """Four clients keep requesting from the API."""

    async def request(client: httpx.AsyncClient) -> None:
        while True:
            with suppress(httpx.TransportError):
                await client.get("/api/v1/sales/top-by-city")
            await asyncio.sleep(0.2)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{env('API_PORT')}", timeout=30) as client:
        clients = [asyncio.create_task(request(client)) for _ in range(4)]
        try:
            yield
        finally:
            for each in clients:
                each.cancel()
            await asyncio.wait(clients)


async def test_a_stopped_unit_is_a_target_that_is_down(scene: Scene) -> None:
    """TargetDown, while file_poller does not run."""
    await scene.calm("TargetDown")
    with scene.stopped("file_poller"):
        await scene.fire("TargetDown")
    await scene.resolve("TargetDown")


@asynccontextmanager
async def wrong_records(runtime: Runtime, per_s: int) -> AsyncIterator[None]:
    """Undecodable records arrive in legacy's topic while the context lasts."""
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}", linger_ms=5)

    async def send() -> None:
        while True:
            sent = [await producer.send("sales.legacy", b"no sale", key=str(n).encode()) for n in range(per_s)]
            await asyncio.gather(*sent)
            await asyncio.sleep(1)

    await producer.start()
    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        await producer.stop()


def without_rejection_limits(runtime: Runtime, unit: str) -> None:
    """From its next start the unit dead-letters whatever is rejected, however much that is."""
    script = runtime.state_dir / "conf" / "processes" / f"{unit}.sh"
    text = script.read_text("utf-8")
    script.write_text(text.replace("\nexec ", "\nexport REJECTED_SHARE_MAX=0 REJECTED_RUN_MAX=0\nexec "), "utf-8")


async def test_a_consumer_of_wrong_records_falls_behind_halts_and_dead_letters_them(scene: Scene) -> None:
    """ConsumerLag while legacy is stopped, ConsumerHalted after its start; DeadLetterRate once it has no limits."""
    await scene.calm("ConsumerLag", "ConsumerHalted", "DeadLetterRate")
    async with wrong_records(scene.runtime, per_s=1500):
        with scene.stopped("legacy"):
            await scene.fire("ConsumerLag")
        await scene.fire("ConsumerHalted")
        with scene.stopped("legacy"):
            without_rejection_limits(scene.runtime, "legacy")
        await scene.fire("DeadLetterRate")
    await scene.resolve("ConsumerLag", "ConsumerHalted", "DeadLetterRate")


async def test_a_hanging_store_is_a_slow_and_failing_api(scene: Scene) -> None:
    """ServerDown, NotReady, ApiSlow and ApiFailing, while ClickHouse accepts connections and never answers."""
    async with api_clients(scene.runtime.env.__getitem__):
        await scene.calm("ServerDown", "NotReady", "ApiSlow", "ApiFailing")
        with scene.hanging("clickhouse"):
            await scene.fire("ServerDown", "NotReady", "ApiSlow", "ApiFailing")
        await scene.resolve("ServerDown", "NotReady", "ApiSlow", "ApiFailing")


async def test_without_its_connector_postgres_retains_its_log(scene: Scene) -> None:
    """ConnectorNotRunning while Connect is unavailable, and WalRetained when 300 MB are written meanwhile."""
    await scene.calm("ConnectorNotRunning", "WalRetained")
    with scene.stopped("connect"):
        connection = await database(scene, "sales")
        try:
            for _ in range(300):
                await connection.execute("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000))")
        finally:
            await connection.close()
        await scene.fire("ConnectorNotRunning", "WalRetained")
    await scene.resolve("ConnectorNotRunning", "WalRetained")


async def test_without_taskmanagers_the_rankings_are_stale(scene: Scene) -> None:
    """RankingStale, and FlinkJobNotRunning, which then keeps further notifications of the first back."""
    await scene.calm("FlinkJobNotRunning", "RankingStale")
    with scene.stopped("taskmanager1", "taskmanager2"):
        await scene.fire("FlinkJobNotRunning")
        async for attempt in within(PATIENCE_S):
            with attempt:
                assert "RankingStale" in await scene.prometheus.firing()
    await scene.resolve("FlinkJobNotRunning")
    async for attempt in within(PATIENCE_S):
        with attempt:
            assert "RankingStale" not in await scene.prometheus.firing()


async def test_rejected_lineage_is_an_alert(scene: Scene) -> None:
    """LineageLost, while the lineage service has no table for its events."""
    await scene.calm("LineageLost")
    connection = await database(scene, "lineage")
    try:
        await connection.execute("ALTER TABLE events RENAME TO events_renamed")
        try:
            await scene.fire("LineageLost")
        finally:
            await connection.execute("ALTER TABLE events_renamed RENAME TO events")
        await scene.resolve("LineageLost")
    finally:
        await connection.close()
