"""Real servers for the tests of capture, apart from the others': they change the table, and what the registry holds."""

from collections.abc import Iterator, Mapping

import pytest

from tests.connected.conftest import ENVIRONMENT, STARTED
from tests.runtime import start_runtime


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables under which a process finds the servers, Kafka Connect among them."""
    with start_runtime(tmp_path_factory.mktemp("capture"), (*STARTED, "connect"), ENVIRONMENT) as runtime:
        yield runtime.env
