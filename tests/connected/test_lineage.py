"""The lineage service on a real Postgres, read as its page, the command line and Marquez's Python client read it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import structlog
from marquez_client import MarquezClient
from marquez_client.errors import APIError
from openlineage.client.event_v2 import RunState

from chassis.datasets import Datasets, derived, topic_dataset
from chassis.lineage import Events, Failure, JobRun
from chassis.metrics import Metrics
from chassis.settings import KafkaSettings, LineageSettings, PostgresSettings
from services.lineage.store import opened
from tests.connected.sources import service
from tests.connected.streams import free_port, until
from tests.connected.unit_process import unit_process

pytestmark = pytest.mark.timeout(120)

NOON = datetime(2026, 2, 19, 12, tzinfo=UTC)
PRODUCER = "https://example.org/test"


class Lineage:
    """A running lineage service, with a namespace of the test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = MarquezClient(url=url, timeout_ms=20_000)
        self.http = httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20)
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.source = f"kafka://{self.namespace}:9092"

    def dataset(self, name: str, **facets: Any) -> dict[str, Any]:
        """A dataset as an event names it."""
        return {"namespace": self.source, "name": name, "facets": facets}

    def event(self, state: str, run: str, minute: int = 0, job: str = "job", **more: Any) -> dict[str, Any]:
        """A run event, so many minutes after noon."""
        return {
            "eventType": state,
            "eventTime": (NOON + timedelta(minutes=minute)).isoformat(),
            "producer": PRODUCER,
            "run": {"runId": run, "facets": more.pop("facets", {})},
            "job": {"namespace": self.namespace, "name": job},
            **more,
        }

    async def post(self, body: Any) -> httpx.Response:
        """Send an event."""
        return await self.http.post("/lineage", json=body)

    async def send(self, *events: Mapping[str, Any]) -> None:
        """Send events that must be accepted."""
        for event in events:
            answer = await self.post(event)
            assert answer.status_code == 201, answer.text

    async def job(self, name: str) -> dict[str, Any]:
        """A job of this test, as the list of all jobs describes it."""
        answer = await self.http.get("/jobs", params={"limit": 10_000})
        answer.raise_for_status()
        (one,) = (each for each in answer.json()["jobs"] if (each["namespace"], each["name"]) == (self.namespace, name))
        return dict(one)

    async def read_dataset(self, name: str) -> Any:
        """A dataset of this test, as Marquez's client reads it."""
        return await asyncio.to_thread(self.client.get_dataset, self.source, name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(servers: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A running service on the shared database."""
    port = free_port()
    log = tmp_path_factory.mktemp("lineage") / "lineage.log"
    async with service("lineage", {**servers, "MARQUEZ_PORT": str(port)}, log):
        yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture
async def lineage(url: str) -> AsyncIterator[Lineage]:
    """The service, with names of the test's own."""
    reader = Lineage(url)
    yield reader
    await reader.http.aclose()


async def test_the_events_of_a_unit_are_read_back(lineage: Lineage) -> None:
    """The job with its run, and the dataset with its columns, over the transport that units use."""
    kafka = KafkaSettings(host=lineage.namespace)
    consumed = topic_dataset(kafka, "sales.files")
    published = derived(topic_dataset(kafka, "sales.unified"), consumed, {"city": ("city",)}, "TRANSFORMATION")
    rows = {"sales.unified": 0}
    settings = LineageSettings(transport="http", url=lineage.url, namespace=lineage.namespace)
    events = Events(settings, "files", Metrics("files"), structlog.get_logger("placar"))
    async with events.sending():
        run = JobRun(events, "files", Datasets([consumed], [published]), published=lambda: rows)
        run.emit(RunState.START)
        rows["sales.unified"] = 41
        run.emit(RunState.RUNNING)
    source = lineage.source
    job = await lineage.job("files")
    assert (job["type"], job["latestRun"]["state"]) == ("STREAM", "RUNNING")
    assert job["inputs"] == [{"namespace": source, "name": "sales.files"}]
    assert job["outputs"] == [{"namespace": source, "name": "sales.unified"}]
    latest = job["latestRun"]
    (output,) = latest["outputDatasetVersions"]
    assert (latest["id"], output["facets"]["outputStatistics"]["rowCount"]) == (run.run_id, 41)
    assert (latest["startedAt"] is not None, latest["endedAt"], latest["durationMs"]) == (True, None, None)

    dataset = await lineage.read_dataset("sales.unified")
    assert (dataset["type"], dataset["sourceName"]) == ("STREAM", source)
    assert {"name": "amount", "type": "decimal(18,2)", "tags": [], "description": None} in dataset["fields"]
    assert dataset["facets"]["ownership"]["owners"][0]["name"] == "team:sales-platform"
    assert dataset["description"].startswith("The validated changelog")
    (made_from,) = dataset["facets"]["columnLineage"]["fields"]["city"]["inputFields"]
    assert (made_from["namespace"], made_from["name"], made_from["field"]) == (source, "sales.files", "city")
    assert made_from["transformations"][0]["subtype"] == "TRANSFORMATION"


async def test_a_missing_object_is_404_and_named(lineage: Lineage) -> None:
    """Marquez's client raises; the body names the object, in Marquez's form."""
    with pytest.raises(APIError):
        await lineage.read_dataset("nothing")
    for path in (f"/namespaces/{lineage.namespace}/datasets/none", "/nowhere"):
        answer = await lineage.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, 404), path
        assert answer.json()["message"]


async def test_as_many_jobs_are_listed_as_requested(lineage: Lineage) -> None:
    """`limit` bounds the list and not the count; a wrong one is 422, in Marquez's form and with its name."""
    for job in ("one", "two"):
        await lineage.send(lineage.event("START", str(uuid.uuid4()), job=job))
    answer = (await lineage.http.get("/jobs", params={"limit": 1})).json()
    assert len(answer["jobs"]) == 1
    assert answer["totalCount"] >= 2
    wrong = await lineage.http.get("/jobs", params={"limit": -1})
    assert (wrong.status_code, wrong.json()["code"]) == (422, 422)
    assert "limit" in wrong.json()["message"]


async def test_the_newest_run_decides_what_a_job_reads(lineage: Lineage) -> None:
    """A job that no longer reads a dataset loses the edge with its next run; a run's RUNNING adds to its START."""
    old, new = str(uuid.uuid4()), str(uuid.uuid4())
    await lineage.send(
        lineage.event("START", old, 0, inputs=[lineage.dataset("a"), lineage.dataset("b")]),
        lineage.event("START", new, 5, inputs=[lineage.dataset("b")]),
        lineage.event("RUNNING", new, 6, inputs=[lineage.dataset("c")]),
        lineage.event("RUNNING", old, 7, inputs=[lineage.dataset("a")]),  # an older worker goes on for a while
    )
    job = await lineage.job("job")
    assert [each["name"] for each in job["inputs"]] == ["b", "c"]
    assert job["latestRun"]["id"] == new


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
async def test_the_order_of_events_does_not_matter(lineage: Lineage, order: tuple[int, ...]) -> None:
    """The event with the latest time decides state and end; the first one the start."""
    run = str(uuid.uuid4())
    events = [
        lineage.event("START", run, 0),
        lineage.event("RUNNING", run, 1),
        lineage.event("FAIL", run, 2, facets={"errorMessage": {"message": "no disk"}}),
    ]
    await lineage.send(*(events[index] for index in order))
    read = (await lineage.job("job"))["latestRun"]
    assert (read["state"], read["durationMs"]) == ("FAILED", 120_000)
    assert read["startedAt"] == "2026-02-19T12:00:00.000000Z"
    assert read["facets"]["errorMessage"]["message"] == "no disk"


async def test_a_repeated_event_changes_nothing(lineage: Lineage) -> None:
    """The same event is taken once, also when it is sent many times at once, and again after a newer one."""
    run = str(uuid.uuid4())
    event = lineage.event("START", run, facets={"errorMessage": {"message": "old"}}, outputs=[lineage.dataset("d")])
    answers = await asyncio.gather(*(lineage.post(event) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    await lineage.send(lineage.event("RUNNING", run, facets={"errorMessage": {"message": "new"}}), event)
    assert (await lineage.job("job"))["latestRun"]["facets"]["errorMessage"]["message"] == "new"


async def test_events_about_datasets_and_jobs_alone_are_accepted(lineage: Lineage) -> None:
    """A facet that is deleted is gone, a new schema is a new version, and a job needs no run."""
    source = lineage.source
    one = {"schema": {"fields": [{"name": "a", "type": "int"}]}, "documentation": {"description": "old"}}
    two = {"schema": {"fields": [{"name": "b", "type": "int"}]}, "documentation": {"_deleted": True}}
    seen = []
    for minute, facets in enumerate((one, two)):
        at = (NOON + timedelta(minutes=minute)).isoformat()
        await lineage.send({"eventTime": at, "producer": PRODUCER, "dataset": lineage.dataset("d", **facets)})
        seen.append(await lineage.read_dataset("d"))
    job = {"namespace": lineage.namespace, "name": "planned"}
    await lineage.send(
        {"eventTime": NOON.isoformat(), "producer": PRODUCER, "job": job, "inputs": [lineage.dataset("d")]}
    )
    first, dataset = seen
    assert ([each["name"] for each in dataset["fields"]], dataset["description"]) == (["b"], None)
    assert dataset["currentVersion"] != first["currentVersion"]
    planned = await lineage.job("planned")
    assert (planned["inputs"], planned["latestRun"]) == ([{"namespace": source, "name": "d"}], None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"eventTime": "yesterday"}, "eventTime"),
        ({"eventTime": "2026-02-19T12:00:00"}, "eventTime"),
        ({"eventType": "BEGIN"}, "eventType"),
        ({"run": {"runId": "1"}}, "run.runId"),
        ({"job": {"namespace": "x", "name": ""}}, "job.name"),
        ({"producer": None}, "producer"),
        ({"inputs": [{"namespace": "x"}]}, "inputs.0.name"),
        ({"inputs": "all"}, "inputs"),
        ({"job": {"namespace": "x", "name": "nul\x00"}}, "U+0000"),
    ],
)
async def test_a_malformed_event_is_rejected_with_the_field(lineage: Lineage, change: Any, field: str) -> None:
    """422, the field named, and nothing stored."""
    answer = await lineage.post({**lineage.event("START", str(uuid.uuid4())), **change})
    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert field in answer.json()["message"]
    jobs = (await lineage.http.get("/jobs", params={"limit": 10_000})).json()["jobs"]
    assert lineage.namespace not in {job["namespace"] for job in jobs}


async def test_bodies_that_are_no_json_or_too_long_are_rejected(lineage: Lineage) -> None:
    """Not JSON is 422; more than 4 MiB is 413, and the service goes on."""
    for content in (b"{", b"[]", b"\xff", b'"text"'):
        assert (await lineage.http.post("/lineage", content=content)).status_code == 422, content
    long = {**lineage.event("START", str(uuid.uuid4())), "more": "x" * (4 * 1024 * 1024)}
    assert (await lineage.post(long)).status_code == 413
    await lineage.send(lineage.event("START", str(uuid.uuid4())))


async def test_names_with_slashes_colons_and_accents_are_found(lineage: Lineage) -> None:
    """A client encodes names in the path; the bucket's root is `/`, and a name may look like a path of the API."""
    for name in ("/", "a/datasets/b", "São Paulo: 50 % #1?"):
        await lineage.send(lineage.event("START", str(uuid.uuid4()), outputs=[lineage.dataset(name)]))
        assert (await lineage.read_dataset(name))["name"] == name


async def test_old_events_and_runs_are_deleted(lineage: Lineage, servers: Mapping[str, str]) -> None:
    """Old events and ended runs are deleted; the newest run of a job stays, and so do its edges."""
    long_ago = (datetime(2020, 1, 1, tzinfo=UTC) - NOON) // timedelta(minutes=1)
    first, last = str(uuid.uuid4()), str(uuid.uuid4())
    for run, minute in ((first, 0), (last, 10)):
        outputs = [lineage.dataset("d")]
        await lineage.send(
            lineage.event("START", run, long_ago + minute, outputs=outputs),
            lineage.event("COMPLETE", run, long_ago + minute + 1, outputs=outputs),
        )
    settings = PostgresSettings(
        host="127.0.0.1",
        port=int(servers["POSTGRES_PORT"]),
        user=servers["POSTGRES_USER"],
        password=servers["POSTGRES_PASSWORD"],
    )
    async with opened(settings) as store:
        assert await store.delete(datetime(2020, 2, 1, tzinfo=UTC)) >= 5
        runs = await store.rows("SELECT id FROM runs WHERE job_namespace = $1", lineage.namespace)
        kept = await store.rows("SELECT id FROM events WHERE event_time < $1", datetime(2020, 2, 1, tzinfo=UTC))
    assert ([str(run["id"]) for run in runs], kept) == ([last], [])
    job = await lineage.job("job")
    assert (job["latestRun"]["id"], job["outputs"]) == (last, [{"namespace": lineage.source, "name": "d"}])


async def test_the_page_names_itself_and_loads_nothing_from_elsewhere(lineage: Lineage) -> None:
    """Page, script and style come from here under a strict policy; nothing else is served beside the API."""
    async with httpx.AsyncClient(base_url=lineage.url) as client:
        for path in ("/", "/page.js", "/page.css"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in answer.text
        assert "Placar lineage <small>(Marquez-compatible subset)" in (await client.get("/")).text
        assert (await client.get("/..%2fsettings.py")).status_code == 404


async def test_without_its_database_it_names_what_it_waits_for(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Not ready, with address and setting."""
    environment = {**servers, "POSTGRES_PORT": "9", "MARQUEZ_PORT": str(free_port())}
    async with unit_process("services.lineage", environment, tmp_path / "log") as process:

        async def named() -> bool:
            missing = await process.missing()
            return missing is not None and "127.0.0.1:9" in json.dumps(missing)

        await until(named, "readiness names the unavailable database")
        assert "POSTGRES_PORT" in json.dumps(await process.missing())


async def test_a_failed_run_carries_its_error(lineage: Lineage) -> None:
    """FAIL as the chassis emits it: state, end and message."""
    settings = LineageSettings(transport="http", url=lineage.url, namespace=lineage.namespace)
    events = Events(settings, "files", Metrics("files"), structlog.get_logger("placar"))
    async with events.sending():
        run = JobRun(events, "files", Datasets())
        run.emit(RunState.START)
        run.emit(RunState.FAIL, Failure("the disk is full", "python"))
    read = (await lineage.job("files"))["latestRun"]
    assert (read["state"], read["facets"]["errorMessage"]["message"]) == ("FAILED", "the disk is full")
    assert read["endedAt"] is not None
