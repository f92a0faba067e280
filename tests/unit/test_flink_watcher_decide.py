"""What the watcher does about the ranking job, from what it sees."""

import pytest

from services.flink_watcher.transform import (
    Job,
    Part,
    Submission,
    Version,
    decide,
    progress,
    reached,
    restore_error,
    state_since,
)

NOW = Version("code-2", "state-1")
BEFORE = Version("code-1", "state-1")
OTHER = Version("code-0", "state-0")


def _job(
    job_id: str = "j",
    status: str = "RUNNING",
    version: Version | None = NOW,
    started_ms: int = 0,
    quiet_ms: int = 60_000,
) -> Job:
    return Job(job_id, status, version, started_ms, quiet_ms, tasks=12, tasks_running=12 if status == "RUNNING" else 0)


def test_an_up_to_date_job_is_left_alone() -> None:
    """A second submission does nothing while the job runs."""
    assert decide(NOW, [_job()], Submission("j", NOW), []).kind == "leave"


@pytest.mark.parametrize("status", ["CREATED", "INITIALIZING", "RESTARTING", "RECONCILING", "SUSPENDED"])
def test_a_job_that_will_run_by_itself_is_left_alone(status: str) -> None:
    """Flink's own restart is not disturbed."""
    assert decide(NOW, [_job(status=status)], Submission("j", NOW), []).kind == "leave"


def test_a_changed_job_is_replaced_with_its_state() -> None:
    """New code with the same meaning of state continues from a savepoint."""
    action = decide(NOW, [_job(version=BEFORE)], Submission("j", BEFORE), [])
    assert (action.kind, action.job_id) == ("replace", "j")


@pytest.mark.parametrize("version", [OTHER, None])
def test_beside_a_job_whose_state_means_something_else_everything_is_recomputed(version: Version | None) -> None:
    """Other rankings or windows, or a job that is not ours, cannot hand over their state; it serves meanwhile."""
    last = Submission("j", version or OTHER)
    action = decide(NOW, [_job(version=version)], last, [])
    assert (action.kind, action.job_id) == ("rebuild", "j")
    assert decide(NOW, [_job(version=version)], last, [], rebuilding=True).kind == "wait"


@pytest.mark.parametrize(("status", "quiet_ms"), [("INITIALIZING", 60_000), ("RUNNING", 9_000)])
def test_a_job_that_begins_is_not_judged_before_flink_tells_its_version(status: str, quiet_ms: int) -> None:
    """Flink knows no configuration of a job that initializes, and its answers are some seconds old."""
    beginning = _job(status=status, version=None, quiet_ms=quiet_ms)
    assert decide(NOW, [beginning], Submission("j", NOW), []).kind == "wait"


def test_a_shadow_that_no_living_rebuild_owns_is_ended() -> None:
    """It is ended first of all, and once; the job beside it is left alone."""
    shadow = _job("shadow")
    action = decide(NOW, [_job()], Submission("j", NOW), [], shadows=[shadow])
    assert (action.kind, action.job_id) == ("end", "shadow")
    for status in ("CANCELLING", "CANCELED", "FINISHED"):
        gone = _job("shadow", status)
        assert decide(NOW, [_job()], Submission("j", NOW), [], shadows=[gone]).kind == "leave"
    assert decide(NOW, [_job()], Submission("j", NOW), [], shadows=[shadow], rebuilding=True).kind == "leave"


@pytest.mark.parametrize("version", [NOW, BEFORE, OTHER])
def test_from_the_note_of_a_finished_rebuild_on_anyone_can_switch(version: Version) -> None:
    """The old job is cancelled, its end is waited for, and its successor starts from the shadow's savepoint."""
    last = Submission("shadow", NOW, ran=True, savepoint="file:/s", superseded=("older", "old"))
    steps = [
        decide(NOW, [_job("old", status, version)], last, ["file:/s"])
        for status in ("RUNNING", "CANCELLING", "CANCELED")
    ]
    assert [step.kind for step in steps] == ["cancel", "wait", "start"]
    assert steps[0].job_id == "old"
    assert steps[2].restore == "file:/s"


def test_after_a_stop_with_savepoint_the_successor_starts_from_it() -> None:
    """The savepoint is the best restore point, also when the version of the code has changed."""
    last = Submission("j", BEFORE, ran=True, savepoint="file:/s")
    action = decide(NOW, [_job(status="FINISHED", version=BEFORE)], last, ["file:/s", "file:/c"])
    assert (action.kind, action.restore) == ("start", "file:/s")


def test_while_a_job_stops_nothing_is_started() -> None:
    """Two copies never run side by side."""
    stopped = Submission("j", BEFORE, ran=True, savepoint="file:/s")
    assert decide(NOW, [_job(version=BEFORE)], stopped, ["file:/s"]).kind == "wait"
    assert decide(NOW, [_job(status="CANCELLING")], Submission("j", NOW), []).kind == "wait"


def test_a_lost_job_resumes_from_its_newest_checkpoint() -> None:
    """The JobManager forgot the job: it starts from the first restore point."""
    action = decide(NOW, [], Submission("j", NOW, ran=True), ["file:/chk-9", "file:/chk-8"])
    assert (action.kind, action.restore) == ("start", "file:/chk-9")


def test_the_first_submission_starts_from_the_earliest() -> None:
    """Without any record there is nothing to restore."""
    action = decide(NOW, [], None, [])
    assert (action.kind, action.restore) == ("start", None)


def test_a_lost_job_with_another_meaning_of_state_starts_afresh_and_says_so() -> None:
    """Checkpoints of other rankings are not restored."""
    action = decide(NOW, [], Submission("j", OTHER, ran=True), ["file:/chk-9"])
    assert (action.kind, action.restore) == ("start", None)
    assert "afresh" in action.why


def test_a_restore_point_that_flink_rejects_is_noted_and_the_next_one_is_tried() -> None:
    """FAILED before it ever ran: the restore point is rejected, and the next start takes the one after it."""
    last = Submission("j", NOW, restored_from="file:/chk-9")
    reject = decide(NOW, [_job(status="FAILED")], last, ["file:/chk-9", "file:/chk-8"])
    assert (reject.kind, reject.restore) == ("reject", "file:/chk-9")
    noted = Submission("j", NOW, restored_from="file:/chk-9", rejected=("file:/chk-9",))
    start = decide(NOW, [_job(status="FAILED")], noted, ["file:/chk-9", "file:/chk-8"])
    assert (start.kind, start.restore) == ("start", "file:/chk-8")


def test_a_job_that_restarts_because_its_state_does_not_fit_is_rejected_too() -> None:
    """Flink would restart such a job for ever."""
    last = Submission("j", NOW, restored_from="file:/chk-9")
    action = decide(NOW, [_job(status="RESTARTING")], last, ["file:/chk-9"], restore_failed=True)
    assert (action.kind, action.restore, action.job_id) == ("reject", "file:/chk-9", "j")


def test_a_job_that_ran_and_failed_resumes() -> None:
    """A failure after a good start does not make its restore point suspect."""
    last = Submission("j", NOW, restored_from="file:/old", ran=True)
    action = decide(NOW, [_job(status="FAILED")], last, ["file:/chk-9", "file:/old"])
    assert (action.kind, action.restore) == ("start", "file:/chk-9")


def test_of_two_copies_the_outdated_or_older_one_is_cancelled() -> None:
    """Exactly one job remains, and it is the up-to-date one."""
    jobs = [_job("new", started_ms=1), _job("old", version=BEFORE, started_ms=2)]
    assert decide(NOW, jobs, Submission("new", NOW), []).job_id == "old"
    twins = [_job("second", started_ms=2), _job("first", started_ms=1)]
    assert decide(NOW, twins, Submission("second", NOW), []).job_id == "first"


@pytest.mark.parametrize(
    ("text", "is_about_state"),
    [
        ("org.apache.flink.util.StateMigrationException: The new state serializer must not be incompatible", True),
        ("java.lang.IllegalStateException: Failed to rollback to checkpoint/savepoint file:/chk-9", True),
        ("org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment", False),
        ("", False),
    ],
)
def test_only_errors_about_state_condemn_a_restore_point(text: str, is_about_state: bool) -> None:
    """A broker that is unavailable says nothing about the checkpoint."""
    assert restore_error(text) is is_about_state


def test_a_state_knows_every_sale_only_where_the_log_is_whole() -> None:
    """One partition that has lost its beginning is enough to know nothing."""
    assert state_since([Part(0, 0, 5), Part(1, 0, 0)], 77) == 77
    assert state_since([Part(0, 0, 5), Part(1, 3, 9)], 77) == 0


def test_what_is_read_counts_from_the_beginning_of_the_log() -> None:
    """A partition that is empty, or has lost what was not read yet, is no obstacle."""
    parts = [Part(0, 10, 110, 60), Part(1, 7, 7, None), Part(2, 20, 20, 15)]
    assert progress(parts) == "50 of 100 records (50 %)"
    assert not reached(parts, {0: 61, 1: 7, 2: 20})
    assert reached(parts, {0: 60, 1: 7, 2: 20})
    assert progress([Part(0, 0, 0)]) == "0 of 0 records (100 %)"
    assert not reached([Part(0, 0, 5, None)], {0: 5})
