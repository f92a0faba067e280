"""The watcher against real Kafka Connect, Debezium, Postgres and registry."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from schema_registry.client import AsyncSchemaRegistryClient

from contracts.catalogue import catalogue
from contracts.codec import Decoder
from tests.connected.capture.debezium import CONNECTOR
from tests.connected.serving import service
from tests.connected.streams import Servers, free_port, unique, until
from tests.connected.unit_process import UnitProcess

pytestmark = pytest.mark.timeout(400)  # a cold start of Kafka Connect on a busy machine


@pytest.fixture
async def connect(servers: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Kafka Connect's REST API at the connector."""
    base = f"http://127.0.0.1:{servers['CONNECT_PORT']}/connectors/{CONNECTOR}"
    async with httpx.AsyncClient(base_url=base, timeout=20) as client:
        yield client


@pytest.fixture
async def postgres(servers: Mapping[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """The shop's database."""
    connection = await asyncpg.connect(
        host=servers["POSTGRES_HOST"],
        port=int(servers["POSTGRES_PORT"]),
        database=servers["POSTGRES_DB"],
        user=servers["POSTGRES_USER"],
        password=servers["POSTGRES_PASSWORD"],
    )
    try:
        yield connection
    finally:
        await connection.close()


async def once(servers: Mapping[str, str], **more: str) -> tuple[int, str]:
    """`--once` as a process: its exit status and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.connect_watcher",
        "--once",
        env={**os.environ, **servers, **more},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def running(connect: httpx.AsyncClient) -> bool:
    """Whether connector and task run."""
    answer = await connect.get("/status")
    if answer.status_code != 200:
        return False
    status = answer.json()
    states = [status["connector"]["state"], *(task["state"] for task in status["tasks"])]
    return len(states) == 2 and set(states) == {"RUNNING"}


async def test_deploy_is_idempotent_and_captures(
    servers: Mapping[str, str], connect: httpx.AsyncClient, postgres: asyncpg.Connection
) -> None:
    """Deploying twice leaves one running connector, and a sale committed in Postgres is a record of sales.postgres."""
    for _ in range(2):
        status, output = await once(servers)
        assert (status, "RUNNING" in output) == (0, True), output
    assert await running(connect)
    product = unique("product")
    seller = await postgres.fetchval("INSERT INTO salesman (name, city) VALUES ('Ana', 'Recife') RETURNING id")
    await postgres.execute(
        "INSERT INTO sales (salesman_id, salesman, city, amount, product) VALUES ($1, 'Ana', 'Recife', 12.34, $2)",
        seller,
        product,
    )
    reached = Servers(servers)
    decoder = Decoder(AsyncSchemaRegistryClient(reached.registry.url), catalogue()["sales.postgres"])
    reader = AIOKafkaConsumer(
        "sales.postgres", bootstrap_servers=reached.kafka.bootstrap, auto_offset_reset="earliest", group_id=None
    )
    await reader.start()
    try:

        async def captured() -> bool:
            for messages in (await reader.getmany(timeout_ms=200)).values():
                for message in messages:
                    change = await decoder.decode(message.value) if message.value else {"after": None}
                    if change["after"] and change["after"]["product"] == product:
                        return str(change["after"]["amount"]) == "12.34"
            return False

        await until(captured, "the sale is in sales.postgres, its amount exact")
    finally:
        await reader.stop()


async def counted(watcher: UnitProcess, action: str) -> bool:
    """Whether the watcher has done this at least once."""
    return f'placar_connector_interventions_total{{action="{action}"' in await watcher.metrics()


async def test_watcher_creates_and_restarts(
    servers: Mapping[str, str], connect: httpx.AsyncClient, postgres: asyncpg.Connection, tmp_path: Path
) -> None:
    """A connector that is deleted is created again; a task that failed is restarted until it runs, with the reason.

    Lineage has a run for each time that it ran, with what ended it.
    """
    lineage = {"LINEAGE_TRANSPORT": "file", "LINEAGE_FILE_DIR": str(tmp_path / "lineage")}
    async with service("connect_watcher", servers, tmp_path, CONNECT_WATCHER_INTERVAL_S="0.5", **lineage) as watcher:
        await until(watcher.ready, "the watcher is ready")
        await connect.delete("")
        await until(lambda: counted(watcher, "create"), "the connector is created again")
        await until(watcher.ready, "it runs again")

        await postgres.execute("DROP PUBLICATION debezium_sales_pub")
        try:
            await connect.post("/restart?includeTasks=true")

            async def says_why() -> bool:
                missing = await watcher.missing() or {}
                return "FAILED" in missing.get(f"connector {CONNECTOR}", "")

            await until(says_why, "the watcher is not ready, with the reason")
        finally:
            await postgres.execute("CREATE PUBLICATION debezium_sales_pub FOR TABLE sales, debezium_heartbeat")
        await until(watcher.ready, "the failed task was restarted and runs")
        assert await counted(watcher, "restart")
        assert "Publication autocreation is disabled" in watcher.logged()
        events = tmp_path / "lineage" / "connect_watcher.jsonl"

        async def last_run_reported() -> bool:
            states = [json.loads(line)["eventType"] for line in events.read_text("utf-8").splitlines()]
            return "FAIL" in states and states[-1] == "RUNNING"

        await until(last_run_reported, "lineage says that it runs")
    runs_of_the_connector(events.read_text("utf-8"))


def runs_of_the_connector(events: str) -> None:
    """One was deleted, at least one failed with Connect's reason, and the last went on until the watcher ended."""
    runs: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    for event in map(json.loads, events.splitlines()):
        assert event["job"]["name"] == CONNECTOR
        assert event["inputs"][0]["name"] == "sales.public.sales"
        runs.setdefault(event["run"]["runId"], []).append(event["eventType"])
        why[event["eventType"]] = event["run"].get("facets", {}).get("errorMessage", {}).get("message", "")
    assert all(states[:2] == ["START", "RUNNING"] for states in runs.values()), runs
    ends = [states[2:] for states in runs.values()]
    assert ends[0] == ["ABORT"]
    assert ends[-1] == ["COMPLETE"]
    assert ["FAIL"] in ends
    assert all(end == ["FAIL"] for end in ends[1:-1])
    assert "does not exist" in why["ABORT"]
    assert "FAILED" in why["FAIL"]


async def test_connect_is_unavailable(servers: Mapping[str, str]) -> None:
    """When Kafka Connect does not answer before the deadline, deploying fails with its address and setting."""
    port = str(free_port())
    status, output = await once(servers, CONNECT_HOST="127.0.0.1", CONNECT_PORT=port, CONNECT_WATCHER_DEADLINE_S="2")
    assert status == 1
    assert f"127.0.0.1:{port}" in output
    assert "CONNECT_PORT" in output


async def test_rejection_shows_the_reason_and_not_the_password(servers: Mapping[str, str]) -> None:
    """A connector that cannot log in to Postgres is not deployed; Connect's reason is shown, the password is not."""
    status, output = await once(
        servers,
        POSTGRES_HOST="127.0.0.1",
        POSTGRES_PORT=str(free_port()),
        POSTGRES_PASSWORD="very-secret-word",
        CONNECT_WATCHER_CONNECTOR=unique("rejected"),
        CONNECT_WATCHER_DEADLINE_S="5",
    )
    assert status == 1
    assert "400" in output
    assert "very-secret-word" not in output
