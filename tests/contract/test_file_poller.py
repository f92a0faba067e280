"""Every invalid object of `sales.files` through the parts of file_poller that judge it."""

from collections.abc import Mapping
from typing import Any

import pytest

from chassis.dead_letters import Refusal
from contracts.catalogue import catalogue
from contracts.reasons import REASONS
from services.file_poller.splitter import Splitter
from services.file_poller.transform import parse, refused_header, refused_start
from tests import invalid

OBJECTS = {name: case for name, case in catalogue()["sales.files"].examples("invalid").items() if "object" in case}


def judged(content: bytes, chunk: int) -> tuple[list[Refusal], int]:
    """The refusals that an object read in chunks of this size gets, and how many of its rows are good."""
    if (refusal := refused_start(content)) is not None:
        return [refusal], 0
    splitter = Splitter()
    records = [raw for at in range(0, len(content), chunk) for raw in splitter.feed(content[at : at + chunk])]
    records += splitter.finish()
    if (refusal := refused_header(records[0] if records else None)) is not None:
        return [refusal], 0
    rows = [parse(raw) for raw in records[1:]]
    return [row for row in rows if isinstance(row, Refusal)], sum(not isinstance(row, Refusal) for row in rows)


@pytest.mark.parametrize("chunk", [97, 65536])
@pytest.mark.parametrize(("name", "case"), list(OBJECTS.items()), ids=list(OBJECTS))
def test_invalid_objects(name: str, case: Mapping[str, Any], chunk: int) -> None:
    """Each invalid object or row is one dead letter with its reason, and the rest of the file is counted."""
    refusals, rows = judged(invalid.content(case), chunk)
    assert [refusal.reason for refusal in refusals] == [case["reason"]], name
    assert case["reason"] in REASONS
    assert rows == case["rows"]
