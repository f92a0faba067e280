"""Starts a separate native runtime for tests: free ports, its own state folder, the installed software shared."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.native.ports import free_ports

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Runtime:
    """A runtime in `state_dir`; `env` is the environment of its processes and clients.

    `root` is the source tree that it runs: this one, or a copy that a test has changed.
    """

    state_dir: Path
    env: Mapping[str, str]
    root: Path = ROOT

    def command(self, *arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `python -m deploy.native ARGUMENTS` to its end, with what it prints on either stream in `stdout`."""
        return subprocess.run(
            [sys.executable, "-m", "deploy.native", *arguments],
            cwd=self.root,
            env=dict(self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def up(self, *only: str) -> str:
        """Start everything, or `only` these and what they need; returns what it printed."""
        run = self.command("up", *(("--only", ",".join(only)) if only else ()))
        assert run.returncode == 0, run.stdout
        return run.stdout


def new_runtime(state_dir: Path, extra_env: Mapping[str, str] | None = None, root: Path = ROOT) -> Runtime:
    """A runtime that is not started, on ports that are free now."""
    # a shared machine may be many times slower than one's own
    patience = {"PLACAR_READY_TIMEOUT_S": "400"}
    env = {**os.environ, **free_ports(), **patience, "PLACAR_STATE": str(state_dir), **(extra_env or {})}
    return Runtime(state_dir, env, root)


@contextmanager
def start_runtime(
    state_dir: Path, only: Sequence[str] = (), extra_env: Mapping[str, str] | None = None, root: Path = ROOT
) -> Iterator[Runtime]:
    """A started runtime; stopped at the end, whatever happens, with its data removed."""
    runtime = new_runtime(state_dir, extra_env, root)
    try:
        runtime.up(*only)
        yield runtime
    finally:
        ended = runtime.command("clean")
    assert ended.returncode == 0, ended.stdout
