"""The hooks of .pre-commit-config.yaml: valid, and the checks of `task lint` with the project's own tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.phases import PHASES

ROOT = Path(__file__).parents[2]
RUN = ".ci/venv-run "
BIN = Path(sys.executable).parent
CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
HOOKS = [hook for repository in CONFIG["repos"] for hook in repository["hooks"]]


def test_the_configuration_is_valid() -> None:
    """pre-commit itself accepts it."""
    run = subprocess.run(
        [str(BIN / "pre-commit"), "validate-config"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_every_hook_runs_a_tool_of_the_projects_environment() -> None:
    """Nothing is fetched: each entry is a program of the environment that the lock describes."""
    assert {repository["repo"] for repository in CONFIG["repos"]} == {"local"}
    assert [hook["id"] for hook in HOOKS if not hook["entry"].startswith(RUN)] == []
    assert [hook["id"] for hook in HOOKS if shutil.which(hook["entry"].split()[1], path=str(BIN)) is None] == []


def test_the_hooks_check_what_lint_checks() -> None:
    """What `task lint` would reject is rejected before it is committed."""
    hooked = {hook["name"] for hook in HOOKS}
    assert {phase.name for phase in PHASES if not phase.counts} <= hooked


def test_a_tool_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """Before the environment is there a hook says how to get it."""
    run = subprocess.run(
        [str(ROOT / ".ci" / "venv-run"), "ruff", "check"],
        env={**os.environ, "PLACAR_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, f"{tmp_path}/venv/bin/ruff is missing: run ./taskw build\n")
