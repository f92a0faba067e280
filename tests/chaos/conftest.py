"""Options of the chaos tests, and the table of kills at the end of the run."""

from pathlib import Path

import pytest

from tests.chaos.kills import BOUNDS_S, PATIENCE, Kill, table

KILLS = pytest.StashKey[list[Kill]]()
BOOT_AND_SETTLE_S = 1200  # of the whole runtime, on a machine that others use too


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many kills, and which."""
    group = parser.getgroup("chaos")
    group.addoption("--kills", type=int, default=4, metavar="N", help="kills in a row (4: each kind once)")
    group.addoption("--seed", type=int, default=7, metavar="N", help="decides the kills and the sales")


def pytest_configure(config: pytest.Config) -> None:
    """An empty table."""
    config.stash[KILLS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test of this folder the time that its waits may take together."""
    limit = BOOT_AND_SETTLE_S + 2 * PATIENCE * max(BOUNDS_S.values()) * config.getoption("--kills")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(limit))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print each kill with its times, also when a test failed."""
    kills = config.stash[KILLS]
    if kills:
        terminalreporter.section(f"kills, seed {config.getoption('--seed')}")
        for line in table(kills):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kills(pytestconfig: pytest.Config) -> list[Kill]:
    """Every kill of this run; a test adds its own."""
    return pytestconfig.stash[KILLS]


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """What decides the kills and the sales."""
    return int(pytestconfig.getoption("--seed"))


@pytest.fixture(scope="session")
def count(pytestconfig: pytest.Config) -> int:
    """How many kills in a row."""
    return int(pytestconfig.getoption("--kills"))
