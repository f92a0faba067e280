"""Lineage of the ranking job: a run for each attempt of each Flink job, ended as Flink says it ended."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog

from chassis.datasets import Datasets
from chassis.lineage import Events, WatchedJob
from chassis.metrics import Metrics
from chassis.settings import LineageSettings
from services.flink_watcher.lineage import RankingRuns, run_id
from services.flink_watcher.rest import Flink
from services.flink_watcher.transform import Job


@dataclass
class Cluster:
    """Stands for Flink: the status of each job that it knows."""

    statuses: dict[str, str] = field(default_factory=dict)

    async def jobs(self, _: str) -> list[Job]:
        """Every job."""
        return [Job(job_id, status, None, 0, 0, 1, 1) for job_id, status in self.statuses.items()]

    async def exceptions(self, job_id: str) -> str:
        """What failed."""
        return f"java.lang.RuntimeException: {job_id} lost a slot\n\tat Somewhere"


class Scene:
    """A watcher whose events go to a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.flink = Cluster()
        settings = LineageSettings(transport="file", file_dir=str(folder), interval_s=3600)
        self.events = Events(settings, "flink_watcher", Metrics("flink_watcher"), structlog.get_logger("placar"))

    def watcher(self) -> RankingRuns:
        """A watcher that starts now."""

        async def written() -> dict[str, int]:
            return {}

        job = WatchedJob(self.events, "ranking", Datasets(), "FLINK", written)
        return RankingRuns(job, cast(Flink, self.flink), self._folder / "flink")

    def emitted(self) -> list[tuple[str, str, str]]:
        """State, run and message of each event, once they are all written."""
        lines = (self._folder / "flink_watcher.jsonl").read_text("utf-8").splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [
            (e["eventType"], e["run"]["runId"], e["run"].get("facets", {}).get("errorMessage", {}).get("message", ""))
            for e in events
        ]


async def test_a_restart_by_flink_ends_the_attempt_with_its_error(tmp_path: Path) -> None:
    """The attempt that fell is FAIL with Flink's exception; the next one is a run of its own."""
    scene = Scene(tmp_path)
    async with scene.events.sending():
        watcher = scene.watcher()
        scene.flink.statuses = {"a": "RUNNING"}
        await watcher.update("a", 0, running=True)
        await watcher.update("a", 1, running=False)
        await watcher.update("a", 0, running=True)  # the count is not there for a moment
        await watcher.update("a", 1, running=True)
    first, second = run_id("a", 0), run_id("a", 1)
    assert scene.emitted() == [
        ("START", first, ""),
        ("RUNNING", first, ""),
        ("FAIL", first, "java.lang.RuntimeException: a lost a slot"),
        ("START", second, ""),
        ("RUNNING", second, ""),
    ]


async def test_a_job_that_is_replaced_is_complete_and_its_successor_a_run(tmp_path: Path) -> None:
    """Stopped with a savepoint is COMPLETE; while it is stopping nothing is emitted."""
    scene = Scene(tmp_path)
    async with scene.events.sending():
        watcher = scene.watcher()
        scene.flink.statuses = {"a": "RUNNING"}
        await watcher.update("a", 0, running=False)
        await watcher.update(None, 0, running=False)
        scene.flink.statuses = {"a": "FINISHED", "b": "RUNNING"}
        await watcher.update(None, 0, running=False)
        await watcher.update("b", 0, running=False)
    assert [(state, run) for state, run, _ in scene.emitted()] == [
        ("START", run_id("a", 0)),
        ("COMPLETE", run_id("a", 0)),
        ("START", run_id("b", 0)),
    ]


async def test_a_job_that_failed_for_good_is_fail(tmp_path: Path) -> None:
    """FAIL comes when Flink says FAILED, before there is a successor."""
    scene = Scene(tmp_path)
    async with scene.events.sending():
        watcher = scene.watcher()
        await watcher.update("a", 0, running=False)
        scene.flink.statuses = {"a": "FAILED"}
        await watcher.update(None, 0, running=False)
    assert [state for state, _, _ in scene.emitted()] == ["START", "FAIL"]
    assert "lost a slot" in scene.emitted()[1][2]


async def test_the_next_watcher_goes_on_with_the_run(tmp_path: Path) -> None:
    """A watcher that ends does not end the job: its successor emits the same run, or that Flink lost the job."""
    scene = Scene(tmp_path)
    async with scene.events.sending():
        scene.flink.statuses = {"a": "RUNNING"}
        await scene.watcher().update("a", 2, running=False)
        await scene.watcher().update("a", 2, running=True)
        scene.flink.statuses = {"b": "RUNNING"}
        await scene.watcher().update("b", 0, running=False)
    assert scene.emitted() == [
        ("START", run_id("a", 2), ""),
        ("RUNNING", run_id("a", 2), ""),
        ("ABORT", run_id("a", 2), "Flink does not know job a any more"),
        ("START", run_id("b", 0), ""),
    ]
