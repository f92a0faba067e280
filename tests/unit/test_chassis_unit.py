"""The life of a process: connect, readiness, operations port, exit status, lineage, logs."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer
from pydantic_settings import SettingsConfigDict

from chassis import logs, ops
from chassis.datasets import Dataset, Datasets
from chassis.dead_letters import dead_letter
from chassis.errors import HaltedError
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.results import Rejected
from chassis.settings import UnitSettings
from chassis.unit import Unit, _until_stopped, run_unit
from tests.connected.streams import free_port, until


class ExampleSettings(UnitSettings):
    """A unit's settings."""

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")
    ops_port: int = 9299


@pytest.fixture
def unit() -> Unit:
    """A unit that is nothing but its chassis."""
    return Unit("example", structlog.get_logger("placar"), Metrics("example"), Readiness())


def scraped(metrics: Metrics) -> str:
    """The exposition text."""
    return metrics.render(["text/plain"])[0].decode()


@pytest.mark.parametrize("wrapped", [False, True], ids=["coroutine function", "lambda"])
async def test_connect_waits_for_the_server(wrapped: bool, unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a server is down the unit is not ready and says address and setting; then it is connected."""
    monkeypatch.setattr("tenacity.nap.sleep", lambda _: None)
    missing: list[dict[str, str]] = []

    async def attempt() -> str:
        missing.append(unit.readiness.missing)
        if len(missing) < 3:
            raise ConnectionRefusedError("nobody listens")
        return "connected"

    connect = (lambda: attempt()) if wrapped else attempt  # noqa: PLW0108 - a lambda is no coroutine function
    assert await unit.connect("kafka", "127.0.0.1:1", "KAFKA_PORT", connect, OSError) == "connected"
    assert "127.0.0.1:1" in missing[1]["kafka"]
    assert "KAFKA_PORT" in missing[1]["kafka"]
    assert "nobody listens" in missing[1]["kafka"]
    assert "kafka" not in unit.readiness.missing
    assert 'placar_connection_failures_total{server="kafka",unit="example"} 2' in scraped(unit.metrics)


async def test_a_server_that_answers_again_is_not_waited_for(unit: Unit) -> None:
    """The first failure is reported too; an answer ends only what its own attempts waited for."""
    missing: list[dict[str, str]] = []

    async def attempt() -> None:
        missing.append(unit.readiness.missing)
        if len(missing) == 1:
            raise ConnectionResetError("gone")

    unit.readiness.waiting("start", "starting")
    await unit.retry_until_available("kafka", "127.0.0.1:1", "KAFKA_PORT", attempt, OSError, longest_s=0.01)
    assert "kafka" not in missing[0]
    assert "gone" in missing[1]["kafka"]
    assert "kafka" not in unit.readiness.missing
    assert 'placar_connection_failures_total{server="kafka",unit="example"} 1' in scraped(unit.metrics)
    unit.readiness.waiting("kafka", "another attempt waits for it")
    await unit.retry_until_available("kafka", "127.0.0.1:1", "KAFKA_PORT", attempt, OSError)
    assert "another attempt" in unit.readiness.missing["kafka"]


async def test_connect_raises_what_waiting_cannot_heal(unit: Unit) -> None:
    """An error that is not about reaching the server is raised at once."""

    async def attempt() -> str:
        raise PermissionError("wrong password")

    with pytest.raises(PermissionError):
        await unit.connect("postgres", "127.0.0.1:1", "POSTGRES_PORT", attempt, ConnectionError)


async def test_operations_port() -> None:
    """/livez is always up; /readyz is 503 with what is missing until nothing is; /metrics is Prometheus text."""
    metrics = Metrics("example")
    readiness = Readiness(metrics)
    metrics.record("sales.files", "received", 3)
    async with TestClient(TestServer(ops.application(readiness, metrics))) as client:
        assert (await client.get("/livez")).status == 200
        early = await client.get("/readyz")
        assert (early.status, (await early.json())["missing"]) == (503, {"start": "starting"})
        readiness.met("start")
        assert (await client.get("/readyz")).status == 200
        readiness.waiting("kafka", "unavailable")
        assert (await (await client.get("/readyz")).json())["missing"] == {"kafka": "unavailable"}
        text = await (await client.get("/metrics")).text()
        readiness.met("kafka")
        ready = await (await client.get("/metrics")).text()
    assert 'placar_records_total{outcome="received",topic="sales.files",unit="example"} 3' in text
    assert 'placar_ready{unit="example"} 0' in text
    assert 'placar_waiting{need="kafka",unit="example"} 1' in text
    assert 'placar_waiting{need="start",unit="example"} 0' in text
    assert 'placar_ready{unit="example"} 1' in ready
    assert 'placar_waiting{need="kafka",unit="example"} 0' in ready


def test_dead_letter_says_meaning_value_and_remedy() -> None:
    """A dead letter holds meaning, value and remedy in words, the original bytes, and the source topic as its key."""
    fields: dict[str, object] = {}

    def encode(record: object) -> bytes:
        fields.update(record)  # type: ignore[call-overload]
        return b"encoded"

    rejection = Rejected("amount_malformed", "amount is 'abc'")
    record = dead_letter(encode, "files", rejection, topic="sales.files", key=b"k", value=b"v", partition=2, offset=7)
    assert (record.topic, record.key, record.value) == ("sales.dlq", b"sales.files", b"encoded")
    assert fields["detail"] == "not a decimal number: amount is 'abc'; write digits with a point, such as 1234.56"
    assert (fields["value"], fields["partition"], fields["offset"], fields["attempt"]) == (b"v", 2, 7, 1)


def test_unknown_reason_is_a_bug() -> None:
    """A reason that is not in the list of reasons cannot become a dead letter."""
    with pytest.raises(KeyError):
        dead_letter(lambda _: b"", "files", Rejected("because", ""), topic="t", key=None, value=None)


def run(main: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Run a unit with file lineage; returns its lineage events."""
    monkeypatch.setenv("EXAMPLE_OPS_PORT", str(free_port()))
    monkeypatch.setenv("LINEAGE_TRANSPORT", "file")
    monkeypatch.setenv("LINEAGE_FILE_DIR", str(tmp_path))
    read = Datasets(inputs=[Dataset("kafka://127.0.0.1:9092", "sales.files")])
    try:
        run_unit("example", ExampleSettings, main, lambda _: read)  # type: ignore[arg-type]
    finally:
        events = [json.loads(line) for line in (tmp_path / "example.jsonl").read_text("utf-8").splitlines()]
    return events


def test_clean_end_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that ends by itself is START, RUNNING, COMPLETE of one run, with its datasets."""

    async def main(unit: Unit, _: ExampleSettings) -> None:
        assert unit.name == "example"

    events = run(main, tmp_path, monkeypatch)
    assert [event["eventType"] for event in events] == ["START", "RUNNING", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events}) == 1  # type: ignore[index]
    assert events[0]["inputs"][0]["name"] == "sales.files"  # type: ignore[index]


def test_failure_is_status_1_and_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that fails ends with status 1 and a FAIL event that holds the error."""

    async def main(_: Unit, __: ExampleSettings) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(SystemExit) as end:
        run(main, tmp_path, monkeypatch)
    assert end.value.code == 1
    last = json.loads((tmp_path / "example.jsonl").read_text("utf-8").splitlines()[-1])
    assert last["eventType"] == "FAIL"
    assert "the disk is full" in last["run"]["facets"]["errorMessage"]["message"]


async def test_a_halted_unit_stays_and_is_not_ready(unit: Unit) -> None:
    """Where `main` halts the process does not end: it is not ready, for the halt's reason, until it is stopped."""

    async def main(*_: object) -> None:
        raise HaltedError("topic t: everything is rejected")

    running = asyncio.create_task(_until_stopped(unit, ExampleSettings(), main))

    async def halted() -> bool:
        return "halted" in unit.readiness.missing

    await until(halted, "the unit is halted", 10)
    assert unit.readiness.missing["halted"] == "topic t: everything is rejected"
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_setting_decides_which_lines_are_written(
    level: str, heard: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LOG_LEVEL is the least level of a unit's own lines; each is one JSON object with the same keys."""
    handlers, before = logging.getLogger().handlers, logging.getLogger().level
    monkeypatch.setenv("EXAMPLE_OPS_PORT", str(free_port()))
    monkeypatch.setenv("LINEAGE_TRANSPORT", "off")
    monkeypatch.setenv("LOG_LEVEL", level)

    async def main(unit: Unit, _: ExampleSettings) -> None:
        for name in ("debug", "info", "warning", "error"):
            getattr(unit.log, name)("said", topic="sales.files")

    try:
        run_unit("example", ExampleSettings, main)
    finally:
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(before)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logged = [line for line in lines if line["event"] == "said"]
    assert [line["level"] for line in logged] == heard
    assert all(set(line) == {"event", "unit", "level", "timestamp", "topic"} for line in logged)


def test_log_line_is_json_without_locals(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no person is watching a line is JSON with event, unit and error, and holds no local variables."""
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    try:
        log = logs.configure("example", "info")
        hidden = "a value of a frame"
        try:
            int(f"bad{len(hidden)}")
        except ValueError as error:
            log.exception("failed", error=repr(error))
        log.debug("not shown")
    finally:
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(level)
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["unit"], logged["level"]) == ("failed", "example", "error")
    assert logged["exception"][0]["exc_type"] == "ValueError"
    assert hidden not in line
