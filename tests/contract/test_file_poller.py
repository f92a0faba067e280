"""Every invalid object of `sales.files` through the parts of file_poller that judge it."""

from collections.abc import Mapping
from typing import Any

import pytest

from chassis.results import Rejected
from contracts.catalogue import catalogue
from contracts.reasons import REASONS
from services.file_poller.splitter import Splitter
from services.file_poller.transform import parse, rejected_header, rejected_start
from tests import invalid

OBJECTS = {name: case for name, case in catalogue()["sales.files"].examples("invalid").items() if "object" in case}


def judged(content: bytes, chunk: int) -> tuple[list[Rejected], int]:
    """The rejections that an object read in chunks of this size gets, and how many of its rows are good."""
    if (rejection := rejected_start(content)) is not None:
        return [rejection], 0
    splitter = Splitter()
    records = [raw for at in range(0, len(content), chunk) for raw in splitter.feed(content[at : at + chunk])]
    records += splitter.finish()
    if (rejection := rejected_header(records[0] if records else None)) is not None:
        return [rejection], 0
    rows = [parse(raw) for raw in records[1:]]
    return [row for row in rows if isinstance(row, Rejected)], sum(not isinstance(row, Rejected) for row in rows)


@pytest.mark.parametrize("chunk", [97, 65536])
@pytest.mark.parametrize(("name", "case"), list(OBJECTS.items()), ids=list(OBJECTS))
def test_invalid_objects(name: str, case: Mapping[str, Any], chunk: int) -> None:
    """Each invalid object or row is one dead letter with its reason, and the rest of the file is counted."""
    rejections, rows = judged(invalid.content(case), chunk)
    assert [rejection.reason for rejection in rejections] == [case["reason"]], name
    assert case["reason"] in REASONS
    assert rows == case["rows"]
