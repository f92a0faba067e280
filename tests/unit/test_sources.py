"""A source of sales is known wherever sources are named."""

from typing import get_args

import pytest

from contracts.catalogue import catalogue
from contracts.sale import SourceName
from deploy.native.processes import UNITS
from deploy.native.settings import ROOT
from tools.options import Source
from tools.raw_sales import RAW

STREAMS = sorted(name for name, (module, _) in UNITS.items() if module.startswith("streams."))


def test_the_commands_know_every_source() -> None:
    """`trace` and `ledger` take each source, and read its raw topic."""
    names = set(get_args(SourceName))
    assert {source.value for source in Source} == names, "Source in tools/options.py"
    assert set(RAW) == names, "RAW in tools/raw_sales.py"


@pytest.mark.parametrize("topic", ["sales.unified", "sales.dlq"])
def test_the_streams_services_are_producers(topic: str) -> None:
    """Each streams service is named among the producers of what it publishes."""
    missing = set(STREAMS) - set(catalogue()[topic].producers)
    assert not missing, f"add {', '.join(missing)} to producers in contracts/topics/{topic}/topic.yaml"


@pytest.mark.parametrize("file", ["recording.yml", "alerts.yml"])
def test_the_alerts_count_every_streams_service(file: str) -> None:
    """Each rule that names streams services names all of them."""
    text = (ROOT / "deploy" / "prometheus" / file).read_text("utf-8")
    named = [line for line in text.splitlines() if 'unit=~"cdc|' in line]
    assert named
    for line in named:
        left_out = [name for name in STREAMS if name not in line]
        assert not left_out, f"add {', '.join(left_out)} to deploy/prometheus/{file}: {line.strip()}"
