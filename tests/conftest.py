"""What all tests share: the marker of a test is its directory; Hypothesis explores the same examples everywhere."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent
STARTED = time.time()
SCREENSHOTS = ROOT.parent / "artifacts" / "page"

settings.register_profile(
    "placar", deadline=None, derandomize=True, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("placar")


# The first test of a directory also pays for the start of its servers.
TIMEOUTS_S = {"connected": 300}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the screenshots of the page are, where this run has made some."""
    if any(path.stat().st_mtime >= STARTED for path in SCREENSHOTS.glob("*.png")):
        terminalreporter.write_line(f"screenshots of the page: {SCREENSHOTS}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its directory under tests/, and give it the time that the directory needs."""
    for item in items:
        if ROOT in item.path.parents:
            directory = item.path.relative_to(ROOT).parts[0]
            item.add_marker(directory)
            if directory in TIMEOUTS_S and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUTS_S[directory]))


@pytest.fixture(autouse=True)
def _own_hooks() -> Iterator[None]:
    """What a unit's logging installs in the process ends with the test; pytest's own hooks see the errors after it."""
    root, thread, unraisable = logging.getLogger(), threading.excepthook, sys.unraisablehook
    handlers, level = root.handlers[:], root.level
    yield
    threading.excepthook, sys.unraisablehook = thread, unraisable
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
