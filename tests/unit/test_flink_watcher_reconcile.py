"""Reconciliation, against a JobManager played by a table of jobs and a command line that is a script."""

import asyncio
import fcntl
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import structlog

from services.flink_watcher import bundle
from services.flink_watcher.log import SalesLog
from services.flink_watcher.rebuild import RebuildError
from services.flink_watcher.reconcile import NotRunningError, Reconciled, Reconciler, until_running
from services.flink_watcher.record import Record
from services.flink_watcher.rest import CODE, STATE, Flink, RejectedError
from services.flink_watcher.settings import ROOT, WatcherSettings
from services.flink_watcher.submit import SubmissionError, WrongSettingError, summary
from services.flink_watcher.transform import Action, Job, NotDoneError, Part, Submission, Undecodable, Version

WANTED = bundle.version(ROOT, {})
NEW_JOB = "a" * 32


@dataclass
class Cluster:
    """A JobManager: jobs by id, and the calls that changed something."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    savepoint: dict[str, Any] = field(default_factory=lambda: {"location": "file:/savepoint"})
    exception: str = ""

    def add(self, job_id: str, version: Version | None = WANTED, state: str = "RUNNING", name: str = "ranking") -> None:
        """A job with twelve tasks, all running where the job runs."""
        carried = {} if version is None else {CODE: version.code, STATE: version.state}
        self.jobs[job_id] = {"state": state, "carried": carried, "name": name}

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The REST API."""
        path = request.url.path
        if path == "/jobs/overview":
            tasks = {job_id: 12 if job["state"] == "RUNNING" else 0 for job_id, job in self.jobs.items()}
            overview = [
                {
                    "jid": i,
                    "name": j["name"],
                    "state": j["state"],
                    "start-time": 1,
                    "duration": 60_000,
                    "last-modification": 1,
                    "tasks": {"total": 12, "running": tasks[i]},
                }
                for i, j in self.jobs.items()
            ]
            return httpx.Response(200, json={"jobs": overview})
        job_id = path.split("/")[2]
        if path.endswith("/config"):
            return httpx.Response(200, json={"execution-config": {"user-config": self.jobs[job_id]["carried"]}})
        if path.endswith("/exceptions"):
            return httpx.Response(200, json={"exceptionHistory": {"entries": [{"stacktrace": self.exception}]}})
        if "/savepoints/" in path:
            return httpx.Response(200, json={"status": {"id": "COMPLETED"}, "operation": self.savepoint})
        self.calls.append(f"{request.method} {path}")
        self.jobs[job_id]["state"] = "FINISHED" if path.endswith("/stop") else "CANCELED"
        return httpx.Response(202, json={"request-id": "r"})


class Log(SalesLog):
    """A log played by a function of the group that asks; whole and empty where none is given."""

    def __init__(
        self, played: Callable[[str], list[Part]] | None = None, undecodable: Undecodable | None = None
    ) -> None:
        self.played = played or (lambda _: [Part(0, 0, 0)])
        self.bad = undecodable
        self.begin = 0

    async def parts(self, group: str) -> list[Part]:
        """What the function says."""
        return [replace(part, begin=max(part.begin, self.begin)) for part in self.played(group)]

    async def undecodable(self, group: str) -> Undecodable | None:
        """The one that there is."""
        return self.bad

    async def skip(self, blocked: Undecodable) -> int:
        """Begin behind it."""
        self.begin = blocked.offset + 1
        return blocked.offset


@pytest.fixture
def cluster() -> Cluster:
    """An empty cluster."""
    return Cluster()


@pytest.fixture
def reconciler(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reconciler:
    """A reconciler of the cluster, whose `flink` command records arguments and environment and prints a job id."""
    command = tmp_path / "home" / "bin" / "flink"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n/usr/bin/env > {tmp_path}/environment\n'
        f"echo Job has been submitted with JobID {NEW_JOB}\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLINK_HOME", str(tmp_path / "home"))
    settings = WatcherSettings()
    client = httpx.AsyncClient(base_url="http://flink", transport=httpx.MockTransport(cluster.answer))
    return Reconciler(settings, Flink(client), Log(), Record(settings.folder), {}, structlog.stdlib.get_logger())


async def test_the_first_reconciliation_submits_with_the_version(reconciler: Reconciler, tmp_path: Path) -> None:
    """The job is submitted afresh, carries its version, and is written down."""
    result = await reconciler.reconcile()
    arguments = (tmp_path / "arguments").read_text()
    assert result.action.kind == "start"
    assert f"{CODE}:{WANTED.code},{STATE}:{WANTED.state}" in arguments
    assert "--fromSavepoint" not in arguments
    last = reconciler.record.read()
    assert last is not None
    assert last == Submission(NEW_JOB, WANTED, configuration={}, state_since_ms=last.state_since_ms)
    assert abs(last.state_since_ms - time.time() * 1000) < 60_000
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"RANKING_SHADOW=", f"RANKING_STATE_SINCE_MS={last.state_since_ms}"} <= set(environment)


async def test_a_job_that_starts_on_a_log_without_its_beginning_lacks_sales(
    reconciler: Reconciler, tmp_path: Path
) -> None:
    """Its environment says so, also where another job continues its state."""
    await replace(reconciler, sales=Log(lambda _: [Part(0, 0, 9), Part(1, 4, 9)])).reconcile()
    assert "RANKING_STATE_SINCE_MS=0" in (tmp_path / "environment").read_text().splitlines()


async def test_a_resumed_job_keeps_the_age_of_its_state(reconciler: Reconciler, tmp_path: Path) -> None:
    """The state is as old as the first submission, not as the last."""
    reconciler.record.write(Submission("j", WANTED, ran=True, savepoint="file:/s", state_since_ms=77))
    await reconciler.reconcile()
    assert "RANKING_STATE_SINCE_MS=77" in (tmp_path / "environment").read_text().splitlines()
    last = reconciler.record.read()
    assert last is not None
    assert last.state_since_ms == 77


async def test_the_running_watcher_follows_what_was_submitted_last(reconciler: Reconciler, cluster: Cluster) -> None:
    """A setting that a command has taken over is not undone by a watcher that was started before it."""
    configured = {"RANKING_EMIT_INTERVAL_MS": "500"}
    version = bundle.version(ROOT, configured)
    cluster.add("j", version)
    reconciler.record.write(Submission("j", version, ran=True, configuration=configured))
    following = replace(reconciler, environment={"RANKING_EMIT_INTERVAL_MS": "900", "OTHER": "x"}, follows=True)
    assert (await following.reconcile()).action.kind == "leave"
    assert (await replace(following, follows=False).reconcile()).action.kind == "replace"


async def test_a_running_job_is_recorded_as_having_run(reconciler: Reconciler, cluster: Cluster) -> None:
    """Nothing is called, and the record shows that the job was good."""
    cluster.add("j")
    reconciler.record.write(Submission("j", WANTED))
    result = await reconciler.reconcile()
    assert result.job is not None
    assert result.job.running
    assert cluster.calls == []
    assert reconciler.record.read() == Submission("j", WANTED, ran=True)


async def test_a_job_that_nobody_recorded_is_adopted(reconciler: Reconciler, cluster: Cluster) -> None:
    """A watcher that died between submission and record does not submit a second copy."""
    cluster.add("j")
    assert (await reconciler.reconcile()).action.kind == "leave"
    assert reconciler.record.read() == Submission("j", WANTED, ran=True, configuration={})


async def test_an_adopted_job_can_be_continued_from_what_its_predecessor_left(
    reconciler: Reconciler, cluster: Cluster
) -> None:
    """Until it has a checkpoint of its own, the newest of the job before serves, with what that one's state knew."""
    checkpoint = reconciler.settings.folder / "checkpoints" / "lost" / "chk-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    reconciler.record.write(Submission("lost", WANTED, ran=True, state_since_ms=5))
    cluster.add("j")
    await reconciler.reconcile()
    last = reconciler.record.read()
    assert last is not None
    assert (last.job_id, last.superseded, last.state_since_ms) == ("j", ("lost",), 5)
    assert reconciler.record.restore_points(last) == [checkpoint.as_uri()]


async def test_what_submits_holds_the_record_when_the_watcher_is_gone(reconciler: Reconciler, tmp_path: Path) -> None:
    """A killed watcher's submission goes on; until it ends, its successor gets no hold of the record."""
    command = reconciler.settings.flink_home / "bin" / "flink"
    command.write_text(
        f"#!/bin/sh\nsleep 60 > {tmp_path}/outlives 2>&1 &\necho $! > {tmp_path}/pid\n"
        f"echo Job has been submitted with JobID {NEW_JOB}\n"
    )
    await reconciler.reconcile()
    outlives = psutil.Process(int((tmp_path / "pid").read_text()))
    with (reconciler.settings.folder / "ranking.lock").open("w") as lock:
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            outlives.kill()
        outlives.wait(10)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("savepoint", [{"location": "file:/s"}, {"failure-cause": {"stack-trace": "not running"}}])
async def test_what_a_command_has_begun_the_running_watcher_goes_on_with(
    reconciler: Reconciler, cluster: Cluster, tmp_path: Path, savepoint: dict[str, Any]
) -> None:
    """Between the end of the old job and the start of the new, a watcher with other settings may come first."""
    cluster.add("j")
    cluster.savepoint = savepoint
    reconciler.record.write(Submission("j", WANTED, ran=True, configuration={}))
    command = replace(reconciler, environment={"RANKING_EMIT_INTERVAL_MS": "500"})
    assert (await command.reconcile()).action.kind == "replace"
    cluster.jobs["j"]["state"] = "CANCELED"
    assert (await replace(reconciler, follows=True).reconcile()).action.kind == "start"
    assert "RANKING_EMIT_INTERVAL_MS=500" in (tmp_path / "environment").read_text().splitlines()


async def test_a_changed_job_goes_on_from_its_savepoint(
    reconciler: Reconciler, cluster: Cluster, tmp_path: Path
) -> None:
    """First: stop with savepoint. Second: submit from it, superseding the old job."""
    old = replace(WANTED, code="old")
    cluster.add("j", old)
    reconciler.record.write(Submission("j", old, ran=True))
    assert (await reconciler.reconcile()).action.kind == "replace"
    assert cluster.calls == ["POST /jobs/j/stop"]
    assert (await reconciler.reconcile()).action.kind == "start"
    assert "--fromSavepoint file:/savepoint" in (tmp_path / "arguments").read_text()
    assert reconciler.record.read() == Submission(
        NEW_JOB, WANTED, "file:/savepoint", superseded=("j",), configuration={}
    )


async def test_without_a_savepoint_the_newest_checkpoint_serves(
    reconciler: Reconciler, cluster: Cluster, tmp_path: Path
) -> None:
    """A failing job cannot make a savepoint: it is cancelled and continued from its checkpoint."""
    old = replace(WANTED, code="old")
    cluster.add("j", old)
    cluster.savepoint = {"failure-cause": {"stack-trace": "some task is not running\n at x"}}
    reconciler.record.write(Submission("j", old, ran=True))
    checkpoint = reconciler.settings.folder / "checkpoints" / "j" / "chk-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    await reconciler.reconcile()
    cluster.jobs["j"]["state"] = "CANCELED"
    await reconciler.reconcile()
    assert f"--fromSavepoint {checkpoint.as_uri()}" in (tmp_path / "arguments").read_text()


async def test_a_rejected_restore_is_recorded(reconciler: Reconciler, cluster: Cluster, tmp_path: Path) -> None:
    """FAILED before it ran: the next submission starts without that restore point."""
    cluster.add("j", state="FAILED")
    reconciler.record.write(Submission("j", WANTED, restored_from="file:/bad"))
    assert (await reconciler.reconcile()).action.kind == "reject"
    assert (await reconciler.reconcile()).action.kind == "start"
    assert "--fromSavepoint" not in (tmp_path / "arguments").read_text()


DESERIALIZATION = "java.io.IOException: Failed to deserialize consumer record due to\n\tat x"


async def test_a_job_that_cannot_decode_a_record_is_stopped_until_it_is_skipped(
    reconciler: Reconciler, cluster: Cluster, tmp_path: Path
) -> None:
    """The reason names partition and offset; after the skip it goes on from its checkpoint."""
    cluster.add("j", state="RESTARTING")
    cluster.exception = DESERIALIZATION
    reconciler.record.write(Submission("j", WANTED, ran=True, savepoint="file:/s"))
    stopped = replace(reconciler, sales=Log(lambda _: [Part(0, 0, 90, 40)], Undecodable(0, 42, "wire_format: no")))
    first = await stopped.reconcile()
    assert (first.action.kind, cluster.calls) == ("block", ["PATCH /jobs/j"])
    assert first.action.why.startswith("sales.unified-0@42 cannot be decoded (wire_format: no)")
    again = await stopped.reconcile()
    assert (again.action.kind, again.action.why) == ("wait", first.action.why)
    assert not (tmp_path / "arguments").exists()
    assert await stopped.skip() == "sales.unified-0 begins at 43 now; the 42 records before it were published again"
    assert [(await stopped.reconcile()).action.kind for _ in range(2)] == ["wait", "start"]
    assert "--fromSavepoint file:/s" in (tmp_path / "arguments").read_text()


async def test_a_wait_ends_at_once_where_the_job_stops_for_a_record(reconciler: Reconciler, cluster: Cluster) -> None:
    """A record that cannot be decoded, such as one behind a skipped one, is named without waiting for the deadline."""
    cluster.add("j", state="RESTARTING")
    cluster.exception = DESERIALIZATION
    reconciler.record.write(Submission("j", WANTED, ran=True, savepoint="file:/s"))
    log = Log(lambda _: [Part(0, 0, 90, 40)], Undecodable(0, 42, "wire_format: no"))
    with pytest.raises(NotRunningError, match=r"^sales.unified-0@42 cannot be decoded .* run task skip-undecodable$"):
        await until_running(replace(reconciler, sales=log), 60, print)


async def test_a_job_that_fails_otherwise_is_left_to_flink(reconciler: Reconciler, cluster: Cluster) -> None:
    """Another exception, or a decoding that failed while the registry was unavailable, stops nothing."""
    cluster.add("j", state="RESTARTING")
    reconciler.record.write(Submission("j", WANTED, ran=True))
    assert (await reconciler.reconcile()).action.kind == "leave"
    cluster.exception = DESERIALIZATION
    assert (await reconciler.reconcile()).action.kind == "leave"
    with pytest.raises(NotDoneError, match="not stopped for a record"):
        await reconciler.skip()


async def test_a_failed_submission_repeats_what_the_command_line_printed(reconciler: Reconciler) -> None:
    """The last useful lines are in the message, the stack trace is not."""
    command = reconciler.settings.flink_home / "bin" / "flink"
    command.write_text("#!/bin/sh\necho 'ranking job: subject rankings.city-value is missing'\nexit 1\n")
    with pytest.raises(SubmissionError, match=r"exit status 1: subject rankings\.city-value is missing"):
        await reconciler.reconcile()
    assert reconciler.record.read() is None


async def test_a_wrong_setting_ends_the_wait_at_once(reconciler: Reconciler) -> None:
    """A value that the job rejects is reported without waiting for the deadline."""
    command = reconciler.settings.flink_home / "bin" / "flink"
    command.write_text("#!/bin/sh\necho \"ranking job: wrong setting: RANKING_WINDOWS '1q'\"\nexit 31\n")
    with pytest.raises(WrongSettingError, match=r"^wrong setting: RANKING_WINDOWS '1q'$"):
        await until_running(reconciler, 60, print)


async def test_a_missing_flink_is_named_with_its_setting(reconciler: Reconciler) -> None:
    """The message names the command and the settings that decide where it is."""
    (reconciler.settings.flink_home / "bin" / "flink").unlink()
    with pytest.raises(SubmissionError, match="FLINK_HOME"):
        await reconciler.reconcile()


async def test_once_ends_when_every_task_runs(reconciler: Reconciler, cluster: Cluster) -> None:
    """It returns the running job."""
    cluster.add("j")
    assert (await until_running(reconciler, 5, print)).job_id == "j"


async def test_once_ends_at_its_deadline_with_the_reason(reconciler: Reconciler, cluster: Cluster) -> None:
    """A job that never runs is reported with its state."""
    cluster.add("j", state="RESTARTING")
    with pytest.raises(NotRunningError, match=r"does not run after 3 s: RESTARTING, 0 of 12"):
        await until_running(reconciler, 3, print)


async def test_an_absent_flink_is_named_with_address_and_setting(reconciler: Reconciler) -> None:
    """The reason of the deadline says where Flink was sought."""

    def unavailable(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("rejected")

    client = httpx.AsyncClient(base_url="http://flink", transport=httpx.MockTransport(unavailable))
    with pytest.raises(NotRunningError, match="FLINK_REST_HOST, FLINK_REST_PORT"):
        await until_running(replace(reconciler, flink=Flink(client)), 3, print)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns without a pause, on a clock that goes on by 40 seconds whenever it is read."""
    seconds = iter(range(0, 10**6, 40))
    monkeypatch.setattr("services.flink_watcher.rebuild.POLL_S", 0)
    monkeypatch.setattr("services.flink_watcher.rebuild.monotonic", lambda: next(seconds))


class Shadowed:
    """A log of 100 records of which the shadow, there from the first question on, has read 60 more each time."""

    def __init__(self, cluster: Cluster, *, arriving: int = 0, step: int = 60) -> None:
        self.cluster, self.arriving, self.step = cluster, arriving, step
        self.end, self.read = 100, 0

    def __call__(self, group: str) -> list[Part]:
        """One partition."""
        if group == "ranking":
            return [Part(0, 0, self.end)]
        if NEW_JOB not in self.cluster.jobs:
            self.cluster.add(NEW_JOB, name="ranking-rebuild")
        part = Part(0, 0, self.end, self.read)
        self.end += self.arriving
        self.read = min(self.end, self.read + self.step)
        return [part]


async def test_a_rebuild_hands_over_from_a_shadow_to_a_job_that_publishes(
    reconciler: Reconciler, cluster: Cluster, tmp_path: Path, quick: None
) -> None:
    """The shadow reads from the earliest in its own group; then the old job ends, and the new continues its state."""
    cluster.add("old")
    reconciler.record.write(Submission("old", WANTED, ran=True, superseded=("older",), state_since_ms=1))
    steps: list[str] = []
    await replace(reconciler, sales=Log(Shadowed(cluster))).rebuild(steps.append)
    shadow_environment = (tmp_path / "environment").read_text()
    assert "RANKING_SHADOW=ranking-rebuild-" in shadow_environment
    assert "--fromSavepoint" not in (tmp_path / "arguments").read_text()
    assert "100 of 100 records (100 %)" in steps
    assert cluster.calls == [f"POST /jobs/{NEW_JOB}/stop"]
    recorded = reconciler.record.read()
    assert recorded is not None
    assert recorded == Submission(
        NEW_JOB,
        WANTED,
        ran=True,
        savepoint="file:/savepoint",
        superseded=("older", "old"),
        configuration={},
        state_since_ms=recorded.state_since_ms,
    )
    assert f"RANKING_STATE_SINCE_MS={recorded.state_since_ms}" in shadow_environment.splitlines()
    assert [(await reconciler.reconcile()).action.kind for _ in range(2)] == ["cancel", "start"]
    assert cluster.jobs["old"]["state"] == "CANCELED"
    assert "--fromSavepoint file:/savepoint" in (tmp_path / "arguments").read_text()
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"RANKING_SHADOW=", f"RANKING_STATE_SINCE_MS={recorded.state_since_ms}"} <= set(environment)


async def test_a_rebuild_catches_up_while_sales_arrive(reconciler: Reconciler, cluster: Cluster, quick: None) -> None:
    """What arrived while the log was read is read too, until little is left."""
    cluster.add("old")
    log = Shadowed(cluster, arriving=20)
    await replace(reconciler, sales=Log(log)).rebuild(print)
    assert log.read == 180  # 120 had reached the end of the first question


async def test_a_rebuild_of_an_empty_log_waits_until_the_shadow_runs(
    reconciler: Reconciler, cluster: Cluster, quick: None
) -> None:
    """There is nothing to read, but a job whose tasks do not run yet makes no savepoint."""
    cluster.add("old")
    states = iter(["CREATED", "CREATED", "RUNNING"])

    def parts(group: str) -> list[Part]:
        if group != "ranking":
            cluster.add(NEW_JOB, name="ranking-rebuild", state=next(states, "RUNNING"))
        return [Part(0, 4, 4)]

    await replace(reconciler, sales=Log(parts)).rebuild(print)
    assert next(states, None) is None
    assert cluster.calls == [f"POST /jobs/{NEW_JOB}/stop"]


async def test_a_rebuild_whose_shadow_comes_no_further_leaves_the_old_job_alone(
    reconciler: Reconciler, cluster: Cluster, quick: None
) -> None:
    """The shadow is ended, its checkpoints are to go, and the record goes on with the old job."""
    cluster.add("old")
    reconciler.record.write(Submission("old", WANTED, ran=True))
    log = Log(Shadowed(cluster, step=0, arriving=10))
    with pytest.raises(RebuildError, match=r"is RUNNING and came no further for 180 s \(0 of 1\d0 records \(0 %\)\)"):
        await replace(reconciler, sales=log).rebuild(print)
    assert cluster.calls == [f"PATCH /jobs/{NEW_JOB}"]
    assert reconciler.record.read() == Submission("old", WANTED, ran=True, superseded=(NEW_JOB,))
    assert (await reconciler.reconcile()).action.kind == "leave"


async def test_a_rebuild_that_gets_no_savepoint_leaves_the_old_job_alone(
    reconciler: Reconciler, cluster: Cluster, quick: None
) -> None:
    """Nothing is recorded before the savepoint is there."""
    cluster.add("old")
    reconciler.record.write(Submission("old", WANTED, ran=True))
    cluster.savepoint = {"failure-cause": {"stack-trace": "disk full\n at x"}}
    with pytest.raises(RejectedError, match="disk full"):
        await replace(reconciler, sales=Log(Shadowed(cluster))).rebuild(print)
    assert reconciler.record.read() == Submission("old", WANTED, ran=True, superseded=(NEW_JOB,))
    assert cluster.jobs["old"]["state"] == "RUNNING"


async def test_only_one_rebuild_runs_at_a_time_and_its_shadow_is_left_alone(
    reconciler: Reconciler, cluster: Cluster
) -> None:
    """A second one is rejected, and nothing else touches the first; once its owner is gone, the shadow is ended."""
    cluster.add("j")
    cluster.add("shadow", name="ranking-rebuild")
    reconciler.record.write(Submission("j", WANTED, ran=True))
    with reconciler.record.rebuilding() as owned:
        assert owned
        with pytest.raises(RebuildError, match="another rebuild is under way"):
            await reconciler.rebuild(print)
        assert (await reconciler.reconcile()).action.kind == "leave"
    assert cluster.calls == []
    assert (await reconciler.reconcile()).action.kind == "end"
    assert cluster.calls == ["PATCH /jobs/shadow"]
    assert reconciler.record.read() == Submission("j", WANTED, ran=True, superseded=("shadow",))
    assert (await reconciler.reconcile()).action.kind == "leave"


async def test_without_a_job_there_is_nothing_to_rebuild(reconciler: Reconciler) -> None:
    """The message says what starts one."""
    with pytest.raises(RebuildError, match="task submit-flink-jobs"):
        await reconciler.rebuild(print)


@dataclass(frozen=True)
class Rebuilding(Reconciler):
    """Asks for a rebuild until one has succeeded; each takes longer than the deadline of the tests below."""

    outcomes: list[Exception | None] = field(default_factory=list)

    async def reconcile(self) -> Reconciled:
        """Flink, played."""
        if self.outcomes:
            return Reconciled(Action("rebuild", "another ranking"), None)
        await asyncio.sleep(0.05)
        return Reconciled(Action("leave", ""), Job("j", "RUNNING", WANTED, 0, 0, 1, 1))

    async def rebuild(self, emit: Callable[[str], None]) -> None:
        """The next outcome."""
        await asyncio.sleep(0.3)
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


async def test_a_rebuild_does_not_count_towards_the_deadline(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as the log is long; what follows has the whole deadline again."""
    monkeypatch.setattr("services.flink_watcher.reconcile.PAUSE_S", 0.01)
    assert (await until_running(Rebuilding(**vars(reconciler), outcomes=[None]), 0.2, print)).job_id == "j"


async def test_a_rebuild_that_fails_leaves_the_deadline_as_it_was(reconciler: Reconciler) -> None:
    """It is not tried for ever."""
    failing = Rebuilding(**vars(reconciler), outcomes=[RebuildError("no slot"), None])
    with pytest.raises(NotRunningError, match="no slot"):
        await until_running(failing, 0.2, print)
    assert failing.outcomes == [None]


async def test_once_recomputes_beside_a_job_of_another_meaning(
    reconciler: Reconciler, cluster: Cluster, quick: None
) -> None:
    """The old job ends only when everything is ready; a failure of it is the reason at the deadline."""
    cluster.add("old", replace(WANTED, state="other"))
    steps: list[str] = []
    with pytest.raises(NotRunningError, match=r"job ranking-rebuild a+ "):
        await until_running(replace(reconciler, sales=Log(Shadowed(cluster, step=0))), 5, steps.append)
    assert cluster.jobs["old"]["state"] == "RUNNING"
    assert steps[-1] == "0 of 100 records (0 %)"


def test_a_summary_leaves_out_stack_traces() -> None:
    """What a person can use is kept."""
    assert summary("WARNING: x\nbad thing\n\tat a.b.C\n") == "bad thing"
    assert summary("") == "it printed nothing"


def test_the_record_is_json(reconciler: Reconciler) -> None:
    """A person can read what the watcher keeps."""
    reconciler.record.write(Submission("j", WANTED))
    assert json.loads((reconciler.settings.folder / "ranking.json").read_text())["job_id"] == "j"
