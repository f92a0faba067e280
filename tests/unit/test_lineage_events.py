"""The lineage events of a process: run states, rows, datasets; and a server that is down, rejects, or never answers."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from openlineage.client.event_v2 import RunState
from openlineage.client.serde import Serde

from chassis import lineage
from chassis.datasets import Dataset, Datasets, topic_dataset
from chassis.lineage import Events, Failure, JobRun, WatchedJob, counted, unit_run
from chassis.metrics import Metrics
from chassis.settings import KafkaSettings, LineageSettings
from services.clickhouse_sink.app import datasets as sink_datasets
from services.clickhouse_sink.settings import SinkSettings
from services.connect_watcher.app import datasets as connector_datasets
from services.connect_watcher.settings import WatcherSettings as ConnectSettings
from services.file_poller.app import datasets as file_datasets
from services.file_poller.settings import FilePollerSettings
from services.flink_watcher.lineage import datasets as ranking_datasets
from services.flink_watcher.settings import WatcherSettings as FlinkSettings
from services.legacy_poller.app import datasets as legacy_datasets
from services.legacy_poller.settings import LegacyPollerSettings
from services.webhooks.app import datasets as webhook_datasets
from services.webhooks.settings import WebhooksSettings
from streams.cdc.agents import agent as cdc_agent
from streams.cdc.settings import Settings as CdcSettings
from streams.files.agents import agent as files_agent
from streams.files.settings import Settings as FilesSettings
from streams.legacy.agents import agent as legacy_agent
from streams.legacy.settings import Settings as LegacySettings
from streams.shopify.agents import agent as shopify_agent
from streams.shopify.settings import Settings as ShopifySettings
from streams.stripe.agents import agent as stripe_agent
from streams.stripe.settings import Settings as StripeSettings
from tests.connected.streams import until

SALES = Dataset("kafka://127.0.0.1:9092", "sales.files")
WRITES = Datasets(outputs=[SALES], counted={SALES.name: [("sales.files", "published")]})


def events(url: str, metrics: Metrics, queued: int = 100) -> Events:
    """Events to a server at `url`, with RUNNING after the first one only in an hour."""
    settings = LineageSettings(transport="http", url=url, interval_s=3600)
    return Events(settings, "example", metrics, structlog.get_logger("placar"), queued)


def outcomes(metrics: Metrics) -> dict[str, int]:
    """The events by outcome, and the failed attempts, without zeros."""
    lines = metrics.render(["text/plain"])[0].decode().splitlines()
    counts = {}
    for line in lines:
        if line.startswith(("placar_lineage_events_total{", "placar_lineage_failures_total{")):
            outcome = line.split('outcome="')[1].split('"')[0] if "outcome" in line else "failures"
            counts[outcome] = int(float(line.rpartition(" ")[2]))
    return {outcome: count for outcome, count in counts.items() if count}


def test_every_outcome_is_scraped_before_the_first_event() -> None:
    """A first loss is an increase from 0 to Prometheus, not a series that begins."""
    metrics = Metrics("example")
    events("http://127.0.0.1:9", metrics)
    text = metrics.render(["text/plain"])[0].decode()
    for outcome in ("sent", "rejected", "dropped"):
        assert f'placar_lineage_events_total{{outcome="{outcome}",unit="example"}} 0' in text


class LineageServer:
    """Keeps the events that it is sent, or answers with a status."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 201

    async def _take(self, request: web.Request) -> web.Response:
        if self.status == 201:
            self.events.append(await request.json())
        return web.Response(status=self.status)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address while it serves."""
        app = web.Application()
        app.router.add_post("/api/v1/lineage", self._take)
        async with TestServer(app) as listening:
            yield str(listening.make_url("/"))


def producers(body: Any) -> Iterator[str]:
    """Every producer in events, those of facets included."""
    if isinstance(body, Mapping):
        yield from (value for key, value in body.items() if key in ("producer", "_producer"))
        body = list(body.values())
    if isinstance(body, list):
        for each in body:
            yield from producers(each)


async def test_a_run_has_events_from_start_to_complete_with_the_rows_between() -> None:
    """One run id, rows since the event before; facets of the datasets, and the project's own URI as the producer."""
    metrics, server = Metrics("example"), LineageServer()
    metrics.record("sales.files", "published", 5)  # before the run
    async with server.serving() as url:
        sending = events(url, metrics)
        async with sending.sending():
            run = JobRun(sending, "example", WRITES, published=counted(metrics, WRITES))
            run.emit(RunState.START)
            metrics.record("sales.files", "published", 7)
            run.emit(RunState.RUNNING)
            metrics.record("sales.files", "published", 2)
            run.emit(RunState.COMPLETE)
    assert [event["eventType"] for event in server.events] == ["START", "RUNNING", "COMPLETE"]
    assert {event["run"]["runId"] for event in server.events} == {run.run_id}
    rows = [event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] for event in server.events]
    assert rows == [0, 7, 2]
    assert set(producers(server.events)) == {"urn:placar:producer"}
    assert outcomes(metrics) == {"sent": 3}


async def test_a_failed_unit_reports_its_error() -> None:
    """FAIL has message and stack trace of the error, which the caller gets too."""
    metrics, server = Metrics("example"), LineageServer()
    async with server.serving() as url:
        sending = events(url, metrics)

        async def failing() -> None:
            async with unit_run(sending, "example", WRITES, metrics):
                await until(lambda: _true(len(server.events) == 2), "START and RUNNING have come")
                raise RuntimeError("the disk is full")

        async with sending.sending():
            with pytest.raises(RuntimeError, match="the disk is full"):
                await failing()
    assert [event["eventType"] for event in server.events] == ["START", "RUNNING", "FAIL"]
    facet = server.events[-1]["run"]["facets"]["errorMessage"]
    assert facet["message"] == "RuntimeError: the disk is full"
    assert "test_lineage_events" in facet["stackTrace"]


async def _true(value: bool) -> bool:
    return value


async def test_a_unit_without_datasets_has_no_lineage() -> None:
    """A unit that reads and writes no dataset is no node of the graph."""
    metrics, server = Metrics("example"), LineageServer()
    async with server.serving() as url:
        sending = events(url, metrics)
        async with sending.sending(), unit_run(sending, "example", Datasets(), metrics):
            pass
    assert server.events == []


async def test_queued_events_are_sent_in_order_when_the_server_is_back() -> None:
    """A server that answers 503 is tried again; nothing is lost or reordered."""
    metrics, server = Metrics("example"), LineageServer()
    server.status = 503
    async with server.serving() as url:
        sending = events(url, metrics)
        async with sending.sending():
            run = JobRun(sending, "example", WRITES)
            for state in (RunState.START, RunState.RUNNING, RunState.COMPLETE):
                run.emit(state)
            await until(lambda: _true(outcomes(metrics).get("failures", 0) >= 1), "the first attempt has failed")
            server.status = 201
            await until(lambda: _true(len(server.events) == 3), "all have come")
    assert [event["eventType"] for event in server.events] == ["START", "RUNNING", "COMPLETE"]


async def test_an_event_that_the_server_rejects_is_counted_and_not_sent_again() -> None:
    """An answer 4xx would come again and again, so the next event is sent instead."""
    metrics, server = Metrics("example"), LineageServer()
    server.status = 422
    async with server.serving() as url:
        sending = events(url, metrics)
        async with sending.sending():
            run = JobRun(sending, "example", WRITES)
            run.emit(RunState.START)
            run.emit(RunState.COMPLETE)
    assert outcomes(metrics) == {"rejected": 2, "failures": 2}


async def test_an_event_that_the_server_fails_over_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer 500 may be of this event alone: after five attempts it is given up."""
    metrics, server = Metrics("example"), LineageServer()
    monkeypatch.setattr(lineage, "PAUSES_S", (0.01,))
    server.status = 500
    async with server.serving() as url:
        sending = events(url, metrics)
        async with sending.sending():
            run = JobRun(sending, "example", WRITES)
            run.emit(RunState.START)
            await until(lambda: _true(outcomes(metrics).get("rejected") == 1), "it was given up")
    assert outcomes(metrics) == {"rejected": 1, "failures": 5}


async def test_a_full_queue_drops_and_counts_and_loses_no_rows() -> None:
    """With no server the queue fills; then `put` returns at once, and the rows go with the next event that fits."""
    metrics = Metrics("example")
    sending = events("http://127.0.0.1:9", metrics, queued=2)
    total = [0]
    run = JobRun(sending, "example", WRITES, published=lambda: {"sales.files": total[0]})
    begun = time.monotonic()
    for _ in range(5):
        total[0] += 10
        run.emit(RunState.RUNNING)
    assert time.monotonic() - begun < 1
    assert outcomes(metrics) == {"dropped": 3}
    sending._queue.get_nowait()
    run.emit(RunState.RUNNING)
    sending._queue.get_nowait()
    last = sending._queue.get_nowait()
    assert json.loads(Serde.to_json(last))["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 30


@pytest.mark.parametrize("silent", [False, True], ids=["rejects connections", "never answers"])
async def test_a_stop_waits_only_a_moment_for_an_unavailable_server(silent: bool) -> None:
    """With a dead endpoint work continues, the process ends within seconds, and lost events are counted."""
    metrics = Metrics("example")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if silent else 9
        sending = events(f"http://127.0.0.1:{port}", metrics)
        turns = 0
        async with sending.sending():
            run = JobRun(sending, "example", WRITES)
            for _ in range(20):
                run.emit(RunState.RUNNING)
            until_ = time.monotonic() + 0.3
            while time.monotonic() < until_:  # the loop is not held up by the sender
                await asyncio.sleep(0.001)
                turns += 1
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
    assert turns > 50
    assert outcomes(metrics)["dropped"] == 20


async def test_a_transport_that_fails_in_any_way_stops_nothing(tmp_path: Path) -> None:
    """A file that cannot be written is a failure like a server that is unavailable: counted, and the work goes on."""
    metrics = Metrics("example")
    settings = LineageSettings(transport="file", file_dir=str(tmp_path))
    sending = Events(settings, "example", metrics, structlog.get_logger("placar"))
    tmp_path.joinpath("example.jsonl").mkdir()
    done = False
    async with sending.sending(), unit_run(sending, "example", WRITES, metrics):
        done = True
    assert done
    assert outcomes(metrics)["failures"] >= 2
    assert "sent" not in outcomes(metrics)


async def test_a_watched_job_has_a_run_while_it_exists(tmp_path: Path) -> None:
    """START when it first exists, RUNNING while it runs, FAIL when it failed; then another run."""
    metrics = Metrics("example")
    settings = LineageSettings(transport="file", file_dir=str(tmp_path), interval_s=3600)
    sending = Events(settings, "watcher", metrics, structlog.get_logger("placar"))
    rows = iter([100, 130, 130, 200, 200])

    async def written() -> Mapping[str, int]:
        return {"sales.files": next(rows)}

    async with sending.sending():
        job = WatchedJob(sending, "connector", Datasets(outputs=[SALES]), "DEBEZIUM", written)
        job.ended(RunState.COMPLETE)  # there is no run yet
        await job.seen(running=True)
        await job.seen(running=True)
        job.ended(RunState.FAIL, Failure("the slot is gone", "java"))
        await job.seen(running=True)
    lines = [json.loads(line) for line in (tmp_path / "watcher.jsonl").read_text("utf-8").splitlines()]
    assert [line["eventType"] for line in lines] == ["START", "RUNNING", "FAIL", "START", "RUNNING"]
    first, second = lines[0]["run"]["runId"], lines[3]["run"]["runId"]
    assert [line["run"]["runId"] for line in lines] == [first] * 3 + [second] * 2
    assert first != second
    assert {line["job"]["name"] for line in lines} == {"connector"}
    assert lines[1]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 30
    assert lines[2]["run"]["facets"]["errorMessage"]["message"] == "the slot is gone"


def test_a_topic_is_described_by_its_contract() -> None:
    """Schema with types and nested records, owner and meaning of a topic are those of contracts/topics."""
    facets = topic_dataset(KafkaSettings(), "rankings.city").facets
    fields = {each.name: each for each in facets["schema"].fields}
    assert fields["window_start"].type == "timestamp-millis"
    assert [(each.name, each.type) for each in fields["entries"].fields] == [
        ("rank", "int"),
        ("name", "string"),
        ("total_sales", "decimal(38,2)"),
        ("transaction_count", "long"),
    ]
    assert facets["ownership"].owners[0].name == "team:sales-analytics"
    envelope = topic_dataset(KafkaSettings(), "sales.postgres").facets["schema"].fields
    images = {each.name: [inner.name for inner in each.fields] for each in envelope}
    assert images["before"] == images["after"]
    assert "amount" in images["after"]


def all_datasets() -> list[Datasets]:
    """What every job on the way from the sources to ClickHouse reads and writes."""
    return [
        connector_datasets(ConnectSettings()),
        file_datasets(FilePollerSettings()),
        legacy_datasets(LegacyPollerSettings()),
        webhook_datasets(WebhooksSettings()),
        cdc_agent(CdcSettings()).datasets(CdcSettings()),
        files_agent(FilesSettings()).datasets(FilesSettings()),
        legacy_agent(LegacySettings()).datasets(LegacySettings()),
        shopify_agent(ShopifySettings()).datasets(ShopifySettings()),
        stripe_agent(StripeSettings()).datasets(StripeSettings()),
        ranking_datasets(FlinkSettings()),
        sink_datasets(SinkSettings()),
    ]


def paths(fields: Any, above: str = "") -> set[str]:
    """The names of fields, those of nested records after their record's."""
    names = set()
    for each in fields:
        names.add(f"{above}{each.name}")
        names |= paths(each.fields or [], f"{above}{each.name}.")
    return names


def test_every_dataset_has_a_schema_and_an_owner() -> None:
    """No job on the way names a dataset that it says nothing of."""
    for datasets in all_datasets():
        for dataset in [*datasets.inputs, *datasets.outputs]:
            assert dataset.facets["schema"].fields, dataset.name
            assert dataset.facets["ownership"].owners, dataset.name


def test_column_lineage_names_columns_that_exist_on_both_sides() -> None:
    """Each derived column is in its output's schema, and each column that it is made from in the input's."""
    derived = 0
    for datasets in all_datasets():
        schemas = {(d.namespace, d.name): paths(d.facets["schema"].fields) for d in datasets.inputs}
        for output in datasets.outputs:
            if output.name in ("sales.dlq", "webhooks.other", "webhooks.privacy"):  # of several inputs
                continue
            own = paths(output.facets["schema"].fields)
            for name, made in output.facets["columnLineage"].fields.items():
                assert name in own, (output.name, name)
                for source in made.inputFields:
                    assert source.field in schemas[source.namespace, source.name], (output.name, name, source.field)
                    derived += 1
    assert derived > 90


def test_every_row_that_a_unit_publishes_is_counted_for_one_of_its_outputs() -> None:
    """The counted outputs are outputs; a watcher counts its job's otherwise."""
    for datasets in all_datasets():
        assert set(datasets.counted) <= {output.name for output in datasets.outputs}
    assert set(sink_datasets(SinkSettings()).counted) == {o.name for o in sink_datasets(SinkSettings()).outputs}
