"""The start script of a TaskManager ends what a killed one left behind, and nothing else."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "deploy" / "flink" / "taskmanager.sh"


def test_a_new_taskmanager_ends_the_workers_of_its_killed_predecessor_only(tmp_path: Path) -> None:
    """The worker of the same name in the same runtime is gone; one of another name or another runtime lives."""
    flink = tmp_path / "bin" / "taskmanager.sh"
    flink.parent.mkdir()
    flink.write_text('#!/bin/sh\necho "$PLACAR_TASKMANAGER $*"\n')
    flink.chmod(0o755)
    runtime = str(tmp_path)

    def worker(name: str, of: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"], env={**os.environ, "PLACAR_TASKMANAGER": name, "PLACAR_RUNTIME": of})

    left, other_name, other_runtime = (
        worker("taskmanager1", runtime),
        worker("taskmanager2", runtime),
        worker("taskmanager1", f"{runtime}-2"),
    )
    try:
        run = subprocess.run(
            [SCRIPT, "taskmanager1", "-Dx=1"],
            env={**os.environ, "FLINK_HOME": runtime, "PLACAR_RUNTIME": runtime},
            capture_output=True,
            text=True,
            check=True,
        )

        assert run.stdout == "taskmanager1 start-foreground -Dtaskmanager.resource-id=taskmanager1 -Dx=1\n"
        assert left.wait(timeout=5) != 0
        assert other_name.poll() is None
        assert other_runtime.poll() is None
    finally:
        for each in (left, other_name, other_runtime):
            each.kill()
            each.wait()
