"""The native runtime for real: servers on free ports in a folder of their own, killed, repeated and interrupted."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
import tenacity
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.runtime import ROOT, Runtime, new_runtime, start_runtime

pytestmark = pytest.mark.timeout(400)

SERVERS = ("postgres-schema", "clickhouse", "s3")
eventually = tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.2), reraise=True)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Postgres with the schema, ClickHouse and the S3 server."""
    with start_runtime(tmp_path_factory.mktemp("native"), only=SERVERS) as started:
        yield started


def alive(runtime: Runtime) -> dict[int, str]:
    """The processes of this runtime, by process id, with their command lines."""
    result = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("PLACAR_RUNTIME") == str(runtime.state_dir):
                result[process.pid] = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return result


def listening(runtime: Runtime, setting: str) -> int:
    """The process that listens on a port."""
    listeners = {c.laddr[1]: c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr}
    pid = listeners[int(runtime.env[setting])]
    assert pid is not None
    return pid


async def connect(runtime: Runtime) -> asyncpg.Connection:
    """A session in the shop's database."""
    return await asyncpg.connect(
        host="127.0.0.1", port=int(runtime.env["POSTGRES_PORT"]), user="placar", password="placar", database="sales"
    )


def clickhouse(runtime: Runtime, query: str) -> str:
    """ClickHouse's answer to a query."""
    answer = httpx.post(
        f"http://127.0.0.1:{runtime.env['CLICKHOUSE_HTTP_PORT']}/",
        content=query,
        params={"user": "placar", "password": "placar"},
    )
    assert answer.is_success, answer.text
    return answer.text


def test_a_second_up_starts_nothing_again(runtime: Runtime) -> None:
    """The same processes run after a second `up`, which is quick."""
    before = alive(runtime)
    begun = time.monotonic()

    runtime.up(*SERVERS)

    assert alive(runtime) == before
    assert time.monotonic() - begun < 60


def test_two_up_at_the_same_moment_start_each_server_once(tmp_path: Path) -> None:
    """The second waits for the first, then finds everything running; both end with 0."""
    runtime = new_runtime(tmp_path / "state")
    try:
        with ThreadPoolExecutor() as both:
            runs = list(both.map(lambda _: runtime.command("up", "--only", "clickhouse,s3"), range(2)))

        assert [run.returncode for run in runs] == [0, 0], [run.stdout for run in runs]
        # at the very same moment the first has not written who it is
        waited = re.compile(r"waiting for (`up` \(process \d+\)|another command) \.\.\.")
        assert sum(waited.search(run.stdout) is not None for run in runs) == 1, [run.stdout for run in runs]
        assert len([line for line in alive(runtime).values() if "clickhouse-server" in line]) == 1
    finally:
        assert runtime.command("clean").returncode == 0


def test_a_changed_configuration_file_restarts_its_server_and_no_other(tmp_path: Path) -> None:
    """The next `up` restarts a server with its changed file; the others keep running."""
    tree = tmp_path / "tree"
    for folder in ("chassis", "contracts", "deploy"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with start_runtime(tmp_path / "state", ["clickhouse", "s3"], root=tree) as runtime:
        before = {name: listening(runtime, name) for name in ("CLICKHOUSE_HTTP_PORT", "S3_PORT")}
        users = tree / "deploy" / "clickhouse" / "users.xml"
        users.write_text(re.sub(r"(<max_memory_usage>)\d+", r"\g<1>123456789", users.read_text("utf-8")), "utf-8")

        runtime.up("clickhouse", "s3")

        after = {name: listening(runtime, name) for name in before}
        assert {name for name in after if after[name] != before[name]} == {"CLICKHOUSE_HTTP_PORT"}
        query = "SELECT value FROM system.settings WHERE name = 'max_memory_usage'"
        assert clickhouse(runtime, query) == "123456789\n"


def test_a_port_in_use_is_reported_before_anything_starts(tmp_path: Path) -> None:
    """The message names setting, port and process; no process of the runtime is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        second = new_runtime(tmp_path / "state", {"CLICKHOUSE_HTTP_PORT": str(port)})

        run = second.command("up", "--only", "clickhouse")

    assert run.returncode == 1
    assert f"CLICKHOUSE_HTTP_PORT {port} (clickhouse) is in use by pid {os.getpid()}" in run.stdout
    assert "set CLICKHOUSE_HTTP_PORT in .env" in run.stdout
    assert alive(second) == {}


def test_everything_listens_on_the_loopback_address_only(runtime: Runtime) -> None:
    """No server of the runtime is reachable from outside."""
    ours = alive(runtime)
    addresses = {
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr and c.pid in ours
    }

    assert addresses == {"127.0.0.1"}


async def test_a_killed_postgres_comes_back_by_itself_with_its_rows(runtime: Runtime) -> None:
    """kill -9 of the server: the supervisor restarts it and a committed row is kept."""
    session = await connect(runtime)
    await session.execute("INSERT INTO salesman (name, city) VALUES ('Killed Once', 'Recife')")
    await session.close()

    os.kill(listening(runtime, "POSTGRES_PORT"), signal.SIGKILL)

    @eventually
    async def count() -> int:
        again = await connect(runtime)
        result: int = await again.fetchval("SELECT count(*) FROM salesman WHERE name = 'Killed Once'")
        await again.close()
        return result

    assert await count() == 1


def test_a_killed_clickhouse_comes_back_by_itself_with_its_rows(runtime: Runtime) -> None:
    """kill -9 of the server: the supervisor restarts it and an inserted row is kept."""
    clickhouse(runtime, "CREATE TABLE IF NOT EXISTS default.kept (n UInt8) ENGINE = MergeTree ORDER BY n")
    clickhouse(runtime, "INSERT INTO default.kept VALUES (7)")

    os.kill(listening(runtime, "CLICKHOUSE_HTTP_PORT"), signal.SIGKILL)

    assert eventually(clickhouse)(runtime, "SELECT n FROM default.kept") == "7\n"


def test_status_shows_health_and_fails_while_something_is_down(runtime: Runtime) -> None:
    """Each running process is shown as ready with its memory; what is not started makes the exit status 1."""
    runtime.up(*SERVERS)  # the test before may have left one just starting
    run = runtime.command("status")

    assert re.search(r"clickhouse\W+running\W+ready\W+\d+", run.stdout), run.stdout
    assert re.search(r"kafka\W+stopped", run.stdout), run.stdout
    assert f"http://127.0.0.1:{runtime.env['API_PORT']}/" in run.stdout
    assert run.returncode == 1


def test_the_doctor_reports_a_half_started_runtime(runtime: Runtime) -> None:
    """What does not run is named with what to do, and the ports of what runs are the pipeline's own."""
    runtime.up(*SERVERS)  # as above
    run = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "doctor.py")],
        env=dict(runtime.env), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    half = r"MISSING  pipeline +3 of \d+ processes run; not alertmanager \(stopped\), .* more"
    assert re.search(half, run.stdout), run.stdout
    assert "get it: ./taskw up starts what is missing" in run.stdout
    assert re.search(r"ok +ports +\d+ of Placar, \d+ in use by this pipeline\n", run.stdout)
    assert run.returncode == 1


def test_up_heals_a_runtime_whose_supervisor_was_killed(runtime: Runtime) -> None:
    """A dead supervisor, its stale files and its orphaned servers are no obstacle; each server runs once afterwards."""
    supervisor = int((runtime.state_dir / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(supervisor)] if psutil.pid_exists(supervisor) else [], timeout=10)

    runtime.up(*SERVERS)

    servers = [
        line for line in alive(runtime).values() if "clickhouse-server" in line or line.endswith("postgresql.conf")
    ]
    assert len(servers) == 2
    assert clickhouse(runtime, "SELECT 1") == "1\n"


async def test_a_killed_broker_comes_back_by_itself_with_its_records(tmp_path: Path) -> None:
    """kill -9 of Kafka: the supervisor restarts it, and an acknowledged record is kept."""
    with start_runtime(tmp_path / "state", only=["kafka"]) as runtime:
        bootstrap = f"127.0.0.1:{runtime.env['KAFKA_PORT']}"
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
        await producer.start()
        await producer.send_and_wait("kept", b"once", partition=0)
        await producer.stop()

        os.kill(listening(runtime, "KAFKA_PORT"), signal.SIGKILL)
        runtime.up("kafka")

        consumer = AIOKafkaConsumer("kept", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        record = await asyncio.wait_for(consumer.getone(), 30)
        await consumer.stop()
        assert record.value == b"once"


async def test_data_survives_down_and_up_and_goes_with_clean(tmp_path: Path) -> None:
    """A row survives `down` and `up`; `down` leaves no process; `clean` leaves no folder."""
    with start_runtime(tmp_path / "state", only=["postgres-schema"]) as runtime:
        session = await connect(runtime)
        await session.execute("INSERT INTO salesman (name, city) VALUES ('Kept', 'Recife')")
        await session.close()
        begun = time.monotonic()

        assert runtime.command("down").returncode == 0
        assert time.monotonic() - begun < 20
        assert alive(runtime) == {}

        runtime.up("postgres-schema")
        session = await connect(runtime)
        assert await session.fetchval("SELECT name FROM salesman") == "Kept"
        await session.close()

        assert runtime.command("clean").returncode == 0
        assert not runtime.state_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C (or a stop signal) while servers boot ends everything that was started."""
    runtime = new_runtime(tmp_path / "state")
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.native", "up", "--only", "contracts"],
        cwd=ROOT,
        env=dict(runtime.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as up:

        @eventually
        def booting() -> None:
            assert any("kafka.Kafka" in line for line in alive(runtime).values())

        booting()
        up.send_signal(number)
        output, _ = up.communicate(timeout=60)

    assert up.returncode == 130, output
    assert alive(runtime) == {}
    assert runtime.command("clean").returncode == 0
