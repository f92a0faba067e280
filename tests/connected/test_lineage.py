"""The lineage service on a real Postgres, read by Marquez's own Python client."""

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

    async def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        """The answer of a method of Marquez's client."""
        return await asyncio.to_thread(getattr(self.client, method), *arguments, **more)

    async def graph(self, node: str, **parameters: Any) -> dict[str, dict[str, Any]]:
        """The lineage graph around a node, by the ids of its nodes."""
        answer = await self.http.get("/lineage", params={"nodeId": node, **parameters})
        answer.raise_for_status()
        return {each["id"]: each for each in answer.json()["graph"]}


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


def names(answer: Mapping[str, Any], kind: str) -> list[str]:
    """The names in a list of the client."""
    return [each["name"] for each in answer[kind]]


async def test_marquez_client_reads_the_events_of_a_unit(lineage: Lineage) -> None:
    """Namespaces, jobs, runs, datasets and columns, over the transport that units use."""
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
    await read_back(lineage, run.run_id)
    await columns_read_back(lineage)


async def read_back(lineage: Lineage, run_id: str) -> None:
    """The client's view of the unit's run."""
    namespace, source = lineage.namespace, lineage.source
    assert {namespace, source} <= set(names(await lineage.call("list_namespaces", limit=1000), "namespaces"))
    assert (await lineage.call("get_namespace", namespace))["name"] == namespace

    assert names(await lineage.call("list_jobs", namespace), "jobs") == ["files"]
    job = await lineage.call("get_job", namespace, "files")
    assert (job["type"], job["latestRun"]["state"]) == ("STREAM", "RUNNING")
    assert job["inputs"] == [{"namespace": source, "name": "sales.files"}]
    assert job["outputs"] == [{"namespace": source, "name": "sales.unified"}]
    (listed,) = (await lineage.call("list_job_runs", namespace, "files"))["runs"]
    assert listed["id"] == run_id
    one = await lineage.call("get_job_run", run_id)
    (output,) = one["outputDatasetVersions"]
    assert output["facets"]["outputStatistics"]["rowCount"] == 41
    assert (one["startedAt"] is not None, one["endedAt"], one["durationMs"]) == (True, None, None)

    assert names(await lineage.call("list_datasets", source), "datasets") == ["sales.files", "sales.unified"]
    dataset = await lineage.call("get_dataset", source, "sales.unified")
    assert (dataset["type"], dataset["sourceName"]) == ("STREAM", source)
    assert {"name": "amount", "type": "decimal(18,2)", "tags": [], "description": None} in dataset["fields"]
    assert dataset["facets"]["ownership"]["owners"][0]["name"] == "team:sales-platform"
    assert dataset["description"].startswith("The validated changelog")


async def columns_read_back(lineage: Lineage) -> None:
    """The client's view of the columns."""
    namespace, source = lineage.namespace, lineage.source
    columns = await lineage.call("get_column_lineage_by_dataset", source, "sales.unified")
    nodes = {node["id"]: node for node in columns["graph"]}
    made = nodes[f"datasetField:{source}:sales.unified:city"]
    assert made["data"]["inputFields"] == [{"namespace": source, "dataset": "sales.files", "field": "city"}]
    assert made["inEdges"][0]["origin"] == f"datasetField:{source}:sales.files:city"
    assert made["data"]["transformationType"] == "TRANSFORMATION"
    by_field = await lineage.call(
        "get_column_lineage_by_dataset_field", source, "sales.files", "city", with_downstream=True
    )
    assert len(by_field["graph"]) == 2
    by_job = await lineage.call("get_column_lineage_by_job", namespace, "files")
    assert {node["id"] for node in by_job["graph"]} == set(nodes)


async def test_a_missing_object_is_404_and_named(lineage: Lineage) -> None:
    """Marquez's client raises; the body names the object, in Marquez's form."""
    with pytest.raises(APIError):
        await lineage.call("get_job", lineage.namespace, "nothing")
    for path in ("/namespaces/none", f"/jobs/runs/{uuid.uuid4()}", "/lineage?nodeId=job:none:none", "/nowhere"):
        answer = await lineage.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, 404), path
        assert answer.json()["message"]


async def test_the_graph_reaches_as_far_as_requested(lineage: Lineage) -> None:
    """Every dataset and job upstream and downstream, edges both ways; `depth` counts jobs; side branches are out."""
    read, first, second, side = (lineage.dataset(name) for name in ("read", "first", "second", "side"))
    for job, inputs, outputs in (
        ("one", [read], [first]),
        ("two", [first], [second]),
        ("other", [read], [side]),
    ):
        await lineage.send(lineage.event("START", str(uuid.uuid4()), job=job, inputs=inputs, outputs=outputs))
    source, namespace = lineage.source, lineage.namespace

    whole = await lineage.graph(f"dataset:{source}:second")
    assert set(whole) == {f"dataset:{source}:{name}" for name in ("read", "first", "second")} | {
        f"job:{namespace}:one",
        f"job:{namespace}:two",
    }
    node = whole[f"job:{namespace}:two"]
    assert node["type"] == "JOB"
    assert node["inEdges"] == [{"origin": f"dataset:{source}:first", "destination": f"job:{namespace}:two"}]
    assert node["outEdges"] == [{"origin": f"job:{namespace}:two", "destination": f"dataset:{source}:second"}]
    assert node["data"]["latestRun"]["state"] == "RUNNING"
    near = await lineage.graph(f"dataset:{source}:second", depth=1)
    assert set(near) == {f"dataset:{source}:{name}" for name in ("first", "second")} | {f"job:{namespace}:two"}
    middle = await lineage.graph(f"job:{namespace}:one")
    assert f"job:{namespace}:other" not in middle
    assert f"job:{namespace}:two" in middle


async def test_the_newest_run_decides_what_a_job_reads(lineage: Lineage) -> None:
    """A job that no longer reads a dataset loses the edge with its next run; a run's RUNNING adds to its START."""
    old, new = str(uuid.uuid4()), str(uuid.uuid4())
    await lineage.send(
        lineage.event("START", old, 0, inputs=[lineage.dataset("a"), lineage.dataset("b")]),
        lineage.event("START", new, 5, inputs=[lineage.dataset("b")]),
        lineage.event("RUNNING", new, 6, inputs=[lineage.dataset("c")]),
        lineage.event("RUNNING", old, 7, inputs=[lineage.dataset("a")]),  # an older worker goes on for a while
    )
    job = await lineage.call("get_job", lineage.namespace, "job")
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
    read = await lineage.call("get_job_run", run)
    assert (read["state"], read["durationMs"]) == ("FAILED", 120_000)
    assert read["startedAt"] == "2026-02-19T12:00:00.000000Z"
    assert read["facets"]["errorMessage"]["message"] == "no disk"


async def test_a_repeated_event_changes_nothing(lineage: Lineage) -> None:
    """The same event is kept once, also when it is sent many times at once."""
    event = lineage.event("START", str(uuid.uuid4()), outputs=[lineage.dataset("d")])
    answers = await asyncio.gather(*(lineage.post(event) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    period: dict[str, str | int] = {
        "after": NOON.isoformat(),
        "before": (NOON + timedelta(seconds=1)).isoformat(),
        "limit": 10_000,
    }
    kept = (await lineage.http.get("/events/lineage", params=period)).json()
    assert [each for each in kept["events"] if each["job"]["namespace"] == lineage.namespace] == [event]


async def test_events_about_datasets_and_jobs_alone_are_accepted(lineage: Lineage) -> None:
    """A facet that is deleted is gone, a new schema is a new version, and a job needs no run."""
    source = lineage.source
    one = {"schema": {"fields": [{"name": "a", "type": "int"}]}, "documentation": {"description": "old"}}
    two = {"schema": {"fields": [{"name": "b", "type": "int"}]}, "documentation": {"_deleted": True}}
    seen = []
    for minute, facets in enumerate((one, two)):
        at = (NOON + timedelta(minutes=minute)).isoformat()
        await lineage.send({"eventTime": at, "producer": PRODUCER, "dataset": lineage.dataset("d", **facets)})
        seen.append(await lineage.call("get_dataset", source, "d"))
    job = {"namespace": lineage.namespace, "name": "planned"}
    await lineage.send(
        {"eventTime": NOON.isoformat(), "producer": PRODUCER, "job": job, "inputs": [lineage.dataset("d")]}
    )
    first, dataset = seen
    assert ([each["name"] for each in dataset["fields"]], dataset["description"]) == (["b"], None)
    assert dataset["currentVersion"] != first["currentVersion"]
    planned = await lineage.call("get_job", lineage.namespace, "planned")
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
    assert (await lineage.http.get(f"/namespaces/{lineage.namespace}")).status_code == 404


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
        assert (await lineage.call("get_dataset", lineage.source, name))["name"] == name
        assert f"dataset:{lineage.source}:{name}" in await lineage.graph(f"dataset:{lineage.source}:{name}")


async def test_old_events_and_runs_are_deleted(lineage: Lineage, servers: Mapping[str, str]) -> None:
    """Old ended runs are deleted, the newest run of a job stays, and so does the graph."""
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
    runs = (await lineage.call("list_job_runs", lineage.namespace, "job"))["runs"]
    assert [run["id"] for run in runs] == [last]
    assert len(await lineage.graph(f"job:{lineage.namespace}:job")) == 2
    kept = (await lineage.http.get("/events/lineage", params={"before": "2020-02-01T00:00:00Z"})).json()
    assert kept["totalCount"] == 0


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
        run.emit(RunState.FAIL, Failure("the disk is full"))
    read = await lineage.call("get_job_run", run.run_id)
    assert (read["state"], read["facets"]["errorMessage"]["message"]) == ("FAILED", "the disk is full")
    assert read["endedAt"] is not None
