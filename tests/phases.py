"""`task test`: every check in order, each phase with its time, one closing line that counts all tests."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

PYTHON = sys.executable
BIN = Path(PYTHON).parent
FLINK_PYTHON = Path(os.environ.get("PLACAR_HOME", ".placar")) / "flink-venv" / "bin" / "python"
"""Of the ranking job's own environment, whose PyFlink the job is checked against."""

OPTIONS = {"connected": ("--numprocesses", "2")}
"""Of the folders that need some: the connected tests run in the two groups that their conftest makes."""
SLOWEST = ("--durations", "20", "--durations-min", "5")
"""Each phase ends with its slowest tests."""


@dataclass(frozen=True)
class Phase:
    """One check: its name, its command, whether it is a pytest run whose tests count, and a program it needs."""

    name: str
    command: tuple[str, ...]
    counts: bool = False
    needs: Path = BIN


def pytest_phase(folder: str) -> Phase:
    """A folder of tests as a phase."""
    return Phase(folder, (PYTHON, "-m", "pytest", f"tests/{folder}", *SLOWEST, *OPTIONS.get(folder, ())), counts=True)


PHASES = (
    Phase("ruff check", (str(BIN / "ruff"), "check")),
    Phase("ruff format", (str(BIN / "ruff"), "format", "--check")),
    Phase("mypy --strict", (str(BIN / "mypy"),)),
    Phase(
        "mypy --strict (flink)",
        (str(BIN / "mypy"), "--config-file", "flink/pyproject.toml", "--python-executable", str(FLINK_PYTHON)),
        needs=FLINK_PYTHON,
    ),
    Phase("import-linter", (str(BIN / "lint-imports"),)),
    *(pytest_phase(folder) for folder in ("unit", "contract", "connected", "e2e", "chaos")),
)


@dataclass(frozen=True)
class Result:
    """How a phase ended: seconds, and for pytest phases the counts from its report."""

    name: str
    ok: bool
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def run(phase: Phase, folder: Path) -> Result:
    """Run one phase with its output on the terminal."""
    print(f"\n=== {phase.name} ===", flush=True)
    if not phase.needs.exists():
        print(f"{phase.needs} is missing: ./taskw lint installs it")
        return Result(phase.name, ok=False, seconds=0)
    report = folder / f"{phase.name}.xml"
    extra = (f"--junitxml={report}",) if phase.counts else ()
    begun = time.monotonic()
    code = subprocess.run((*phase.command, *extra), check=False).returncode
    seconds = time.monotonic() - begun
    if not report.exists():
        return Result(phase.name, code == 0, seconds, failed=int(phase.counts))
    suite = ET.parse(report).getroot()[0].attrib  # noqa: S314 - our own pytest wrote it a moment ago
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return Result(phase.name, code == 0, seconds, int(suite["tests"]) - failed - skipped, failed, skipped)


def main(names: list[str]) -> int:
    """Run the named phases, or all; returns the exit status."""
    unknown = set(names) - {phase.name for phase in PHASES}
    if unknown:
        print(f"unknown phase: {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in PHASES)}")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        results = [run(phase, Path(folder)) for phase in PHASES if not names or phase.name in names]
    print("\n=== phases ===")
    for result in results:
        print(f"{result.name:<22} {'ok' if result.ok else 'FAILED':<7} {result.seconds:7.1f} s")
    print(f"{'all':<22} {'':<7} {sum(result.seconds for result in results):7.1f} s")
    counts = [sum(getattr(result, name) for result in results) for name in ("passed", "failed", "skipped")]
    print("{} passed, {} failed, {} skipped".format(*counts))
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
