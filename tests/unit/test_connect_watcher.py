"""The watcher: the connector's configuration, what a status asks for, and that a password is never shown."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
import structlog

from contracts.catalogue import catalogue
from contracts.json_avro import records
from contracts.versions import LSN_BITS
from services.connect_watcher import source
from services.connect_watcher.app import wanted
from services.connect_watcher.connect import Connect, RejectedError
from services.connect_watcher.poll import NotRunningError, deploy, reconcile
from services.connect_watcher.settings import WatcherSettings
from services.connect_watcher.transform import (
    Published,
    TemplateError,
    configuration,
    deletion,
    hide,
    lacks_columns,
    log_behind,
    newest,
    reason,
    remedy,
    verdict,
)

TRACE = """org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)
Caused by: java.net.ConnectException: Connection refused
\t... 9 more
Caused by: io.debezium.DebeziumException: Publication autocreation is disabled
\t... 12 more"""


def status(connector: str, *tasks: str, trace: str = TRACE) -> dict[str, Any]:
    """A status as Connect gives it."""
    return {
        "name": "sales-postgres",
        "connector": {"state": connector, "worker_id": "w"},
        "tasks": [
            {"id": number, "state": state, "worker_id": "w"} | ({"trace": trace} if state == "FAILED" else {})
            for number, state in enumerate(tasks)
        ],
        "type": "source",
    }


@pytest.mark.parametrize(
    ("answer", "action", "why"),
    [
        (None, "create", "does not exist"),
        (status("RUNNING", "RUNNING"), "none", "RUNNING"),
        (status("RUNNING"), "wait", "no task"),
        (status("UNASSIGNED", "UNASSIGNED"), "wait", "connector is UNASSIGNED"),
        (status("RUNNING", "RESTARTING"), "wait", "task 0 is RESTARTING"),
        (status("PAUSED", "PAUSED"), "wait", "PAUSED"),
        (status("STOPPED"), "wait", "STOPPED"),
        (status("FAILED"), "restart", "connector FAILED"),
        (status("RUNNING", "FAILED"), "restart", "task 0 FAILED"),
        (status("RUNNING", "RUNNING", "FAILED"), "restart", "task 1 FAILED"),
        (status("PAUSED", "FAILED"), "restart", "task 0 FAILED"),
    ],
)
def test_verdict(answer: dict[str, Any] | None, action: str, why: str) -> None:
    """A missing connector is created, a failed one restarted, one that somebody paused left alone."""
    assert verdict(answer).action == action
    assert why in verdict(answer).why


def test_reason_is_first_line_and_root_cause() -> None:
    """A stack trace is told in one line: its first, and the innermost cause."""
    assert reason(TRACE) == (
        "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer."
        " (cause: io.debezium.DebeziumException: Publication autocreation is disabled)"
    )
    assert reason("") == "no trace"


@pytest.mark.parametrize(
    ("trace", "cure"),
    [
        ("DebeziumException: ... but this is no longer available on the server. Reconfigure", "run task resnapshot"),
        ("PSQLException: ERROR: the slot is older than the snapshot", "run task resnapshot"),
        ('DataException: Invalid value: null used for required field: "amount"', "NaN"),
        ("RuleViolationException: Incompatible artifact: sales.postgres-value", "docs/schema-changes.md"),
        ("Publication autocreation is disabled", ""),
    ],
)
def test_what_helps(trace: str, cure: str) -> None:
    """A failure whose remedy is known is told with it, before its trace."""
    failed = verdict({"connector": {"state": "RUNNING"}, "tasks": [{"id": 0, "state": "FAILED", "trace": trace}]})
    assert cure in remedy(trace)
    assert failed.why == f"task 0 FAILED: {remedy(trace)}{trace}"
    assert bool(remedy(trace)) == bool(cure)


EPOCH_1 = 1 << LSN_BITS


@pytest.mark.parametrize(
    ("versions", "position", "behind"),
    [
        ([], 0, False),
        ([EPOCH_1 | 800, EPOCH_1 | 80], 800, False),
        ([EPOCH_1 | 808, EPOCH_1 | 80], 800, True),
        ([EPOCH_1 | 80_000, 2 * EPOCH_1 | 8], 800, False),  # restored, and the epoch raised
    ],
)
def test_a_log_that_is_behind(versions: list[int], position: int, behind: bool) -> None:
    """A log below what was published under the highest epoch means a restored database; the epoch to set is told."""
    why = log_behind(versions, position)
    assert (why is not None) == behind
    assert why is None or "CDC_EPOCH=2" in why


def test_the_newest_of_a_sale() -> None:
    """The highest version counts whatever the order, and of two equal ones the first."""
    first, same, higher = Published(8, False, b"a"), Published(8, True, b"b"), Published(16, True, b"c")
    assert newest(None, first) is first
    assert newest(first, same) is first
    assert newest(first, higher) is higher
    assert newest(higher, first) is higher


def test_a_deletion_is_between_the_sale_and_its_next_change() -> None:
    """A deletion keeps the sale's values, under a version above its own and below that of the next position."""
    now = datetime(2026, 2, 19, 10, 0, 0, 123456, tzinfo=UTC)
    sale = {"sale_id": "1", "city": "Recife", "version": EPOCH_1 | 8, "deleted": False, "ingestion_time": None}
    gone = deletion(sale, now)
    assert EPOCH_1 | 8 < gone["version"] < EPOCH_1 | 16
    assert (gone["deleted"], gone["city"]) == (True, "Recife")
    assert gone["ingestion_time"] == now.replace(microsecond=123000)


@pytest.mark.parametrize("missing", [None, "city", "id"])
def test_a_schema_without_a_column_of_the_contract(missing: str | None) -> None:
    """What Debezium registers while a column has another name or none is told from a schema that has them all."""
    contract = catalogue()["sales.postgres"].avro
    written = json.loads((Path(__file__).parents[1] / "contract" / "data" / "debezium_envelope.avsc").read_text())
    fields = dict(records(written))["Value"]["fields"]
    fields[:] = [field for field in fields if field["name"] != missing]
    assert lacks_columns(written, contract) == (missing is not None)


def test_shipped_template_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped configuration captures the contract's columns of public.sales into sales.postgres, as set."""
    for name, value in {
        "POSTGRES_HOST": "db.example",
        "POSTGRES_PORT": "6000",
        "POSTGRES_PASSWORD": 'a"b\\c$d',
        "SCHEMA_REGISTRY_PORT": "6001",
    }.items():
        monkeypatch.setenv(name, value)
    config = wanted(WatcherSettings())
    assert config["database.hostname"] == "db.example"
    assert config["database.port"] == "6000"
    assert config["database.password"] == 'a"b\\c$d'
    assert config["slot.name"] == "debezium_sales"
    assert config["table.include.list"] == "public.sales"
    assert config["transforms.route.replacement"] == "sales.postgres"
    assert config["decimal.handling.mode"] == "precise"
    for side in ("key", "value"):
        assert config[f"{side}.converter.apicurio.registry.url"] == "http://127.0.0.1:6001/apis/registry/v2"
        assert config[f"{side}.converter"].endswith("AvroConverter")
    columns = dict(records(catalogue()["sales.postgres"].avro))["Value"]["fields"]
    assert config["column.include.list"].split(",") == [f"public.sales.{each['name']}" for each in columns]
    assert "exactly.once.support" not in config
    assert config["offset.mismatch.strategy"] == "trust_offset"
    assert config["skipped.operations"] == "none"
    assert "debezium_slot_is_new()" in config["snapshot.select.statement.overrides.public.sales"]
    assert int(config["errors.max.retries"]) > 0
    assert "$" not in "".join(value for key, value in config.items() if key != "database.password")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"a": 1}', "strings"),
        ('{"a.b": "${NOWHERE}"}', "a.b.*NOWHERE"),
    ],
)
def test_wrong_template(template: str, why: str) -> None:
    """A wrong template is rejected with the key that is wrong."""
    with pytest.raises(TemplateError, match=why):
        configuration(template, {})


def test_hide() -> None:
    """A secret is hidden wherever it stands; an empty one hides nothing."""
    assert hide("password=s3cret; s3cret", "s3cret") == "password=(hidden); (hidden)"
    assert hide("password=", "") == "password="


def connect(answer: Callable[[httpx.Request], httpx.Response]) -> Connect:
    """Connect's REST API as the function answers."""
    return Connect(
        httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://connect"), "sales-postgres"
    )


async def test_same_configuration_is_not_put_again() -> None:
    """A connector that has its configuration already is not disturbed."""
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(200, json={"a": "1", "name": "sales-postgres"})

    assert not await connect(answer).configure({"a": "1"})
    assert calls == ["GET"]
    assert await connect(answer).configure({"a": "2"})
    assert calls == ["GET", "GET", "PUT"]


async def test_failed_task_is_restarted() -> None:
    """Only what failed is restarted."""
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(f"{request.method} {request.url.raw_path.decode()}")
        return httpx.Response(200, json=status("RUNNING", "FAILED"))

    assert (await reconcile(connect(answer), {})).action == "restart"
    assert calls[1:] == ["POST /connectors/sales-postgres/restart?includeTasks=true&onlyFailed=true"]


async def test_rejection_is_connects_reason() -> None:
    """What Connect rejects is told with its own message."""
    with pytest.raises(RejectedError, match="400: Connector configuration is invalid"):
        await connect(
            lambda _: httpx.Response(400, json={"message": "Connector configuration is invalid\nand more"})
        ).configure({})


async def test_deadline_tells_the_reason_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connector that does not run before the deadline is an error with Connect's reason, the password hidden."""
    monkeypatch.setenv("POSTGRES_PASSWORD", "s3cret")
    settings = WatcherSettings(deadline_s=0.2)
    rejecting = connect(lambda _: httpx.Response(400, json={"message": "cannot log in with s3cret"}))
    lines = structlog.testing.CapturingLogger()
    log = structlog.wrap_logger(
        lines, processors=[structlog.processors.JSONRenderer()], wrapper_class=structlog.stdlib.BoundLogger
    )
    with pytest.raises(NotRunningError, match=r"cannot log in with \(hidden\)") as error:
        await deploy(rejecting, {"database.password": "s3cret"}, settings, log)
    assert "cannot log in" in str(lines.calls)
    assert "s3cret" not in f"{lines.calls} {error.value}"


async def test_a_lost_slot_ends_deploy_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a task that the operator runs helps, nobody waits for the deadline."""
    monkeypatch.setattr(source, "trouble", AsyncMock(return_value="changes were missed, run task resnapshot"))
    waiting = connect(lambda _: httpx.Response(200, json=status("RUNNING")))
    names = {"slot.name": "s", "publication.name": "p"}
    async with asyncio.timeout(10):
        with pytest.raises(NotRunningError, match="does not run: changes were missed, run task resnapshot"):
            await deploy(waiting, names, WatcherSettings(deadline_s=100), structlog.get_logger())


async def test_deploy_returns_when_running() -> None:
    """A connector that is configured and runs is deployed."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            return httpx.Response(200, json=status("RUNNING", "RUNNING"))
        return httpx.Response(404 if request.method == "GET" else 201, json={})

    await deploy(connect(answer), {}, WatcherSettings(deadline_s=5), structlog.get_logger())
