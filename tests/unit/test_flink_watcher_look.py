"""One look of the watcher, against a JobManager played by a table of jobs and a command line that is a script."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from services.flink_watcher import bundle
from services.flink_watcher.poll import NotRunningError, Watcher, until_running
from services.flink_watcher.record import Record
from services.flink_watcher.rest import CODE, STATE, Flink, RefusedError
from services.flink_watcher.settings import ROOT, WatcherSettings
from services.flink_watcher.submit import SubmissionError, WrongSettingError, summary
from services.flink_watcher.transform import Submission, Version

WANTED = bundle.version(ROOT, {})
NEW_JOB = "a" * 32


@dataclass
class Cluster:
    """A JobManager: jobs by id, and the calls that changed something."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    savepoint: dict[str, Any] = field(default_factory=lambda: {"location": "file:/savepoint"})

    def add(self, job_id: str, version: Version | None = WANTED, state: str = "RUNNING") -> None:
        """A job with twelve tasks, all running where the job runs."""
        carried = {} if version is None else {CODE: version.code, STATE: version.state}
        self.jobs[job_id] = {"state": state, "carried": carried}

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The REST API."""
        path = request.url.path
        if path == "/jobs/overview":
            tasks = {job_id: 12 if job["state"] == "RUNNING" else 0 for job_id, job in self.jobs.items()}
            overview = [
                {
                    "jid": i,
                    "name": "ranking",
                    "state": j["state"],
                    "start-time": 1,
                    "tasks": {"total": 12, "running": tasks[i]},
                }
                for i, j in self.jobs.items()
            ]
            return httpx.Response(200, json={"jobs": overview})
        job_id = path.split("/")[2]
        if path.endswith("/config"):
            return httpx.Response(200, json={"execution-config": {"user-config": self.jobs[job_id]["carried"]}})
        if path.endswith("/exceptions"):
            return httpx.Response(200, json={"exceptionHistory": {"entries": []}})
        if "/savepoints/" in path:
            return httpx.Response(200, json={"status": {"id": "COMPLETED"}, "operation": self.savepoint})
        self.calls.append(f"{request.method} {path}")
        self.jobs[job_id]["state"] = "FINISHED" if path.endswith("/stop") else "CANCELED"
        return httpx.Response(202, json={"request-id": "r"})


@pytest.fixture
def cluster() -> Cluster:
    """An empty cluster."""
    return Cluster()


@pytest.fixture
def watcher(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """A watcher of the cluster, whose `flink` command notes its arguments and prints a job id."""
    command = tmp_path / "home" / "bin" / "flink"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho Job has been submitted with JobID {NEW_JOB}\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PLACAR_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLINK_HOME", str(tmp_path / "home"))
    settings = WatcherSettings()
    client = httpx.AsyncClient(base_url="http://flink", transport=httpx.MockTransport(cluster.answer))
    return Watcher(settings, Flink(client), Record(settings.folder), {}, structlog.stdlib.get_logger())


async def test_the_first_look_submits_with_the_version(watcher: Watcher, tmp_path: Path) -> None:
    """The job is submitted afresh, carries its version, and is written down."""
    found = await watcher.look()
    arguments = (tmp_path / "arguments").read_text()
    assert found.action.kind == "start"
    assert f"{CODE}:{WANTED.code},{STATE}:{WANTED.state}" in arguments
    assert "--fromSavepoint" not in arguments
    assert watcher.record.read() == Submission(NEW_JOB, WANTED)


async def test_a_running_job_is_noted_as_having_run(watcher: Watcher, cluster: Cluster) -> None:
    """Nothing is called, and the record knows that the job was good."""
    cluster.add("j")
    watcher.record.write(Submission("j", WANTED))
    found = await watcher.look()
    assert found.job is not None
    assert found.job.running
    assert cluster.calls == []
    assert watcher.record.read() == Submission("j", WANTED, ran=True)


async def test_a_job_that_nobody_wrote_down_is_adopted(watcher: Watcher, cluster: Cluster) -> None:
    """A watcher that died between submission and record does not submit a second copy."""
    cluster.add("j")
    assert (await watcher.look()).action.kind == "leave"
    assert watcher.record.read() == Submission("j", WANTED, ran=True)


async def test_a_changed_job_goes_on_from_its_savepoint(watcher: Watcher, cluster: Cluster, tmp_path: Path) -> None:
    """First look: stop with savepoint. Second: submit from it, superseding the old job."""
    old = replace(WANTED, code="old")
    cluster.add("j", old)
    watcher.record.write(Submission("j", old, ran=True))
    assert (await watcher.look()).action.kind == "replace"
    assert cluster.calls == ["POST /jobs/j/stop"]
    assert (await watcher.look()).action.kind == "start"
    assert "--fromSavepoint file:/savepoint" in (tmp_path / "arguments").read_text()
    assert watcher.record.read() == Submission(NEW_JOB, WANTED, "file:/savepoint", superseded=("j",))


async def test_without_a_savepoint_the_newest_checkpoint_serves(
    watcher: Watcher, cluster: Cluster, tmp_path: Path
) -> None:
    """A failing job cannot make a savepoint: it is cancelled and continued from its checkpoint."""
    old = replace(WANTED, code="old")
    cluster.add("j", old)
    cluster.savepoint = {"failure-cause": {"stack-trace": "some task is not running\n at x"}}
    watcher.record.write(Submission("j", old, ran=True))
    checkpoint = watcher.settings.folder / "checkpoints" / "j" / "chk-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    await watcher.look()
    cluster.jobs["j"]["state"] = "CANCELED"
    await watcher.look()
    assert f"--fromSavepoint {checkpoint.as_uri()}" in (tmp_path / "arguments").read_text()


async def test_a_refused_restore_is_written_down(watcher: Watcher, cluster: Cluster, tmp_path: Path) -> None:
    """FAILED before it ran: the next submission starts without that restore point."""
    cluster.add("j", state="FAILED")
    watcher.record.write(Submission("j", WANTED, restored_from="file:/bad"))
    assert (await watcher.look()).action.kind == "refuse"
    assert (await watcher.look()).action.kind == "start"
    assert "--fromSavepoint" not in (tmp_path / "arguments").read_text()


async def test_a_failed_submission_says_what_the_command_line_said(watcher: Watcher) -> None:
    """The last telling lines are in the message, the stack trace is not."""
    command = watcher.settings.flink_home / "bin" / "flink"
    command.write_text("#!/bin/sh\necho 'ranking job: subject rankings.city-value is missing'\nexit 1\n")
    with pytest.raises(SubmissionError, match=r"exit status 1: subject rankings\.city-value is missing"):
        await watcher.look()
    assert watcher.record.read() is None


async def test_a_wrong_setting_ends_the_wait_at_once(watcher: Watcher) -> None:
    """A value that the job refuses is reported without waiting for the deadline."""
    command = watcher.settings.flink_home / "bin" / "flink"
    command.write_text("#!/bin/sh\necho \"ranking job: wrong setting: RANKING_WINDOWS '1q'\"\nexit 31\n")
    with pytest.raises(WrongSettingError, match=r"^wrong setting: RANKING_WINDOWS '1q'$"):
        await until_running(watcher, 60, (RefusedError, SubmissionError))


async def test_a_missing_flink_is_named_with_its_setting(watcher: Watcher) -> None:
    """The message names the command and the settings that decide where it is."""
    (watcher.settings.flink_home / "bin" / "flink").unlink()
    with pytest.raises(SubmissionError, match="FLINK_HOME"):
        await watcher.look()


async def test_once_ends_when_every_task_runs(watcher: Watcher, cluster: Cluster) -> None:
    """It returns the running job."""
    cluster.add("j")
    assert (await until_running(watcher, 5, (RefusedError,))).job_id == "j"


async def test_once_ends_at_its_deadline_with_the_reason(watcher: Watcher, cluster: Cluster) -> None:
    """A job that never runs is reported with its state."""
    cluster.add("j", state="RESTARTING")
    with pytest.raises(NotRunningError, match=r"does not run after 0\.1 s: RESTARTING, 0 of 12"):
        await until_running(watcher, 0.1, (RefusedError,))


async def test_an_absent_flink_is_named_with_address_and_setting(watcher: Watcher) -> None:
    """The reason of the deadline says where Flink was sought."""

    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = httpx.AsyncClient(base_url="http://flink", transport=httpx.MockTransport(away))
    with pytest.raises(NotRunningError, match="FLINK_REST_HOST, FLINK_REST_PORT"):
        await until_running(replace(watcher, flink=Flink(client)), 0.1, (RefusedError,))


def test_a_summary_leaves_out_stack_traces() -> None:
    """What a person can use is kept."""
    assert summary("WARNING: x\nbad thing\n\tat a.b.C\n") == "bad thing"
    assert summary("") == "it printed nothing"


def test_the_record_is_json(watcher: Watcher) -> None:
    """A person can read what the watcher remembers."""
    watcher.record.write(Submission("j", WANTED))
    assert json.loads((watcher.settings.folder / "ranking.json").read_text())["job_id"] == "j"
