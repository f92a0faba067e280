"""What the watcher keeps on disk: the job's archive and version, and the record of submissions."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.catalogue import catalogue
from flink.ranking.configuration import read
from services.flink_watcher import bundle
from services.flink_watcher.record import Record, RecordError
from services.flink_watcher.settings import ROOT, WatcherSettings
from services.flink_watcher.transform import Submission, Version

VERSION = Version("c", "s")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The job's sources in a folder that a test may change."""
    for path in bundle.sources(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tmp_path


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_comment_changes_no_version(copy: Path) -> None:
    """The running job is not replaced for a comment."""
    before = bundle.version(copy, {})
    _edit(copy / "flink/ranking/sql.py", "\nSEPARATOR", "\n# why\nSEPARATOR")
    assert bundle.version(copy, {}) == before


def test_code_and_configuration_change_the_version_but_not_the_meaning_of_state(copy: Path) -> None:
    """A change of the function or of a latency is a change that keeps its state."""
    before = bundle.version(copy, {})
    configured = bundle.version(copy, {"RANKING_MINI_BATCH_MS": "50"})
    _edit(copy / "flink/ranking/window_state.py", "GATHER_MS = 50", "GATHER_MS = 60")
    edited = bundle.version(copy, {})
    assert len({before.code, configured.code, edited.code}) == 3
    assert before.state == configured.state == edited.state


def test_another_ranking_or_window_changes_the_meaning_of_state(copy: Path) -> None:
    """Totals of a new ranking can only be computed from the beginning."""
    before = bundle.version(copy, {})
    assert bundle.version(copy, {"RANKING_WINDOWS": "1h,1d"}).state != before.state
    assert bundle.version(copy, {"RANKING_STATE_TTL_DAYS": "36"}).state != before.state
    for old, new in (('column="city"', 'column="product"'), ('"salesman",', '"seller",'), ("try=True", "try=False")):
        _edit(copy / "contracts/rankings.py", old, new)
        edited = bundle.version(copy, {})
        assert edited.state != before.state
        before = edited


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"Top cities"', '"Best cities"'),
        ('path="top-by-city"', 'path="top-cities"'),
        ('table="top_sales_city"', 'table="top_cities"'),
        ('competitor={"en": "City"', 'competitor={"en": "Town"'),
    ],
)
def test_how_a_ranking_is_shown_does_not_change_the_meaning_of_state(copy: Path, old: str, new: str) -> None:
    """A title or an address needs no rebuild of the rankings."""
    before = bundle.version(copy, {})
    _edit(copy / "contracts/rankings.py", old, new)
    assert bundle.version(copy, {}).state == before.state


def test_variables_of_others_change_nothing(copy: Path) -> None:
    """Only what the job reads is part of its version."""
    assert bundle.version(copy, {"API_PORT": "1"}) == bundle.version(copy, {})


def test_what_the_watcher_sets_for_a_submission_is_no_part_of_the_version(copy: Path) -> None:
    """A shadow is the same job, and so is one whose state is older."""
    set_by_watcher = {"RANKING_SHADOW": "group", "RANKING_STATE_SINCE_MS": "5"}
    assert bundle.version(copy, set_by_watcher) == bundle.version(copy, {})


def test_a_configuration_can_be_exchanged_as_a_whole() -> None:
    """Only the job's variables are; one that is not set any more is gone."""
    environment = {"PATH": "/bin", "RANKING_WINDOWS": "1h", "KAFKA_PORT": "1"}
    assert bundle.configuration(environment) == {"RANKING_WINDOWS": "1h", "KAFKA_PORT": "1"}
    assert bundle.configured(environment, {"RANKING_IDLE_S": "3"}) == {"PATH": "/bin", "RANKING_IDLE_S": "3"}


def test_the_state_lives_shorter_than_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, which is the job's own, and by force: otherwise a rebuild could not be right."""
    kept = catalogue()["sales.unified"].retention_days
    assert kept is not None
    assert WatcherSettings().state_ttl_days == read({}).state_ttl_days < kept
    monkeypatch.setenv("RANKING_STATE_TTL_DAYS", str(kept - 1))
    WatcherSettings()
    monkeypatch.setenv("RANKING_STATE_TTL_DAYS", str(kept))
    with pytest.raises(ValidationError, match=f"less than the {kept} days for which sales.unified is kept"):
        WatcherSettings()


def test_the_archive_holds_what_the_job_imports(tmp_path: Path) -> None:
    """The job's modules and every topic's schema are in it, and nothing of other units."""
    bundle.write_only(ROOT, tmp_path / "folder" / "job.zip")
    names = zipfile.ZipFile(tmp_path / "folder" / "job.zip").namelist()
    assert {"flink/ranking/job.py", "flink/__init__.py", "contracts/topics/rankings.city/value.avsc"} <= set(names)
    assert {name for name in names if name.endswith(".py") and name.startswith("contracts/")} == {
        "contracts/__init__.py",
        "contracts/rankings.py",
        "contracts/time.py",
        "contracts/windows.py",
    }
    assert all(name.startswith(("flink/", "contracts/")) for name in names)


def test_the_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Before the first submission there is none; afterwards every field is kept."""
    record = Record(tmp_path / "flink")
    assert record.read() is None
    submission = Submission(
        "j",
        VERSION,
        "file:/c",
        ran=True,
        savepoint="file:/s",
        rejected=("r",),
        superseded=("o",),
        configuration={"RANKING_WINDOWS": "2h"},
        state_since_ms=5,
    )
    record.write(submission)
    assert record.read() == submission


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """What it does not say is unknown: any configuration, and a state that may have lost sales."""
    kept = {"job_id": "j", "version": {"code": "c", "state": "s"}, "restored_from": None, "ran": True}
    (tmp_path / "ranking.json").write_text(json.dumps({**kept, "savepoint": None, "rejected": [], "superseded": []}))
    assert Record(tmp_path).read() == Submission("j", VERSION, ran=True, configuration=None, state_since_ms=0)


def test_a_damaged_record_is_named_with_the_remedy(tmp_path: Path) -> None:
    """The message says which file, and what to do."""
    (tmp_path / "ranking.json").write_text("{")
    with pytest.raises(RecordError, match=r"ranking\.json.*delete it"):
        Record(tmp_path).read()


def _checkpoint(folder: Path, job: str, number: int, *, complete: bool = True) -> str:
    made = folder / "checkpoints" / job / f"chk-{number}"
    made.mkdir(parents=True)
    if complete:
        (made / "_metadata").touch()
    return made.as_uri()


def test_restore_points_are_the_savepoint_then_complete_checkpoints_from_the_newest(tmp_path: Path) -> None:
    """chk-10 is newer than chk-9, an unfinished one does not count, and what was restored last is the last resort."""
    nine, ten = _checkpoint(tmp_path, "j", 9), _checkpoint(tmp_path, "j", 10)
    _checkpoint(tmp_path, "j", 11, complete=False)
    _checkpoint(tmp_path, "other", 12)
    last = Submission("j", VERSION, restored_from="file:/old", savepoint="file:/s")
    assert Record(tmp_path).restore_points(last) == ["file:/s", ten, nine, "file:/old"]
    assert Record(tmp_path).restore_points(None) == []


def test_superseded_checkpoints_go_only_when_the_job_has_one_of_its_own(tmp_path: Path) -> None:
    """Until then the old one may still be needed; other jobs' folders are never touched."""
    record = Record(tmp_path)
    for job in ("old", "foreign"):
        _checkpoint(tmp_path, job, 1)
    last = Submission("j", VERSION, superseded=("old",))
    assert not record.clean(last)
    assert (tmp_path / "checkpoints" / "old").exists()
    _checkpoint(tmp_path, "j", 1)
    assert record.clean(last)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["foreign", "j"]
