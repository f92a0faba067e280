"""`placar lineage`: the graph as a tree."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from tests.connected.streams import free_port
from tools.__main__ import main
from tools.lineage.tree import tree

NOW = datetime(2026, 2, 19, 12, tzinfo=UTC)


def job(name: str, reads: list[str], writes: list[str], state: str = "RUNNING", quiet_min: int = 0) -> dict[str, Any]:
    """A job as the service describes it."""
    run = {
        "state": state,
        "updatedAt": (NOW - timedelta(minutes=quiet_min)).isoformat(),
        "facets": {"errorMessage": {"message": "no disk\nat x"}} if state == "FAILED" else {},
        "outputDatasetVersions": [{"facets": {"outputStatistics": {"rowCount": 3}}} for _ in writes],
    }
    named = [[{"namespace": "kafka://k", "name": each} for each in of] for of in (reads, writes)]
    return {"namespace": "placar", "name": name, "inputs": named[0], "outputs": named[1], "latestRun": run}


def printed(*jobs: dict[str, Any]) -> list[str]:
    """The tree's lines without colours."""
    out = io.StringIO()
    Console(file=out, width=120, no_color=True).print(tree(jobs, NOW))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_sources_come_first_and_each_branch_is_shown_once() -> None:
    """Two sources meet in one topic, whose readers are below the first; a cycle ends; a failure has its reason."""
    lines = printed(
        job("cdc", ["postgres"], ["unified"]),
        job("files", ["bucket"], ["unified"], "FAILED"),
        job("sink", ["unified", "dlq"], ["table", "dlq"], quiet_min=7),
    )
    assert lines == [
        "bucket  kafka://k",
        "└── ▶ files  FAILED, 3 rows in its newest event, no disk",
        "    └── unified  kafka://k",
        "        └── ▶ sink  RUNNING, silent for 7 min, 6 rows in its newest event",
        "            ├── dlq  kafka://k",
        "            │   └── ▶ sink  (above)",
        "            └── table  kafka://k",
        "postgres  kafka://k",
        "└── ▶ cdc  RUNNING, 3 rows in its newest event",
        "    └── unified  kafka://k  (above)",
    ]


def test_a_job_that_reads_nothing_is_above_its_readers() -> None:
    """What it writes is no source, so the job is shown itself; a cycle without a source is shown all the same."""
    lines = printed(job("a", ["made"], []), job("maker", [], ["made"]), job("round", ["circle"], ["circle"]))
    assert lines == [
        "▶ maker  RUNNING, 3 rows in its newest event",
        "└── made  kafka://k",
        "    └── ▶ a  RUNNING",
        "▶ round  RUNNING, 3 rows in its newest event",
        "└── circle  kafka://k",
        "    └── ▶ round  (above)",
    ]


def test_an_unavailable_service_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the address and the settings that decide it."""
    port = free_port()
    monkeypatch.setenv("MARQUEZ_PORT", str(port))
    assert main(["lineage"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"http://127.0.0.1:{port} (settings LINEAGE_URL, MARQUEZ_PORT)" in line
