"""Positions in `ingestion.progress`."""

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import progress
from contracts.catalogue import catalogue
from contracts.codec import encode_body, parse

SCHEMA = parse(catalogue()[progress.TOPIC].avro)
positions = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=4)


@given(cursor=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), position=positions)
def test_a_position_is_read_as_it_was_written(cursor: str, position: dict[str, object]) -> None:
    """Unit, cursor and position come back from the record; its key names unit and cursor."""
    record = progress.record(lambda value: encode_body(1, SCHEMA, value), "file_poller", cursor, position)
    assert (record.topic, record.key) == ("ingestion.progress", f"file_poller/{cursor}".encode())
    value = fastavro.schemaless_reader(io.BytesIO((record.value or b"")[5:]), SCHEMA, SCHEMA)
    assert isinstance(value, dict)
    assert (value["unit"], value["cursor"]) == ("file_poller", cursor)
    assert progress.newest(str(value["position"])) == position


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "7"])
def test_what_is_no_json_object_is_no_position(text: str) -> None:
    """A position that cannot be read counts as none."""
    assert progress.newest(text) is None
